"""What a camera alone can know: the floor under its errors, and what a picture's own rate is worth.

``streams``: the event streams of ``estimation.py`` without encoders, asked at the ticks; the floor
is the filter's own covariance, whose noise is that of the streams, for pictures without noise, at
the Cramér-Rao bound of a good picture (.073 mrad), with a tracker's noise and with that of the
measured pictures. ``rate``: the steady state of a Kalman filter of the upright rig, without and
with the rate that a rolling shutter shows, over all ages of the newest frame.

    python benchmarks/camera_alone.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import fresh_kernels  # noqa: F401  before numba is imported
import numpy as np
from oracles.streams import CommandSent, Motion, Sensors, make_stream
from scipy.linalg import expm

from cartpole.config.schema import Config
from cartpole.estimation.filter import StateFilter
from cartpole.messages import NANOSECONDS, OMEGA, THETA, Detection, FloatArray
from cartpole.rules.estimation import filter_rules

CAMERAS = {"150 fps": (150.0, (0.19, 0.14)), "30 fps": (30.0, (0.03, 0.022))}  # rates [rad/s] told
SIGMAS_RAD = (1e-6, 0.073e-3, 0.165e-3, 1.5e-3)
LATE_S, PLACE_M = 0.012, 0.4  # metres of position noise for a radian of the angle's
SECONDS, SEEDS, AGES = 6.0, 2, 21


def streams(hz: float, sigma_rad: float) -> dict[str, float]:
    """RMS errors seen and the floor under them, swing and upright together."""
    noise = Config().estimator.model_copy(
        update=dict.fromkeys(("camera_sigma_rad", "camera_sigma_m", "offset_sigma_rad"), 1e-7)
        | {"offset_noise_rad": 1e-7}
    )
    encoder = Config().encoder.model_copy(update={"protocol": "none"})
    config = Config(estimator=noise, encoder=encoder)
    sensors = Sensors(camera_hz=hz, camera_sigma_rad=sigma_rad, camera_outliers=0.0,
                      camera_sigma_m=max(1e-6, PLACE_M * sigma_rad), encoder_hz=0.0)  # fmt: skip
    seen, floor = [], []
    motions: tuple[Motion, Motion] = ("swing", "upright")
    for motion in motions:
        for seed in range(SEEDS):
            stream = make_stream(config, motion, SECONDS, seed, sensors)
            state = StateFilter(filter_rules(config))
            for now_ns, event in stream.arrivals:
                if isinstance(event, Detection):
                    state.add_camera(event)
                elif isinstance(event, CommandSent):
                    state.add_command(event.t_ns, event.velocity_m_s)
                    if now_ns - stream.start_ns > NANOSECONDS:
                        told = state.estimate(now_ns)
                        off = np.subtract(told.state, stream.state_at(now_ns))
                        off[THETA] = math.remainder(off[THETA], math.tau)
                        seen.append(np.square(off))
                        floor.append(np.square(told.sigma))
    error, least = np.sqrt(np.mean(seen, axis=0)), np.sqrt(np.mean(floor, axis=0))
    return {
        "theta_mrad_rms": 1e3 * float(error[THETA]), "omega_rms": float(error[OMEGA]),
        "theta_mrad_floor": 1e3 * float(least[THETA]), "omega_floor": float(least[OMEGA]),
    }  # fmt: skip


def _step(seconds: float) -> tuple[FloatArray, FloatArray]:
    """Transition and noise of the upright rig, (p, v, theta, omega), after so long (Van Loan)."""
    config = Config()
    c, tau = 1.5 / config.pole.length_m, config.motor.tau_s
    a = np.zeros((4, 4))
    a[0, 1], a[1, 1], a[2, 3] = 1.0, -1.0 / tau, 1.0
    a[3] = 0.0, -c / tau, c * 9.81, -config.pole.damping_1_s
    kick = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [c, 1.0]])
    power = np.diag([config.sim.cart_disturbance**2, config.sim.pole_disturbance**2])
    both = np.block([[-a, kick @ power @ kick.T], [np.zeros((4, 4)), a.T]])
    grown = expm(both * seconds)
    step = grown[4:, 4:].T
    return step, step @ grown[:4, 4:]


def rate(hz: float, sigma_rad: float, rate_sigma: float | None) -> dict[str, float]:
    """Deviation of angle [mrad] and rate [rad/s] over all ages of the newest frame."""
    rows = [(THETA, sigma_rad), (0, max(PLACE_M * sigma_rad, 5e-5))]
    if rate_sigma is not None:
        rows.append((OMEGA, rate_sigma))
    seen = np.eye(4)[[place for place, _ in rows]]
    noise = np.diag([sigma**2 for _, sigma in rows])
    (step, spread), cov = _step(1.0 / hz), 0.01 * np.eye(4)
    for _ in range(3000):
        cov = step @ cov @ step.T + spread
        gain = cov @ seen.T @ np.linalg.inv(seen @ cov @ seen.T + noise)
        cov = cov - gain @ seen @ cov
    aged = [_step(age) for age in np.linspace(LATE_S, LATE_S + 1.0 / hz, AGES)]
    mean = np.mean([np.diag(f @ cov @ f.T + q) for f, q in aged], axis=0)
    return {"theta_mrad": 1e3 * float(mean[THETA] ** 0.5), "omega": float(mean[OMEGA] ** 0.5)}


def main() -> None:
    """Compute, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for name, (hz, rates) in CAMERAS.items():
        for sigma in SIGMAS_RAD:
            row: dict[str, Any] = {"streams": streams(hz, sigma)}
            row["rate"] = {str(told): rate(hz, sigma, told) for told in (None, *rates)}
            result[f"{name}, {1e3 * sigma:.3f} mrad"] = row
            flown = row["streams"]
            worth = "  ".join(
                f"rate to {told}: {one['theta_mrad']:.3f} {one['omega']:.4f}"
                for told, one in row["rate"].items()
            )
            print(
                f"{name:8}{1e3 * sigma:6.3f} mrad  seen {flown['theta_mrad_rms']:.3f} mrad "
                f"{flown['omega_rms']:.4f} rad/s  floor {flown['theta_mrad_floor']:.3f} "
                f"{flown['omega_floor']:.4f}  upright {worth}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
