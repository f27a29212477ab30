"""What the fits take: a recording as plain arrays in SI units.

Times are seconds from the recording's first sample. A recording comes from a table, from a session
file, or from a simulated rig.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.signal import savgol_filter

from calibration.sight import Pictures, Sight, sight_from
from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Detection, EncoderSample, FloatArray

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.columns import Layout

MIN_SAMPLES = 20
RUNS_APART_S = 5.0  # between runs put one after the other; nothing is led across
MOST = 1e6  # metres or radians: no motion
EVENED = 41  # samples over which a pace is even
LONG_REST_S = 8.0  # a cart that stands still as long as this shows the pole alone
FAR_RAD = 0.5  # from side to side: a swing worth fitting
SETTLED_S = 0.1  # from the last command to a cart at rest
EXACT_NS = 1000  # ticks that keep their pace to this were made in virtual time
PROMPT_S = 1.5e-3  # an answer that comes sooner was stamped as well as any
HOST_CLOCK_S = 2e-4  # how well a host's stamps are known of what bridges and busy processes hand it

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Motion:
    """Cart and pole over time: t (n,) s, p (n,) m, theta (n,) rad unwrapped, 0 hanging.

    The steps are those in which p and theta come (0: continuous). ``scale_sigma`` says how well
    the scales of both sensors are known (relative; 0: exactly), ``anchor_rad`` at which angle the
    pole's sensor was set to be right, and ``anchor_sigma_rad`` how well. ``begins`` are the samples
    at which runs begin: what was recorded one after the other stands here one after the other, with
    RUNS_APART_S between. ``jitter_s`` is the standard deviation of a time.
    """

    t_s: FloatArray
    p_m: FloatArray
    theta_rad: FloatArray
    p_step_m: float = 0.0
    theta_step_rad: float = 0.0
    scale_sigma: float = 0.0
    anchor_rad: float = 0.0
    anchor_sigma_rad: float = 0.3
    begins: tuple[int, ...] = (0,)
    jitter_s: float = 0.0

    @property
    def run_end(self) -> int:
        """Where the first run ends."""
        return self.begins[1] if len(self.begins) > 1 else len(self.t_s)

    def part(self, first: int, last: int) -> Motion:
        """Samples ``first`` to before ``last``, as a motion of its own."""
        begins = [max(one, first) for one in self.begins if one < last]
        inside = tuple(sorted({one - first for one in begins if one > first} | {0}))
        return replace(
            self,
            t_s=self.t_s[first:last] - self.t_s[first],
            p_m=self.p_m[first:last],
            theta_rad=self.theta_rad[first:last],
            begins=inside,
        )


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
class TableSource:
    """The bytes of a table and how they were read, for a reading by other columns."""

    raw: bytes
    layout: Layout
    name: str


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
    source: TableSource | None = None
    told: tuple[str, ...] = ()  # what a user should know of its reading
    clock_sigma_s: float = 0.0  # by how much the sensors' times may differ throughout

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

    def free(self) -> Recording:
        """Its end and every other long time in which the cart stood still and the pole swung far,
        each a run; all of it if it does not end so."""
        spells = self._free_to_the_end()
        if self.motion is None or len(spells) < 2:
            return self.at_rest()
        time, runs = self.motion.t_s, []
        for begin_s, end_s in spells:
            run = slice(int(np.searchsorted(time, begin_s)), int(np.searchsorted(time, end_s)))
            if np.ptp(self.motion.theta_rad[run]) > FAR_RAD or end_s >= time[-1]:
                runs.append(run)
        joined = motion_from(
            [(time[run], self.motion.p_m[run], self.motion.theta_rad[run]) for run in runs],
            self.name,
        )
        kept = replace(
            self.motion,
            t_s=joined.t_s,
            p_m=joined.p_m,
            theta_rad=joined.theta_rad,
            begins=joined.begins,
        )
        return replace(self, motion=kept)

    def _free_to_the_end(self) -> list[tuple[float, float]]:
        """Long free spells of a recording whose end is one."""
        spells = self.free_spells(LONG_REST_S)
        ends = self.motion is not None and spells and spells[-1][1] >= self.motion.t_s[-1]
        return spells if ends else []

    def at_rest(self) -> Recording:
        """Its end, in which the cart stood still; all of it if that was not long."""
        spells = self._free_to_the_end()
        if self.motion is None or not spells:
            return self
        begin_s = spells[-1][0]
        first = int(np.searchsorted(self.motion.t_s, begin_s))
        motion = self.motion.part(first, len(self.motion.t_s))
        motion = replace(motion, t_s=self.motion.t_s[first:])  # beside the pictures' own times
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
        order = np.argsort(time, kind="stable")
        motion = motion_from([(time[order], p[order], theta[order])], name)
        motion = replace(motion, p_step_m=cart_step, theta_step_rad=pole_step)
    sent = Commands(
        np.array([(t - origin) / NANOSECONDS for t, _ in commands]),
        np.array([u for _, u in commands]),
    )
    sight = sight_from(detections, origin) if detections else None
    told_s = sent if commands else None
    host_s = HOST_CLOCK_S if _by_clock([t for t, _ in commands]) else 0.0
    clock_s = math.hypot(host_s, _late_s(samples))
    return Recording(name, sha256, motion, counts, told_s, sight, clock_sigma_s=clock_s)


def _by_clock(ticks_ns: list[int]) -> bool:
    """Whether a host kept the pace: no real clock wakes it to a microsecond every time."""
    paces = [after - before for before, after in itertools.pairwise(ticks_ns)]
    return bool(paces) and max(paces) - min(paces) > EXACT_NS


def _late_s(samples: list[EncoderSample]) -> float:
    """Deviation of all stamps together [s] where answers come late, as an adapter that gathers
    bytes hands them over: a count was latched somewhere between its stamp and its arrival."""
    if not samples:
        return 0.0
    late = np.quantile([one.arrival_ns - one.t_ns for one in samples], 0.95) / NANOSECONDS
    return max(0.0, float(late) - PROMPT_S) / math.sqrt(3.0)


def motion_from(runs: Iterable[tuple[FloatArray, FloatArray, FloatArray]], name: str) -> Motion:
    """Runs of (t, p, theta unwrapped), one after the other; those too short are left out.

    Raises SessionError if none is a motion.
    """
    begins, count, offset, jitter_s = [], 0, 0.0, 0.0
    parts = []
    for run in runs:
        if len(run[0]) < MIN_SAMPLES:
            continue
        time, p, theta, jitter = _run(*run)
        if len(time) < MIN_SAMPLES:
            continue
        parts.append((time + offset, p, theta))
        begins.append(count)
        count += len(time)
        offset += float(time[-1]) + RUNS_APART_S
        jitter_s = max(jitter_s, jitter)
    if not parts:
        raise SessionError(f"{name}: no run of {MIN_SAMPLES} samples whose time advances")
    t, p, theta = (np.concatenate([one[k] for one in parts]) for k in range(3))
    if np.max(np.abs(p)) > MOST or np.max(np.abs(theta)) > MOST:
        raise SessionError(f"{name}: positions or angles are not in metres and radians")
    return Motion(t, p, theta, step_of(p), step_of(theta), begins=tuple(begins), jitter_s=jitter_s)


def _run(
    time: FloatArray, p: FloatArray, theta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """One run: times from zero that grow, and how far a time may be off."""
    time, jitter_s = evened(time)
    latest = np.maximum.accumulate(time)
    fresh = np.concatenate([[True], time[1:] > latest[:-1] + 1e-6])
    time, p, theta = time[fresh], p[fresh], theta[fresh]
    return time - time[0], p, theta, jitter_s


def within_a_turn(theta: FloatArray) -> FloatArray:
    """The same angles, shifted by whole turns to where most of them are small, (n,)."""
    return np.asarray(theta - 2.0 * math.pi * round(float(np.median(theta)) / (2.0 * math.pi)))


def evened(time: FloatArray) -> tuple[FloatArray, float]:
    """Times without their rounding where they come in coarse steps, and their standard deviation.

    A host that took samples at an even pace and wrote the times with two digits: the pace over some
    dozen samples says where between two digits each one was.
    """
    step = _resolution(time)
    pace = float(time[-1] - time[0]) / max(1, len(time) - 1)
    if len(time) < 2 * EVENED or pace <= 0.0 or step < 0.05 * pace:
        return time, 0.0
    smooth = [savgol_filter(time, width, 1, mode="interp") for width in (EVENED, EVENED // 2)]
    off = time - smooth[0]
    if float(np.std(off)) < 0.3 * step / math.sqrt(12.0):
        return time, 0.0  # exact: the pace happens to be a number of such steps
    if float(np.max(np.abs(off))) > 1.5 * step:
        return time, step / math.sqrt(12.0)  # not even: all that is known is the rounding
    return np.asarray(smooth[0]), float(np.std(smooth[0] - smooth[1]))


def _resolution(time: FloatArray) -> float:
    """The power of ten that all times are multiples of; 0 if they have too many digits."""
    for digits in range(5):
        if np.max(np.abs(time - np.round(time, digits))) < 1e-9:
            return float(10.0**-digits)
    return 0.0


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
