"""Motions of a simulated rig for tests, without the fits around them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from calibration import procedures
from calibration.guide import Guide
from calibration.procedures import Move
from calibration.recording import Recording
from calibration.simulated import SimulatedBench, pinned
from cartpole.config.load import load_config
from cartpole.config.schema import Config

TRUE_POLE = ["sim.length_m=0.42", "sim.damping_1_s=0.09", "sim.coulomb_rad_s2=0.2"]


def recorded(config: Config, seed: int, *moves: Move) -> Recording:
    """The rig settled and led through these moves."""
    guide = Guide(config, SimulatedBench(config, seed))
    guide.settle(may_move=True)
    guide.begin()
    for move in moves:
        guide.follow(move)
    guide.end()
    return guide.recording()


def pushed_back(config: Config, recording: Recording, share: float) -> Recording:
    """The same commands to a drive at which the pole pulls: m / (m + M) is ``share``."""
    motion, commands = recording.motion, recording.commands
    assert motion is not None
    assert commands is not None
    pole, motor, step_s = config.pole, config.motor, 1e-3
    coupling, centre = 1.5 / pole.length_m, 0.5 * pole.length_m
    times = np.arange(0.0, motion.t_s[-1] + step_s, step_s)
    told = np.searchsorted(commands.t_s + motor.delay_s, times, side="right") - 1
    wanted = np.where(told >= 0, commands.velocity_m_s[told], 0.0).tolist()
    shakes = np.random.default_rng(0).normal(0.0, 0.02 * math.sqrt(step_s), len(times)).tolist()
    p = v = theta = omega = 0.0
    path = []
    for u, shake in zip(wanted, shakes, strict=True):
        path.append((p, theta))
        drive = min(max((u - v) / motor.tau_s, -motor.acceleration_m_s2), motor.acceleration_m_s2)
        sine, cosine = math.sin(theta), math.cos(theta)
        weight = share * centre
        alpha = -coupling * (9.81 * sine + (drive + weight * omega**2 * sine) * cosine)
        alpha = (alpha - pole.damping_1_s * omega) / (1.0 - coupling * weight * cosine**2)
        vdot = drive - weight * (alpha * cosine - omega**2 * sine)
        v, omega = v + step_s * vdot + shake, omega + step_s * alpha
        p, theta = p + step_s * v, theta + step_s * omega
    cart, angle = (np.interp(motion.t_s, times, column) for column in np.array(path).T)
    p_step, step = motion.p_step_m, motion.theta_step_rad
    seen = np.floor(cart / p_step) * p_step, np.floor(angle / step) * step
    return replace(recording, motion=replace(motion, p_m=seen[0], theta_rad=seen[1]))


def a_swing_then_rest() -> tuple[Config, Recording]:
    """A rig with this pole and 13.6 s of its swing while the cart stands."""
    config = pinned(load_config(None, TRUE_POLE))
    recording = recorded(config, 3, procedures.swing_then_rest(config, 1.94, 14.0)).at_rest()
    assert recording.motion is not None
    assert abs(recording.motion.t_s[-1] - recording.motion.t_s[0] - 13.6) < 0.2
    return config, recording
