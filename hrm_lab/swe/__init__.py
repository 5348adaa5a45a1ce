"""Software engineering: repair of real code, verified by running its tests."""
