"""Motions of a simulated rig for tests, without the fits around them."""

from __future__ import annotations

from calibration.guide import Guide
from calibration.procedures import Move
from calibration.recording import Recording
from calibration.simulated import SimulatedBench
from cartpole.config.schema import Config


def recorded(config: Config, seed: int, *moves: Move) -> Recording:
    """The rig settled and led through these moves."""
    guide = Guide(config, SimulatedBench(config, seed))
    guide.settle(may_move=True)
    guide.begin()
    for move in moves:
        guide.follow(move)
    guide.end()
    return guide.recording()
