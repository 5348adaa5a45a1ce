"""hrm_lab: train hierarchical reasoning models, then judge them honestly."""

__version__ = "0.1.0"
