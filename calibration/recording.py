"""What the fits take: a recording as plain arrays in SI units.

Times are seconds from the recording's first sample. A recording comes from a CSV, from a session
file, or from a simulated rig.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from calibration.sight import Pictures, Sight, sight_from
from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Detection, EncoderSample, FloatArray

if TYPE_CHECKING:
    from cartpole.config.schema import Config

MAX_CSV_BYTES = 512 * 1024 * 1024
MAX_LINE = 10_000
MIN_SAMPLES = 20
LONG_REST_S = 8.0  # a cart that stands still as long as this shows the pole alone
SETTLED_S = 0.1  # from the last command to a cart at rest

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Motion:
    """Cart and pole over time: t (n,) s, p (n,) m, theta (n,) rad unwrapped, 0 hanging.

    The steps are those in which p and theta come (0: continuous). ``scale_sigma`` says how well
    the scales of both sensors are known (relative; 0: exactly), ``anchor_rad`` at which angle the
    pole's sensor was set to be right, and ``anchor_sigma_rad`` how well.
    """

    t_s: FloatArray
    p_m: FloatArray
    theta_rad: FloatArray
    p_step_m: float = 0.0
    theta_step_rad: float = 0.0
    scale_sigma: float = 0.0
    anchor_rad: float = 0.0
    anchor_sigma_rad: float = 0.3


@dataclass(frozen=True, slots=True)
class Counts:
    """Encoder counts as latched: t (n,) s, counts (n,), switches (n,)."""

    t_s: FloatArray
    cart: FloatArray
    pole: FloatArray
    limit_low: BoolArray
    limit_high: BoolArray


@dataclass(frozen=True, slots=True)
class Commands:
    """Velocity commands [m/s] and when they were sent, (n,)."""

    t_s: FloatArray
    velocity_m_s: FloatArray


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything a fit may use; what was not recorded is None.

    ``sight`` is what the tracker said when it was recorded; with ``pictures`` it can be asked anew.
    """

    name: str
    sha256: str
    motion: Motion | None = None
    counts: Counts | None = None
    commands: Commands | None = None
    sight: Sight | None = None
    pictures: Pictures | None = None

    def free_spells(self, least_s: float) -> list[tuple[float, float]]:
        """Beginnings and ends [s] of the times in which the cart was told to stand still.

        Only those of at least ``least_s``, the cart's coming to rest left out.
        """
        commands = self.commands
        if commands is None or self.motion is None or len(commands.t_s) == 0:
            return []
        edges = np.flatnonzero(np.diff(commands.velocity_m_s == 0.0)) + 1
        times = [float(commands.t_s[0]), *commands.t_s[edges].tolist(), float(self.motion.t_s[-1])]
        first = 0 if commands.velocity_m_s[0] == 0.0 else 1
        spells = [
            (begin + SETTLED_S, end)
            for begin, end in zip(times[first::2], times[first + 1 :: 2], strict=False)
        ]
        return [(begin, end) for begin, end in spells if end - begin >= least_s]

    def at_rest(self) -> Recording:
        """Its end, in which the cart stood still; all of it if that was not long."""
        spells = self.free_spells(LONG_REST_S)
        if self.motion is None or not spells or spells[-1][1] < self.motion.t_s[-1]:
            return self
        begin_s = spells[-1][0]
        keep = self.motion.t_s >= begin_s
        motion = replace(
            self.motion,
            t_s=self.motion.t_s[keep],
            p_m=self.motion.p_m[keep],
            theta_rad=self.motion.theta_rad[keep],
        )
        return replace(
            self,
            motion=motion,
            sight=None if self.sight is None else self.sight.since(begin_s),
            pictures=None if self.pictures is None else self.pictures.since(begin_s),
        )


def assemble(
    samples: list[EncoderSample],
    commands: list[tuple[int, float]],
    detections: list[Detection],
    config: Config,
    name: str,
    zero: tuple[float, float] = (0.0, 0.0),
    sha256: str = "",
) -> Recording:
    """Measurements as arrays, by the configured scales; times from the first sample.

    ``zero`` are the counts of cart and pole that stand for p = 0 and hanging.
    """
    encoder = config.encoder
    origin = samples[0].t_ns if samples else (detections[0].t_ns if detections else 0)
    time = np.array([(one.t_ns - origin) / NANOSECONDS for one in samples])
    cart = np.array([one.cart_counts for one in samples], dtype=np.float64) - zero[0]
    pole = np.array([one.pole_counts for one in samples], dtype=np.float64) - zero[1]
    motion = counts = None
    if len(samples):
        low = np.array([one.limit_low for one in samples])
        counts = Counts(time, cart, pole, low, np.array([one.limit_high for one in samples]))
        cart_step = 1.0 / encoder.cart_counts_per_m
        pole_step = 2.0 * math.pi / encoder.pole_counts_per_turn
        p, theta = cart * cart_step * encoder.cart_sign, pole * pole_step * encoder.pole_sign
        motion = motion_from(time, p, theta, name, unwrap=False)
        motion = replace(motion, p_step_m=cart_step, theta_step_rad=pole_step)
    sent = Commands(
        np.array([(t - origin) / NANOSECONDS for t, _ in commands]),
        np.array([u for _, u in commands]),
    )
    sight = sight_from(detections, origin) if detections else None
    return Recording(name, sha256, motion, counts, sent if commands else None, sight)


def load_csv(path: Path) -> Recording:
    """A CSV with a header line; lines that begin with ``#`` are comments.

    Two layouts are known by their columns:

    - ``time``, ``angle`` (rad, 0 upright, clockwise), ``position`` (m): the swing-ups of
      SensorsINI's physical cart-pole;
    - ``t_s``, ``p_m``, ``theta_rad`` (0 hanging, counter-clockwise), and optionally ``u_m_s``, the
      velocity command in force.

    Raises SessionError on anything else.
    """
    return table_recording(_read(path), path)


def table_recording(raw: bytes, path: Path) -> Recording:
    """As ``load_csv`` for a table's bytes; ``path`` names it in messages."""
    table = _table(raw, path)
    if {"time", "angle", "position"} <= table.keys():
        time, p = table["time"], table["position"]
        theta = math.pi + table["angle"]
    elif {"t_s", "p_m", "theta_rad"} <= table.keys():
        time, p, theta = table["t_s"], table["p_m"], table["theta_rad"]
    else:
        raise SessionError(
            f"{path}: columns {', '.join(list(table)[:8])} are not known; "
            "expected t_s, p_m, theta_rad or time, angle, position"
        )
    anchor = math.pi if "angle" in table else 0.0
    keep = np.isfinite(time) & np.isfinite(p) & np.isfinite(theta)
    commands = None
    if "u_m_s" in table:
        u = table["u_m_s"][keep]
        if np.all(np.isfinite(u)):
            commands = Commands(time[keep] - time[keep][0], u)
    motion = motion_from(time[keep], p[keep], theta[keep], str(path))
    # Nobody knows from a table how well its sensors were scaled.
    motion = replace(
        motion, scale_sigma=0.05, anchor_rad=anchor, anchor_sigma_rad=0.03 if anchor else 0.3
    )
    digest = hashlib.sha256(raw).hexdigest()
    return Recording(path.name, digest, motion=motion, commands=commands)


def motion_from(
    time: FloatArray, p: FloatArray, theta: FloatArray, name: str, unwrap: bool = True
) -> Motion:
    """Checked, sorted out and unwrapped; raises SessionError if it cannot be a motion."""
    if len(time) < MIN_SAMPLES:
        raise SessionError(f"{name}: {len(time)} usable samples; at least {MIN_SAMPLES} are needed")
    order = np.argsort(time, kind="stable")
    time, p, theta = time[order], p[order], theta[order]
    fresh = np.concatenate([[True], np.diff(time) > 1e-6])
    time, p, theta = time[fresh], p[fresh], theta[fresh]
    if len(time) < MIN_SAMPLES:
        raise SessionError(f"{name}: time does not advance")
    if np.max(np.abs(p)) > 1e3 or np.max(np.abs(theta)) > 1e5:
        raise SessionError(f"{name}: positions or angles are not in metres and radians")
    if unwrap:
        theta = np.unwrap(theta)
        theta -= 2.0 * math.pi * round(float(np.median(theta)) / (2.0 * math.pi))
    return Motion(time - time[0], p, theta, step_of(p), step_of(theta))


def step_of(values: FloatArray) -> float:
    """The step in which values come: the least difference that occurs (0 if continuous)."""
    levels = np.unique(np.round(values, 9))
    gaps = np.diff(levels)
    gaps = gaps[gaps > 1e-7]
    if len(gaps) < 3 or len(levels) > 0.9 * len(values):
        return 0.0
    return float(np.median(np.sort(gaps)[: max(3, len(gaps) // 4)]))


def file_sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CSV_BYTES + 1)
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_CSV_BYTES:
        raise SessionError(f"{path}: larger than {MAX_CSV_BYTES // 2**20} MiB")
    if not raw.strip():
        raise SessionError(f"{path}: empty")
    return raw


def _table(raw: bytes, path: Path) -> dict[str, FloatArray]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SessionError(f"{path}: not a text file") from None
    if "\0" in text:
        raise SessionError(f"{path}: not a text file")
    lines = [one for one in text.splitlines() if one.strip() and not one.startswith("#")]
    if not lines or any(len(one) > MAX_LINE for one in lines):
        raise SessionError(f"{path}: not a CSV with a header line")
    try:
        rows = list(csv.reader(lines))
    except csv.Error as error:
        raise SessionError(f"{path}: not a CSV: {error}") from None
    header = [one.strip() for one in rows[0]]
    if len(set(header)) != len(header) or len(header) > 200:
        raise SessionError(f"{path}: column names must differ from each other")
    values = np.full((len(rows) - 1, len(header)), np.nan)
    for i, row in enumerate(rows[1:]):
        for j, cell in enumerate(row[: len(header)]):
            values[i, j] = _number(cell)
    return {name: values[:, j].copy() for j, name in enumerate(header)}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
