"""A whole flight of controller and simulated rig, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.api.settings import settings as settings_named
from cartpole.messages import NANOSECONDS, FloatArray, Mode

if TYPE_CHECKING:
    import pandas

    from cartpole.config.schema import Config

STATE = ("p_m", "v_m_s", "theta_rad", "omega_rad_s")
GIVE_UP_S = 120.0  # homing that takes longer than this never ends


@dataclass(frozen=True, slots=True)
class Flight:
    """What happened, tick by tick (n of them).

    ``t_s`` (n,) begins with the first tick of SWING_UP; ``state`` (n, 4) is the simulated truth
    (p, v, theta, omega), ``estimate`` (n, 4) what the controller believed (nan before it knew),
    ``command_m_s`` (n,) what went to the drive; ``mode`` the mode machine's words. ``summary`` is
    what `cartpole simulate --json` writes.
    """

    t_s: FloatArray
    state: FloatArray
    estimate: FloatArray
    command_m_s: FloatArray
    mode: tuple[str, ...]
    summary: dict[str, Any]

    @property
    def upright_at_s(self) -> float | None:
        """When the pole was up for good; ``None``: never."""
        found: float | None = self.summary["upright_at_s"]
        return found

    def table(self) -> pandas.DataFrame:
        """A row a tick, named columns (needs pandas: ``pip install cartpole[data]``)."""
        import pandas

        columns: dict[str, Any] = {"t_s": self.t_s, "mode": self.mode}
        columns |= {name: self.state[:, k] for k, name in enumerate(STATE)}
        columns |= {f"estimate_{name}": self.estimate[:, k] for k, name in enumerate(STATE)}
        return pandas.DataFrame(columns | {"command_m_s": self.command_m_s})


def simulate(
    settings: Config | str | Path | None = None,
    *,
    seed: int = 0,
    duration_s: float = 10.0,
    changes: Mapping[str, Any] | None = None,
) -> Flight:
    """Swing up on the simulated rig in virtual time; the same arguments give the same bytes.

    ``changes`` are dotted settings (``{"sim.length_m": 0.55}`` makes the true pole longer than the
    controller believes). ``duration_s`` counts from the first tick of SWING_UP. Raises ConfigError.
    """
    from cartpole.session.summary import SummaryBuilder
    from cartpole.sim.run import VirtualRun

    config = settings_named(settings, {**(changes or {}), "sim.seed": seed})
    summary = SummaryBuilder(config, "", "")
    rows: list[tuple[float, ...]] = []
    modes: list[str] = []
    started_ns: int | None = None
    begun_ns: int | None = None
    for tick in VirtualRun(config, seed).ticks():
        record = tick.record
        now_ns = record.input.now_ns
        begun_ns = now_ns if begun_ns is None else begun_ns
        if started_ns is None and record.mode is Mode.SWING_UP:
            started_ns = now_ns
        summary.add(record, tick.truth, tick.timing)
        known = (np.nan,) * 4 if record.estimate is None else record.estimate.state
        seconds = (now_ns - begun_ns) / NANOSECONDS
        rows.append((seconds, *tick.truth, *known, record.command.velocity_m_s))
        modes.append(record.mode.value)
        since_ns = begun_ns if started_ns is None else started_ns
        elapsed_s = (now_ns - since_ns) / NANOSECONDS + config.controller.period_s
        limit_s = GIVE_UP_S if started_ns is None else duration_s
        if elapsed_s >= limit_s - 1e-6 or record.mode is Mode.FAULT:
            break
    data = np.array(rows)
    offset_s = 0.0 if started_ns is None or begun_ns is None else (started_ns - begun_ns) / 1e9
    return Flight(
        t_s=data[:, 0] - offset_s,
        state=data[:, 1:5],
        estimate=data[:, 5:9],
        command_m_s=data[:, 9],
        mode=tuple(modes),
        summary=summary.result(),
    )
