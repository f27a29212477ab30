"""What the filter is told, and what it remembers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cartpole.estimation import layout as at
from cartpole.messages import NANOSECONDS, FloatArray
from cartpole.recall import require

if TYPE_CHECKING:
    from cartpole.config.schema import Estimator
    from cartpole.model.parameters import ModelParameters

Whole = npt.NDArray[np.int64]

LONGEST_NS = 3600 * NANOSECONDS  # no ring of a running rig spans more


@dataclass(frozen=True, slots=True)
class FilterRules:
    """What the filter takes from the settings; SI.

    ``model`` is believed until another one is; ``upright_offset_rad`` is the camera's angle less
    the true one, ``half_*`` half a count of each encoder, ``events_per_s`` readings and commands.
    """

    model: ModelParameters
    noise: Estimator
    upright_offset_rad: float
    half_p_m: float
    half_theta_rad: float
    velocity_limit_m_s: float
    track_length_m: float
    events_per_s: float


@dataclass(slots=True)
class FilterMemory:
    """The filter's ring (see ``kernels``) and the commands sent, of which the newest are kept.

    Command n stands in row n modulo their number: ``command_times`` (k,) in ns, ``command_values``
    (k,) in m/s. ``horizon_ns`` is the latest time known to have come, ``newest_ns`` that of the
    newest reading; -1 before any.
    """

    when: Whole
    what: FloatArray
    known: FloatArray
    stamps: Whole
    marks: Whole
    command_times: Whole
    command_values: FloatArray
    commands: int = 0
    dropped: int = 0
    horizon_ns: int = -1
    newest_ns: int = -1
    initialised: bool = False

    def check(self, own: FilterMemory) -> None:
        """SessionError for a ring that the kernels, which trust their indices, must not see.

        The shapes are checked before.
        """
        slots = len(self.when)
        first, end, done = (int(mark) for mark in self.marks)
        require(0 <= first <= done < end < 1 << 62 and end - first <= slots, "the ring's marks")
        places = np.arange(first, end) & (slots - 1)
        times = self.when[places, 0]
        ascending = bool((times[1:] >= times[:-1]).all())
        # Not by a difference: it might overflow.
        near = int(times[-1]) - int(times[0]) <= LONGEST_NS
        require(ascending and near, "the order of events")
        folded = places[: done - first + 1]
        known = bool((self.stamps[folded, at.TIME] == self.when[folded, 0]).all())
        require(known, "the times of events")
        require(0 <= self.commands < 1 << 62, "the commands in flight")
