"""Recordings of other rigs in, tables out.

An imported table becomes an ordinary recording: its samples go through the controller, disarmed, as
encoder counts, so that everything that works on recordings works on it, replay included. The drive
is not modelled: what was commanded is unknown or means something else on another rig, so the
commands are zero and the filter gets a slow, very uncertain cart.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Detection, EncoderSample, HomingResult, TickInput
from cartpole.session.writer import SessionWriter
from cartpole.shown import shown

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.reader import RecordedTick, Session
    from cartpole.session.resume import CoreFactory
    from cartpole.session.tables import Run, Table

START_NS = NANOSECONDS
IMPORTED, IMPORTED_LAYOUT, IMPORTED_RUN = "imported", "imported_layout", "imported_run"
SOURCE = "source.csv"  # the attachment
LARGEST_SOURCE = 16 << 20
MOST_REJECTED = 0.5  # of the samples: more, and the filter believes nothing that it is shown

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
class Consistency:
    """Whether the estimator believes what it sees; 1 is perfect, for the angle's innovations."""

    samples: int
    nis_mean: float
    rejected: int
    duration_s: float


def import_settings(layout: str, config: Config | None) -> Config:
    """The settings an import runs with: the user's, or those known of the layout; drive unknown."""
    from cartpole.config.load import with_values
    from cartpole.config.schema import Config

    values = PHYSICAL_CARTPOLE if config is None and layout == "physical_cartpole" else {}
    return with_values(config or Config(), {**values, **UNKNOWN_DRIVE})


def import_table(
    table: Table,
    config: Config,
    output: Path,
    *,
    original: bytes = b"",
    make_core: CoreFactory | None = None,
) -> list[tuple[Path, Consistency]]:
    """Write each run of ``table`` as a recording of its own: ``NAME.mcap``, ``NAME-run2.mcap``…

    ``original`` is kept in each, with the layout and the run's number, so that its own numbers can
    be read again. Raises SessionError for a run of which the estimator rejects most.
    """
    found = []
    for number, run in enumerate(table.runs, 1):
        where = run_path(output, number)
        origin = {
            IMPORTED: Path(table.name).name,
            IMPORTED_LAYOUT: table.layout.text(),
            IMPORTED_RUN: str(number),
        }
        found.append((where, import_run(run, config, where, origin, original, make_core)))
    return found


def run_path(output: Path, number: int) -> Path:
    """Where the ``number``-th run of a table goes."""
    return output if number == 1 else output.with_name(f"{output.stem}-run{number}{output.suffix}")


def import_run(
    run: Run,
    config: Config,
    output: Path,
    origin: Mapping[str, str],
    original: bytes = b"",
    make_core: CoreFactory | None = None,
) -> Consistency:
    """Write ``run`` as a recording and say how consistent the estimator found it.

    Raises SessionError if the estimator rejects most of it.
    """
    from cartpole.session.provenance import provenance
    from cartpole.session.resume import controller

    homed = HomingResult(0.0, 0.0)
    core = (make_core or controller)(config, homed)
    encoder = config.encoder
    cart = np.round(run.p_m * encoder.cart_counts_per_m * encoder.cart_sign)
    turns = run.theta_rad / (2 * math.pi)
    pole = np.round(turns * encoder.pole_counts_per_turn * encoder.pole_sign)
    nis: list[float] = []
    rejected = 0
    made = {**provenance(config), **origin}
    attachments = {SOURCE: original} if 0 < len(original) <= LARGEST_SOURCE else {}
    with SessionWriter(output, config, made, attachments=attachments, live=False) as writer:
        writer.put_start(homed)
        for t_s, cart_counts, pole_counts in zip(run.t_s, cart, pole, strict=True):
            now_ns = START_NS + round(t_s * NANOSECONDS)
            sample = EncoderSample(now_ns, now_ns, int(cart_counts), int(pole_counts))
            record = core.tick(TickInput(now_ns, (sample,)))
            writer.put_tick(record)
            if record.estimate is not None:
                nis.append(record.estimate.nis_encoder)
                rejected = record.estimate.rejected
    settled = nis[min(20, len(nis) // 2) :]
    mean = sum(settled) / len(settled) if settled else math.nan
    if rejected > MOST_REJECTED * 2 * len(run.t_s):
        raise SessionError(
            f"the filter rejects {rejected} of {2 * len(run.t_s)} values: this is no motion of a "
            f"pole of {config.pole.length_m:g} m (name the rig's settings with --config)"
        )
    return Consistency(len(run.t_s), mean, rejected, float(run.t_s[-1]))


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
    if count == 0:
        raise SessionError("; ".join([f"{session.path} holds no whole tick", *session.told()]))
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
        shown(" + ".join(fault.name for fault in tick.faults)),
    ]
