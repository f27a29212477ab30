"""Trajectory optimisation: the problem as data, a banded Newton solver, its bank of plans."""
