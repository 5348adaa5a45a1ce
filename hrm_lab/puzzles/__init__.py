"""Puzzles: one dataset format (the official HRM/TRM layout), generators, symmetries and audits."""
