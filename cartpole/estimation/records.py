"""What the filter hands out besides estimates: how consistent it is, and all that it remembers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cartpole.estimation import layout as at
from cartpole.messages import NANOSECONDS, FloatArray
from cartpole.recall import require

Whole = npt.NDArray[np.int64]

LONGEST_NS = 3600 * NANOSECONDS  # no ring of a running rig spans more


@dataclass(frozen=True, slots=True)
class Consistency:
    """Whether the filter's beliefs agree with what the sensors say.

    ``nis_*`` are running means of innovation squared over its variance (about 1 when right; below 1
    for an encoder at rest, whose error does not move); ``refused_*`` running shares of rejections.
    ``camera_delay_error_s`` is by how much frames are really older than their stamps say.
    """

    nis_camera: float
    nis_encoder: float
    refused_camera: float
    refused_encoder: float
    camera_delay_error_s: float
    camera_delay_sigma_s: float
    camera_delay_suspect: bool


@dataclass(frozen=True, slots=True)
class FilterState:
    """The filter's memory: its ring (see ``kernels``) and the commands sent, oldest first.

    ``command_times`` (k,) in ns, ``command_values`` (k,) in m/s.
    """

    when: Whole
    what: FloatArray
    known: FloatArray
    stamps: Whole
    marks: Whole
    command_times: Whole
    command_values: FloatArray
    dropped: int
    horizon_ns: int
    newest_ns: int
    initialised: bool


def check(state: FilterState) -> None:
    """SessionError for a ring that the kernels, which trust their indices, must not see.

    The shapes are checked before.
    """
    slots = len(state.when)
    first, end, done = (int(mark) for mark in state.marks)
    require(0 <= first <= done < end < 1 << 62 and end - first <= slots, "the ring's marks")
    places = np.arange(first, end) & (slots - 1)
    times = state.when[places, 0]
    ascending = bool((times[1:] >= times[:-1]).all())
    # Not by a difference: it might overflow.
    near = int(times[-1]) - int(times[0]) <= LONGEST_NS
    require(ascending and near, "the order of events")
    folded = places[: done - first + 1]
    known = bool((state.stamps[folded, at.TIME] == state.when[folded, 0]).all())
    require(known, "the times of events")
