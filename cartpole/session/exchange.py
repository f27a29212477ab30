"""Recordings of other rigs in, tables out.

An imported table becomes an ordinary recording: its samples go through the controller, disarmed, as
encoder counts, so that everything that works on recordings works on it, replay included. The drive
is not modelled: what was commanded is unknown or means something else on another rig, so the
commands are zero and the filter gets a slow, very uncertain cart.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cartpole.errors import SessionError, UsageError
from cartpole.messages import NANOSECONDS, Detection, EncoderSample, HomingResult, TickInput
from cartpole.session.writer import SessionWriter

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import FloatArray
    from cartpole.session.reader import RecordedTick, Session
    from cartpole.session.resume import CoreFactory

FORMATS = ("plain", "physical_cartpole")
LARGEST_BYTES = 256 << 20
START_NS = NANOSECONDS
IMPORTED = "imported"

# What a foreign rig's settings become unless the user says otherwise.
PHYSICAL_CARTPOLE = {
    "rig.name": "physical cart-pole",
    "rig.track_length_m": 0.396,
    "rig.position_limit_m": 0.19,
    "pole.length_m": 0.395,
    "pole.damping_1_s": 0.02,
    "encoder.pole_counts_per_turn": 4096.0,
    "encoder.cart_counts_per_m": 11767.0,
    # Stamped by a busy host, an analogue angle sensor: with these the innovations are consistent.
    "estimator.encoder_jitter_s": 0.0015,
    "estimator.pole_noise_rad_s": 0.5,
}
UNKNOWN_DRIVE = {
    "motor.tau_s": 0.5,
    "motor.delay_s": 0.0,
    "estimator.cart_noise_m_s2": 5.0,
    "camera.source": "none",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A foreign recording in the signs used here: theta 0 hanging, unwrapped; all (n,)."""

    t_s: FloatArray
    p_m: FloatArray
    theta_rad: FloatArray


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether the estimator believes what it sees; 1 is perfect, for the angle's innovations."""

    samples: int
    nis_mean: float
    rejected: int
    duration_s: float


def read_table(path: Path, form: str) -> Table:
    """Read a CSV; raises SessionError naming the line, UsageError for an unknown format."""
    if form == "plain":
        t, p, theta = _read_columns(path, ("t_s", "p_m", "theta_rad"))
        return _checked(path, t, p, np.unwrap(theta))
    if form == "physical_cartpole":
        # The angle is zero upright and wrapped. Its sign fits ours as it stands: in all of their
        # recordings the pole's acceleration goes with +cos(angle) times the cart's.
        t, p, angle = _read_columns(path, ("time", "position", "angle"))
        return _checked(path, t, p, np.unwrap(angle) + math.pi)
    raise UsageError(f"--format {form}: one of {', '.join(FORMATS)}")


def _read_columns(path: Path, names: tuple[str, ...]) -> list[FloatArray]:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise SessionError(f"{path} is larger than {LARGEST_BYTES >> 20} MB")
        with path.open(newline="", encoding="utf-8") as file:
            rows = _rows(path, file.readlines(), names)
    except OSError as error:
        raise SessionError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SessionError(f"{path} is not a text file") from None
    if len(rows) < 2:
        raise SessionError(f"{path} has no rows")
    table = np.array(rows, dtype=np.float64)
    return [table[:, place] for place in range(len(names))]


def _rows(path: Path, lines: list[str], names: tuple[str, ...]) -> list[list[float]]:
    places: list[int] | None = None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            cells = next(csv.reader([line]))
            if places is None:
                places = [[cell.strip() for cell in cells].index(name) for name in names]
                continue
            row = [float(cells[place]) for place in places]
        except (ValueError, IndexError, csv.Error):
            wanted = ", ".join(names)
            raise SessionError(f"{path}:{number}: columns {wanted} with numbers expected") from None
        if not all(map(math.isfinite, row)):
            raise SessionError(f"{path}:{number}: a value is not finite")
        rows.append(row)
    return rows


def _checked(path: Path, t_s: FloatArray, p_m: FloatArray, theta_rad: FloatArray) -> Table:
    steps = np.diff(t_s)
    if np.any(steps <= 0):
        row = int(np.argmax(steps <= 0)) + 2
        raise SessionError(f"{path}: time does not grow at row {row} of the data")
    if t_s[-1] - t_s[0] > 7 * 86400 or np.abs(p_m).max() > 100 or np.abs(theta_rad).max() > 1e5:
        raise SessionError(f"{path}: seconds, metres and radians expected, these values are absurd")
    return Table(t_s - t_s[0], p_m, theta_rad)


def import_settings(form: str, config: Config | None) -> Config:
    """The settings an import runs with: the user's, or those known of the format; drive unknown."""
    from cartpole.config.load import with_values
    from cartpole.config.schema import Config

    values = {} if config is not None or form == "plain" else PHYSICAL_CARTPOLE
    return with_values(config or Config(), {**values, **UNKNOWN_DRIVE})


def import_table(
    table: Table,
    config: Config,
    output: Path,
    source: str,
    *,
    original: bytes = b"",
    make_core: CoreFactory | None = None,
) -> Consistency:
    """Write ``table`` as a recording and say how consistent the estimator found it."""
    from cartpole.session.provenance import provenance
    from cartpole.session.resume import controller

    homed = HomingResult(0.0, 0.0)
    core = (make_core or controller)(config, homed)
    encoder = config.encoder
    cart = np.round(table.p_m * encoder.cart_counts_per_m * encoder.cart_sign)
    turns = table.theta_rad / (2 * math.pi)
    pole = np.round(turns * encoder.pole_counts_per_turn * encoder.pole_sign)
    nis: list[float] = []
    rejected = 0
    origin = {**provenance(config), IMPORTED: source}
    attachments = {"source.csv": original} if original else {}
    with SessionWriter(output, config, origin, attachments=attachments, live=False) as writer:
        writer.put_start(homed)
        for t_s, cart_counts, pole_counts in zip(table.t_s, cart, pole, strict=True):
            now_ns = START_NS + round(t_s * NANOSECONDS)
            sample = EncoderSample(now_ns, now_ns, int(cart_counts), int(pole_counts))
            record = core.tick(TickInput(now_ns, (sample,)))
            writer.put_tick(record)
            if record.estimate is not None:
                nis.append(record.estimate.nis_encoder)
                rejected = record.estimate.rejected
    settled = nis[min(20, len(nis) // 2) :]
    mean = sum(settled) / len(settled) if settled else math.nan
    return Consistency(len(table.t_s), mean, rejected, float(table.t_s[-1]))


COLUMNS = (
    "t_s",
    "mode",
    "p_m",
    "v_m_s",
    "theta_rad",
    "omega_rad_s",
    "u_m_s",
    "target_m",
    "cart_counts",
    "pole_counts",
    "camera_theta_rad",
    "camera_p_m",
    "true_p_m",
    "true_v_m_s",
    "true_theta_rad",
    "true_omega_rad_s",
    "newton_steps",
    "kkt_residual",
    "cost",
    "compute_us",
    "faults",
)


def export_csv(session: Session, output: Path) -> int:
    """One row a tick, columns as in ``COLUMNS``, empty where there is nothing; returns the rows.

    Times are seconds from the first tick; numbers are written so that they read back exactly.
    """
    count = 0
    start_ns = 0
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for tick in session.ticks():
            start_ns = start_ns if count else tick.line.now_ns
            writer.writerow(_row(tick, start_ns))
            count += 1
    return count


def _row(tick: RecordedTick, start_ns: int) -> list[object]:
    state = tick.estimate.state if tick.estimate is not None else ("",) * 4
    encoder: EncoderSample | None = None
    camera: Detection | None = None
    for measurement in tick.input.measurements:
        if isinstance(measurement, EncoderSample):
            encoder = measurement
        elif isinstance(measurement, Detection) and measurement.status == 0:
            camera = measurement
    plan, timing = tick.plan, tick.timing
    return [
        (tick.line.now_ns - start_ns) / NANOSECONDS,
        tick.line.mode.value,
        *state,
        tick.command.velocity_m_s,
        tick.line.target_m,
        encoder.cart_counts if encoder is not None else "",
        encoder.pole_counts if encoder is not None else "",
        camera.theta_rad if camera is not None else "",
        camera.p_m if camera is not None else "",
        *(tick.truth if tick.truth is not None else ("",) * 4),
        *((plan.newton_steps, plan.kkt_residual, plan.cost) if plan is not None else ("",) * 3),
        timing.compute_ns / 1e3 if timing is not None else "",
        " + ".join(fault.name for fault in tick.faults),
    ]
