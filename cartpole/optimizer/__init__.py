"""Trajectory optimisation: the problem as data, a banded Newton interior-point solver, its plans."""
