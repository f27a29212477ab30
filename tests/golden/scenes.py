"""Three short flights that prove a redesign: recorded once, flown again after every change.

``make golden`` records them anew and says what changed.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

from cartpole.config.load import load_config
from cartpole.config.schema import Config
from cartpole.messages import NANOSECONDS, Mode, Request, RequestKind
from cartpole.session.provenance import provenance
from cartpole.session.reader import RecordedTick, open_session
from cartpole.session.writer import SessionWriter
from cartpole.sim.rig import VirtualRig
from cartpole.sim.run import START_NS, VirtualRun, undisturbed

FOLDER = Path(__file__).parent
SETTINGS = FOLDER / "settings.yaml"
BUILD = FOLDER / "build.json"
Disturb = Callable[[int, VirtualRig], tuple[Request, ...]]


@dataclass(frozen=True, slots=True)
class Scene:
    """One flight: settings beside ``settings.yaml``, how long [s], and what happens in it."""

    name: str
    overrides: tuple[str, ...]
    duration_s: float
    disturb: Disturb = undisturbed

    @property
    def path(self) -> Path:
        """The recording that is kept."""
        return FOLDER / f"{self.name}.mcap"

    @property
    def config(self) -> Config:
        """Its settings."""
        return load_config(SETTINGS, list(self.overrides))


def troubled(now_ns: int, rig: VirtualRig) -> tuple[Request, ...]:
    """Stopped in flight, armed again, thrown against a switch, reset, homed."""
    tick = round((now_ns - START_NS) / NANOSECONDS * 50)
    if tick == 190:
        rig.plant.push(cart_m_s=12.0)
    asked = {
        20: (RequestKind.ARM, RequestKind.SWING_UP),  # too early: refused or taken, both recorded
        120: (RequestKind.STOP,),
        150: (RequestKind.ARM, RequestKind.SWING_UP),
        260: (RequestKind.RESET,),
        265: (RequestKind.HOME,),
    }
    return tuple(Request(kind) for kind in asked.get(tick, ()))


SCENES = (
    Scene("swing-up", ("sim.pictures=rendered", "sim.seed=1"), 3.6),
    Scene("encoder-only", ("camera.source=none", "sim.seed=2"), 9.0, troubled),
    Scene("camera-only", ("encoder.protocol=none", "sim.seed=3"), 4.0),
)


def fly(scene: Scene, path: Path) -> None:
    """Record a scene in virtual time to ``path``."""
    config = scene.config
    with SessionWriter(path, config, provenance(config), live=False) as writer:
        run = VirtualRun(
            config, config.sim.seed, tap=writer.put_raw, on_frame=writer.put_frame,
            disturb=scene.disturb,
        )  # fmt: skip
        writer.put_start(run.homed)
        for tick in run.ticks():
            writer.put_tick(tick.record, tick.truth, tick.timing)
            if tick.record.input.now_ns - START_NS >= scene.duration_s * NANOSECONDS:
                return


def this_build() -> dict[str, str]:
    """What must be equal for two runs to be equal bit for bit."""
    import llvmlite.binding  # type: ignore[import-untyped]

    return {
        "machine": platform.machine(),
        "processor": str(llvmlite.binding.get_host_cpu_name()),
        "python": platform.python_version(),
        "numba": version("numba"),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "opencv": version("opencv-python-headless"),
    }


def same_build() -> bool:
    """Whether the kept recordings were made by a build like this one."""
    return bool(json.loads(BUILD.read_text()) == this_build())


@dataclass(frozen=True, slots=True)
class Drift:
    """How two recordings of a scene differ; ``state`` and ``command`` are the largest [SI]."""

    ticks: tuple[int, int]
    first: str
    state: float
    command: float
    modes: int

    @property
    def none(self) -> bool:
        """Whether every tick is the same to the last bit."""
        return not self.first


def compare(kept: Path, new: Path) -> Drift:
    """Hold two recordings against each other, tick by tick: inputs, estimate, plan, command."""
    first, counts, state, command, modes = "", [0, 0], 0.0, 0.0, 0
    for old, now in zip_longest(open_session(kept).ticks(), open_session(new).ticks()):
        counts[0] += old is not None
        counts[1] += now is not None
        if old is None or now is None:
            first = first or f"one ends after {min(counts)} ticks"
            continue
        unequal = [name for name, same in _same(old, now) if not same]
        if unequal and not first:
            first = f"tick {old.line.index}: {', '.join(unequal)}"
        modes += old.line.mode is not now.line.mode
        command = max(command, abs(old.command.velocity_m_s - now.command.velocity_m_s))
        if old.estimate is not None and now.estimate is not None:
            pairs = zip(old.estimate.state, now.estimate.state, strict=True)
            state = max(state, *(abs(a - b) for a, b in pairs))
    return Drift((counts[0], counts[1]), first, state, command, modes)


def _same(old: RecordedTick, now: RecordedTick) -> Iterator[tuple[str, bool]]:
    yield "measurements", old.input.measurements == now.input.measurements
    yield "mode", old.line.mode is now.line.mode
    for topic in ("/estimate", "/plan", "/command"):
        yield topic[1:], old.exact.get(topic) == now.exact.get(topic)


def renew() -> None:
    """Fly every scene again, say what changed, keep the new recordings."""
    for scene in SCENES:
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / "new.mcap"
            fly(scene, new)
            modes = {tick.line.mode for tick in open_session(new).ticks()}
            print(f"{scene.name}: {', '.join(mode for mode in Mode if mode in modes)}")
            if scene.path.exists():
                drift = compare(scene.path, new)
                print(f"  {_told(drift)}")
                if drift.none and same_build():
                    continue
            scene.path.write_bytes(new.read_bytes())
    BUILD.write_text(json.dumps(this_build(), indent=1) + "\n")


def _told(drift: Drift) -> str:
    if drift.none:
        return f"{drift.ticks[0]} ticks, not a bit changed"
    return (
        f"changed from {drift.first}; state by up to {drift.state:.3g}, command by "
        f"{drift.command:.3g} m/s, {drift.modes} ticks in another mode"
    )


if __name__ == "__main__":
    renew()
