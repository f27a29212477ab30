"""What a table cannot mean is refused, with the reading by which it would fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calibration.pole_report import calibrate_pole
from calibration.recording import evened
from calibration.result import CalibrationResult
from calibration.tables import load_table
from cartpole.errors import CartpoleError, IdentificationError
from cartpole.messages import FloatArray
from cartpole.session.columns import parse_mapping

LENGTH_M, DAMPING_1_S = 0.4, 0.08
Columns = tuple[FloatArray, FloatArray, FloatArray]


def swung(seed: int, seconds: float = 5.0) -> Columns:
    """A pole over a cart that is driven to and fro, at 50 Hz: t, p, theta with noise."""
    rng = np.random.default_rng(seed)
    step, c = 1e-3, 1.5 / LENGTH_M
    theta, omega, rows = 2.4 + 0.2 * rng.random(), 0.0, []
    for k in range(round(seconds / step)):
        t = k * step
        p = 0.1 * math.sin(3.1 * t) + 0.05 * math.sin(7.3 * t)
        push = -0.1 * 3.1**2 * math.sin(3.1 * t) - 0.05 * 7.3**2 * math.sin(7.3 * t)
        if k % 20 == 0:
            rows.append((t, p, theta))
        turn = -c * (9.81 * math.sin(theta) + push * math.cos(theta)) - DAMPING_1_S * omega
        omega += step * turn
        theta += step * omega
    time, place, angle = np.array(rows).T
    return time, place, angle + rng.normal(0.0, 1e-3, len(angle))


def written(path: Path, *runs: Columns, digits: int = 4) -> Path:
    lines = ["t_s,p_m,theta_rad"]
    for run in runs:
        lines += [f"{t:.{digits}f},{p:.6f},{a:.6f}" for t, p, a in zip(*run, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def told(path: Path) -> str:
    """Why nothing came out of a table."""
    try:
        result = calibrate_pole(load_table(path))
    except CartpoleError as error:
        return str(error)
    assert not result.estimates, result.estimates
    return next(iter(result.refused.values()))


def length(result: CalibrationResult) -> tuple[float, float]:
    one = result.estimates["pole.length_m"]
    return one.value, one.ci95[1] - one.value


def test_the_table_as_it_is_fits(tmp_path: Path) -> None:
    result = calibrate_pole(load_table(written(tmp_path / "t.csv", swung(0))))
    value, half = length(result)
    assert value == pytest.approx(LENGTH_M, abs=max(half, 0.002))
    assert half < 0.01
    assert "c = m d / J" in " ".join(result.notes)


SLIPS: dict[str, tuple[Callable[..., Columns], str]] = {
    "degrees": (lambda t, p, a: (t, p, np.degrees(a)), "angle=theta_rad:deg"),
    "gradians": (lambda t, p, a: (t, p, a * 200.0 / math.pi), "angle=theta_rad:grad"),
    "turns": (lambda t, p, a: (t, p, a / (2.0 * math.pi)), "angle=theta_rad:turns"),
    "millimetres": (lambda t, p, a: (t, 1e3 * p, a), "position=p_m:mm"),
    "centimetres": (lambda t, p, a: (t, 1e2 * p, a), "position=p_m:cm"),
    "milliseconds": (lambda t, p, a: (1e3 * t, p, a), "time=t_s:ms"),
    "sign": (lambda t, p, a: (t, -p, a), "with the sign of the"),
    "zero upright": (lambda t, p, a: (t, p, a - math.pi), "angle=theta_rad:zero-up"),
    "clock": (lambda t, p, a: (1.5 * t, p, a), "clock that runs 1.5 times too fast"),
}


@pytest.mark.parametrize("name", list(SLIPS))
def test_a_slip_is_named_with_its_remedy(tmp_path: Path, name: str) -> None:
    change, remedy = SLIPS[name]
    why = told(written(tmp_path / "t.csv", change(*swung(1))))
    assert remedy in why
    assert "\n" not in why
    if name in ("degrees", "gradians", "turns"):
        assert f"angles in {name} instead of radians" in why


def test_a_clock_that_looks_like_a_scale_leaves_no_length_and_both_mappings(
    tmp_path: Path,
) -> None:
    t, p, a = swung(1)
    path = written(tmp_path / "t.csv", (1.05 * t, p, a))
    result = calibrate_pole(load_table(path))
    assert "pole.length_m" not in result.estimates
    why = result.refused["pole.length_m"]
    assert why.count("--map ") == 2
    mend = why.split("or times")[1].split("--map ")[1].split(")")[0]
    value, half = length(calibrate_pole(load_table(path, parse_mapping(mend))))
    assert value == pytest.approx(LENGTH_M, abs=max(half, 0.004))


def test_a_clock_a_little_fast_is_told_beside_the_scale_that_looks_the_same(
    tmp_path: Path,
) -> None:
    t, p, a = swung(1)
    result = calibrate_pole(load_table(written(tmp_path / "t.csv", (1.02 * t, p, a))))
    (said,) = [note for note in result.notes if "were it the clock" in note]
    clock, rest = said.split("times would be ")[1].split(" times too large and the length ")
    assert float(clock) == pytest.approx(1.02, abs=0.01)
    assert float(rest.split(" m")[0]) == pytest.approx(LENGTH_M, rel=0.01)
    right = calibrate_pole(load_table(written(tmp_path / "u.csv", (t, p, a))))
    assert not any("were it the clock" in note for note in right.notes)


def test_other_counts_leave_the_length_right(tmp_path: Path) -> None:
    t, p, a = swung(2)
    result = calibrate_pole(load_table(written(tmp_path / "t.csv", (t, p, 2.0 * a))))
    value, half = length(result)
    assert value == pytest.approx(LENGTH_M, abs=max(half, 0.004))
    assert "another encoder" in result.refused["pole.coulomb_rad_s2"]


def test_a_swing_like_a_spring_has_angles_far_too_large_and_its_length(tmp_path: Path) -> None:
    """Far swings that take no longer than small ones: they are small, only how small is open."""
    t = 0.02 * np.arange(500)
    p, theta = 0.01 * np.sin(0.39 * t), 1.3 * np.exp(-0.02 * t) * np.cos(6.0 * t)
    path = tmp_path / "t.csv"
    rows = [f"{a:.4f},{b:.5f},{c:.5f}" for a, b, c in zip(t, p, theta, strict=True)]
    path.write_text("\ufefft_s,p_m,theta_rad\n" + "\n".join(rows) + "\n", "utf-8")
    result = calibrate_pole(load_table(path))
    value, half = length(result)
    assert value == pytest.approx(1.5 * 9.81 / 6.0**2, abs=half)
    assert half < 0.01
    assert "±" in result.notes[0]
    assert "times too large" in result.refused["pole.coulomb_rad_s2"]


def test_two_runs_are_one_fit_and_never_sorted_together(tmp_path: Path) -> None:
    recording = load_table(written(tmp_path / "t.csv", swung(3), swung(4)))
    assert recording.motion is not None
    assert len(recording.motion.begins) == 2
    both, half = length(calibrate_pole(recording))
    _, alone = length(calibrate_pole(load_table(written(tmp_path / "one.csv", swung(3)))))
    assert both == pytest.approx(LENGTH_M, abs=max(half, 0.002))
    assert half <= alone


def test_times_written_coarsely_are_evened_out_or_widen_the_interval(tmp_path: Path) -> None:
    result = calibrate_pole(load_table(written(tmp_path / "t", swung(5), digits=1)))
    if result.estimates:  # refused, or right
        value, half = length(result)
        assert value == pytest.approx(LENGTH_M, abs=half)
    exact = np.arange(0.0, 3.0, 0.02)
    assert evened(exact)[1] == 0.0
    even, sigma = evened(np.round(exact + 0.0037, 1))
    assert np.std(even - exact) < 0.01
    assert sigma < 0.02


def test_no_pole_at_all_ends_soon(tmp_path: Path) -> None:
    t, p, a = swung(6)
    walk = np.cumsum(np.random.default_rng(0).normal(0.0, 0.3, len(a)))
    with pytest.raises(IdentificationError, match="random pushes"):
        calibrate_pole(load_table(written(tmp_path / "t.csv", (t, p, walk))))


def test_a_sensor_that_reads_too_far_is_written_and_undone(tmp_path: Path) -> None:
    from cartpole.control.observer import rescaled

    t, p, a = swung(7)
    up = 2.0 * math.pi * np.floor(a / (2.0 * math.pi)) + math.pi
    read = up + 1.04 * (a - up)  # right upright, four percent too far elsewhere
    path = tmp_path / "t.csv"
    rows = zip(t, p, read - math.pi, strict=True)
    lines = ["time,position,angle", *(f"{x:.4f},{y:.6f},{z:.6f}" for x, y, z in rows)]
    path.write_text("\n".join(lines) + "\n")
    result = calibrate_pole(load_table(path))
    scale = result.settings()["encoder.pole_scale"]
    assert scale == pytest.approx(1.04, abs=0.003)
    assert "encoder.pole_skew_s" in result.settings()
    undone = np.array([rescaled(one, scale) for one in read.tolist()])
    # But for the dead zone itself, where two angles read the same.
    assert np.quantile(np.abs(undone - a), 0.97) < 0.002
    assert np.quantile(np.abs(read - a), 0.97) > 0.1
