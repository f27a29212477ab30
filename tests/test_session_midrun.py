"""Recordings begun in mid-run: they carry what the core remembers, and replay bit for bit (I8)."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import math
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import orjson
import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.control.memory import CoreMemory
from cartpole.errors import SessionError
from cartpole.messages import (
    BoardStatus,
    Detection,
    EncoderSample,
    Mode,
    Reference,
    ReferenceShape,
    Request,
    RequestKind,
    TickInput,
)
from cartpole.rules.control import change, config_of
from cartpole.session.codec import decoder
from cartpole.session.container import Container
from cartpole.session.invariants import Invariants
from cartpole.session.listing import describe
from cartpole.session.packing import LONGEST, pack
from cartpole.session.reader import open_session
from cartpole.session.recover import recover
from cartpole.session.redecode import RawInputs
from cartpole.session.replay import replay
from cartpole.session.report import write_report
from cartpole.session.writer import SessionWriter
from cartpole.sim.rig import VirtualRig
from cartpole.sim.run import SimulatedTick, VirtualRun

SECOND = 50  # ticks
SINE = Reference(ReferenceShape.SINE, 0.02, 0.08, 3.0)
LIVE = {"controller.weights.angle": 1.7, "estimator.gate_sigma": 6.0}


class Story:
    """A run through every mode: home, swing up, balance, lose the camera, fall back, fault, again.

    ``modes`` are those of the ticks so far; ``LQR_FALLBACK`` comes from withheld Newton steps.
    """

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.rng = random.Random(seed)
        self.run = VirtualRun(config, seed, requests=(), disturb=self._ask)
        self.modes: list[Mode] = []
        self._ticks = self.run.ticks()
        self._since: dict[Mode, int] = {}
        self._flown = 0

    def _ask(self, _now_ns: int, _rig: VirtualRig) -> tuple[Request, ...]:
        mode, since = self.run.core.mode, self._in_mode()
        if mode is Mode.DISARMED and since > 20:
            return Request(RequestKind.ARM), Request(RequestKind.SWING_UP)
        if mode is Mode.FAULT and since > 20:
            return (Request(RequestKind.RESET),)
        if mode is Mode.BALANCE and since == 40:
            return (Request(RequestKind.REFERENCE, reference=SINE),)
        if mode is Mode.BALANCE and since == 60:
            return (change(with_values(self.config, LIVE)),)
        return ()

    def _in_mode(self) -> int:
        mode, count = self.run.core.mode, 0
        for past in reversed(self.modes):
            if past is not mode:
                break
            count += 1
        return count

    def tick(self) -> SimulatedTick:
        tick = next(self._ticks)
        self.modes.append(tick.record.mode)
        return tick


def story(config: Config, seed: int) -> Iterator[SimulatedTick]:
    yield from iter(Story(config, seed).tick, None)


def record(run: VirtualRun, path: Path, ticks: Iterator[SimulatedTick], count: int) -> int:
    """Begin a recording now, as the daemon does, and record ``count`` ticks; returns its index."""
    writer = SessionWriter(path, config_of(run.core.settings), live=False)
    state = run.core.state()
    writer.put_start(run.core.homed)
    writer.put_state(1, state)
    for _ in range(count):
        tick = next(ticks)
        writer.put_tick(tick.record, tick.truth, tick.timing)
    writer.close()
    assert writer.status().error == ""
    return state.index + 1


def recorded_in(mode: Mode, config: Config, folder: Path, seed: int, count: int = 70) -> list[Path]:
    """Recordings begun in a mode: at its first tick, and a random time later."""
    paths = []
    for number, wait in enumerate((0, random.Random(seed).randrange(1, 18))):
        tale = Story(config, seed)
        for _ in range(60 * SECOND):
            tale.tick()
            if tale.run.core.mode is mode and tale._in_mode() > wait:
                break
        else:
            raise AssertionError(f"never {mode}")
        paths.append(folder / f"{mode.value}-{number}.mcap")
        first = record(tale.run, paths[-1], iter(tale.tick, None), count)
        assert first == len(tale.modes) - count
    return paths


@pytest.mark.parametrize("mode", [Mode.DISARMED, Mode.HOMING, Mode.SWING_UP, Mode.BALANCE])
@pytest.mark.parametrize("seed", [0, 1])
def test_begun_in_any_mode_it_replays_bit_for_bit(mode: Mode, seed: int, tmp_path: Path) -> None:
    config = with_values(Config(), {"sim.homed": False})
    for path in recorded_in(mode, config, tmp_path, seed):
        session = open_session(path)
        assert session.state is not None
        assert session.state.mode is mode
        result = replay(session)
        assert result.bitwise_equal, result.first
        assert result.compared == 70


def hurt(kind: str) -> Callable[[Any], Any]:
    """A change of a tick's inputs that leads into a mode which a healthy rig does not know."""

    def change(tick: Any) -> Any:
        if kind == "no budget":
            return dataclasses.replace(tick, newton_budget=0)
        if kind == "no camera":
            kept = tuple(m for m in tick.measurements if not isinstance(m, Detection))
            return dataclasses.replace(tick, measurements=kept)
        if kind == "no encoder":
            kept = tuple(m for m in tick.measurements if not isinstance(m, EncoderSample))
            return dataclasses.replace(tick, measurements=kept)
        stop = BoardStatus(tick.now_ns, boot_id=3, estop=True)
        return dataclasses.replace(tick, measurements=(*tick.measurements, stop))

    return change


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("no budget", Mode.LQR_FALLBACK),
        ("no camera", Mode.BALANCE),
        ("no encoder", Mode.SAFE_STOP),
        ("no encoder", Mode.FAULT),
        ("e-stop", Mode.FAULT),
    ],
)
def test_begun_in_trouble_it_replays_bit_for_bit(kind: str, mode: Mode, tmp_path: Path) -> None:
    run = VirtualRun(Config(), 4)
    change = hurt(kind)
    hurting = [False]
    inner = run._tick
    run._tick = lambda tick: inner(change(tick) if hurting[0] else tick)  # type: ignore[method-assign]
    ticks = run.ticks()
    for _ in range(3 * SECOND):
        next(ticks)
    hurting[0] = True
    for index in range(4 * SECOND):
        next(ticks)
        if run.core.mode is mode and index > 4:
            break
    else:
        raise AssertionError(f"never {mode}, but {run.core.mode}")
    path = tmp_path / "run.mcap"
    record(run, path, ticks, 40)
    state = open_session(path).state
    assert state is not None
    assert state.mode is mode
    if kind != "no budget":
        assert state.faults or state.mode is Mode.SAFE_STOP
    result = replay(open_session(path))
    assert result.bitwise_equal, result.first


@pytest.mark.parametrize("seed", range(6))
def test_begun_at_random_ticks(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    tale = Story(with_values(Config(), {"sim.homed": seed % 2 == 0}), seed)
    paths = []
    for number in range(3):
        for _ in range(rng.randrange(1, 120)):
            tale.tick()
        paths.append(tmp_path / f"{number}.mcap")
        record(tale.run, paths[-1], iter(tale.tick, None), rng.randrange(1, 90))
    for path in paths:
        result = replay(open_session(path))
        assert result.bitwise_equal, (path, result.first)


@pytest.mark.parametrize("values", [{"optimizer.backend": "torch"}, {"encoder.protocol": "none"}])
def test_other_rigs(values: dict[str, Any], tmp_path: Path) -> None:
    run = VirtualRun(with_values(Config(), values), 1)
    ticks = run.ticks()
    for _ in range(110):
        next(ticks)
    assert run.core.mode in (Mode.SWING_UP, Mode.BALANCE, Mode.LQR_FALLBACK)
    record(run, tmp_path / "run.mcap", ticks, 50)
    result = replay(open_session(tmp_path / "run.mcap"))
    assert result.bitwise_equal, result.first


def test_the_penalty_method_begins_only_at_rest(tmp_path: Path) -> None:
    run = VirtualRun(with_values(Config(), {"optimizer.backend": "penalty"}), 1)
    ticks = run.ticks()
    for _ in range(15):
        next(ticks)
    path = tmp_path / "run.mcap"
    record(run, path, ticks, 60)
    assert run.core.mode in (Mode.SWING_UP, Mode.LQR_FALLBACK)
    result = replay(open_session(path))
    assert result.bitwise_equal, result.first
    with pytest.raises(SessionError, match="penalty backend cannot be recorded from mid-flight"):
        run.core.state()


def test_a_core_goes_on_from_its_state_as_if_nothing_was() -> None:
    """Two cores, one fed from its beginning, one from the other's state, through JSON."""
    tale = Story(with_values(Config(), {"sim.homed": False}), 3)
    read = decoder(CoreMemory)
    for count in range(1, 25):
        for _ in range(40):
            tale.tick()
        core = tale.run.core
        data = pack(core.state())
        twin = ControlCore(core.settings, homed=None)
        twin.restore(read(data))
        assert pack(twin.state()) == data, count
    assert {Mode.DISARMED, Mode.HOMING, Mode.SWING_UP, Mode.BALANCE} <= set(tale.modes)
    assert config_of(core.settings) != Config()


def test_taking_a_state_changes_nothing_and_it_does_not_change() -> None:
    one, other = VirtualRun(Config(), 5), VirtualRun(Config(), 5)
    states: list[tuple[CoreMemory, bytes]] = []
    for mine, theirs in zip(one.ticks(), other.ticks(), strict=False):
        state = one.core.state()
        states.append((state, pack(state)) if len(states) < 90 else states[-1])
        assert mine.record.command == theirs.record.command
        if mine.record.index > 120:
            break
    for state, data in states:
        assert pack(state) == data


# What a reader meets


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording begun while balancing, in two files."""
    path = tmp_path_factory.mktemp("mid") / "20260102-030405.mcap"
    config = with_values(Config(), {"session.max_file_mb": 1})
    run = VirtualRun(config, 2)
    ticks = run.ticks()
    for _ in range(150):
        next(ticks)
    writer = SessionWriter(path, config, live=False)
    writer.put_start(run.core.homed)
    writer.put_state(1, run.core.state())
    for _ in range(600):
        tick = next(ticks)
        writer.put_tick(tick.record, tick.truth, tick.timing)
        writer.put_raw(tick.record.input.now_ns, "motor", "out", random.Random(1).randbytes(3000))
    writer.close()
    return path


def test_all_commands_read_it(begun: Path, tmp_path: Path) -> None:
    session = open_session(begun)
    assert len(session.parts) > 1
    assert session.homed is not None
    result = replay(session)
    assert result.bitwise_equal, result.first
    assert result.ticks == 600
    entry = describe(begun)
    assert entry.whole
    assert entry.outcome == "upright after 0.00 s"
    assert entry.summary is not None
    assert entry.summary["ticks"] == 600
    write_report(open_session(begun), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000
    invariants = Invariants(session.config)
    assert [v for t in session.ticks() for v in invariants.check(t.record(), t.truth)] == []


def test_cut_off_it_is_recovered_and_replays(begun: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(begun.read_bytes()[: begun.stat().st_size * 2 // 3])
    found = recover(cut, tmp_path / "saved.mcap")
    assert 0 < found.ticks < 600
    for path in (cut, tmp_path / "saved.mcap"):
        result = replay(open_session(path))
        assert result.bitwise_equal, result.first
        assert result.ticks == found.ticks


def test_a_continuation_is_refused(begun: Path) -> None:
    with pytest.raises(SessionError, match="continues a recording"):
        replay(open_session(begun.with_name(f"{begun.stem}-part2.mcap")))


def test_other_settings_as_far_as_they_may_change_while_running(begun: Path) -> None:
    session = open_session(begun)
    result = replay(session, lambda c: with_values(c, {"controller.weights.angle": 3.0}))
    assert result.changed
    assert result.first is not None
    assert result.first.tick == 150
    assert result.differences["u_m_s"].largest > 1e-4
    with pytest.raises(SessionError, match=r"mid-run: pole\.length_m cannot be tried"):
        replay(session, lambda c: with_values(c, {"pole.length_m": 0.4}))


def test_raw_bytes_are_refused(begun: Path) -> None:
    session = open_session(begun)
    with pytest.raises(SessionError, match="begun in mid-run"):
        replay(session, inputs=RawInputs(session, session.config))


# Hostile states: typed errors, bounded memory, and nothing worse


def with_state(begun: Path, path: Path, data: bytes | None) -> Path:
    """The recording with another state, or none."""
    session = open_session(begun)
    contents = session.contents
    with path.open("w+b") as stream:
        container = Container(stream, contents.attachments, contents.metadata)
        for topic, log_ns, now_ns, line in itertools.islice(session.messages(), 401):
            if topic == "/state":
                if data is None:
                    continue
                line = data
            container.add([(topic, log_ns, line)], now_ns)
        container.finish()
    return path


def plain_state(begun: Path) -> Any:
    for topic, _, _, data in open_session(begun).messages():
        if topic == "/state":
            return orjson.loads(data)
    raise AssertionError


def test_without_its_state_the_beginning_is_unknown(begun: Path, tmp_path: Path) -> None:
    path = with_state(begun, tmp_path / "x.mcap", None)
    with pytest.raises(SessionError, match="entered at none of its"):
        replay(open_session(path))


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list):
        for key, inner in enumerate(value):
            yield from leaves(inner, (*place, key))
    yield place


def put(value: Any, place: tuple[Any, ...], new: Any) -> None:
    for key in place[:-1]:
        value = value[key]
    if new is None:
        del value[place[-1]]
    else:
        value[place[-1]] = new


WRONG: list[Any] = [
    None, [], {}, "x", True, -1, 1 << 60, -(1 << 62), 1.5, 1e308, "nan", "inf", [[0]],
    {"dtype": "f8", "shape": [1 << 24, 1 << 24], "data": ""},
    {"dtype": "O", "shape": [1], "data": "AAAAAAAAAAA="},
    {"dtype": "f8", "shape": [-1], "data": "AAAAAAAAAAA="},
    {"dtype": "f8", "shape": [2], "data": "AAAAAAAAAAA="},
    {"dtype": "f8", "shape": [1], "data": "AAA\u0000AAAAAAAA="},
    {"dtype": "i8", "shape": [], "data": "AAAAAAAAAAA="},
]  # fmt: skip


def answer(path: Path) -> str:
    """What a replay says of a file: an error of ours, or that it ran."""
    try:
        return f"ran {replay(open_session(path)).ticks}"
    except SessionError as error:
        return str(error)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_any_value_in_the_wrong_place_is_an_error_or_runs(begun: Path, tmp_path: Path) -> None:
    state = plain_state(begun)
    places = [place for place in leaves(state) if place]
    rng = random.Random(0)
    said = []
    for _ in range(150):
        spoilt = orjson.loads(orjson.dumps(state))
        put(spoilt, rng.choice(places), rng.choice(WRONG))
        said.append(answer(with_state(begun, tmp_path / "x.mcap", orjson.dumps(spoilt))))
    refused = [told for told in said if not told.startswith("ran")]
    assert len(refused) > 100
    assert any("has a bad" in told for told in refused)
    assert any("state" in told.lower() for told in refused)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_arrays_of_any_content_are_an_error_or_run(begun: Path, tmp_path: Path) -> None:
    """Kernels do not check their indices: what they index by is checked before."""
    state = plain_state(begun)
    arrays = [p[:-1] for p in leaves(state) if p and p[-1] == "dtype"]
    rng = np.random.default_rng(1)
    special = np.array([math.nan, math.inf, -math.inf, 0.0, -1.0, 1e300, 1e-320])
    for number in range(60):
        spoilt = orjson.loads(orjson.dumps(state))
        place = arrays[number % len(arrays)]
        target = spoilt
        for key in place:
            target = target[key]
        count = math.prod(target["shape"])
        if target["dtype"] == "i8":
            values = rng.integers(-(1 << 63), (1 << 63) - 1, count)
        else:
            values = rng.choice(special, count)
        target["data"] = base64.b64encode(values.tobytes()).decode()
        answer(with_state(begun, tmp_path / "x.mcap", orjson.dumps(spoilt)))


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ([5, 3, 4], "the ring's marks"),
        ([-1, 5, 3], "the ring's marks"),
        ([0, 1 << 40, 3], "the ring's marks"),
        ([1 << 62, (1 << 62) + 2, 1 << 62], "the ring's marks"),
    ],
)
def test_marks_that_would_lead_out_of_the_ring(
    begun: Path, tmp_path: Path, marks: list[int], told: str
) -> None:
    state = plain_state(begun)
    data = base64.b64encode(np.array(marks, dtype="<i8").tobytes()).decode()
    state["observer"]["filter"]["marks"]["data"] = data
    assert told in answer(with_state(begun, tmp_path / "x.mcap", orjson.dumps(state)))


def test_truncated_text_and_bombs(begun: Path, tmp_path: Path) -> None:
    data = orjson.dumps(plain_state(begun))
    for cut in (0, 1, 10, len(data) // 2, len(data) - 1):
        assert "JSON" in answer(with_state(begun, tmp_path / "x.mcap", data[:cut]))
    bombs = [
        b"[" * 3_000_000,
        b"[" + b"[]," * 5_000_000 + b"0]",
        b'"' + b"x" * (LONGEST + 1) + b'"',
    ]
    for bomb in bombs:
        path = with_state(begun, tmp_path / "x.mcap", bomb)
        tracemalloc.start()
        assert "more than a controller has" in answer(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 << 20


def test_another_rigs_state_does_not_fit(begun: Path, tmp_path: Path) -> None:
    state = plain_state(begun)
    plans = state["pilot"]["planner"]["candidates"]
    del plans[-1]
    told = answer(with_state(begun, tmp_path / "x.mcap", orjson.dumps(state)))
    assert "pilot.planner.candidates are" in told
    state = plain_state(begun)
    state["observer"]["filter"]["when"]["shape"].reverse()
    told = answer(with_state(begun, tmp_path / "x.mcap", orjson.dumps(state)))
    assert "made with other settings" in told


def test_every_float_survives() -> None:
    values = np.array([math.nan, math.inf, -0.0, 5e-324, 0.1, 1e308])
    state = VirtualRun(Config(), 0).core.state()
    planner = state.pilot.planner
    assert planner is not None
    told = dataclasses.replace(planner.told, length_m=math.nan, tau_s=-0.0, delay_s=0.1 + 0.2)
    plan = planner.candidates[0]
    first = dataclasses.replace(plan, solver=dataclasses.replace(plan.solver, rows=values))
    planner = dataclasses.replace(planner, told=told, candidates=(first, *planner.candidates[1:]))
    kept = dataclasses.replace(state, pilot=dataclasses.replace(state.pilot, planner=planner))
    back = decoder(CoreMemory)(pack(kept))
    assert back.pilot.planner.candidates[0].solver.rows.tobytes() == values.tobytes()
    assert repr(back.pilot.planner.told) == repr(told)
    assert pack(back) == pack(kept)


def test_no_part_is_forgotten() -> None:
    """Whatever a tick changes is in the memory, or made from it or from the rules."""
    made_anew = {
        "ControlCore": {"_events", "_memory"},
        "Standing": {"_events", "_memory"},
        "Observer": {"_memory"},
        "Watch": {"_memory"},
        "Target": {"_memory"},
        "Pilot": {"_memory"},
        "StateFilter": {"memory", "_ring"},
        "Planner": {"_bank", "problem", "memory"},
    }
    tale = Story(with_values(Config(), {"sim.homed": False}), 0)
    for _ in range(30 * SECOND):
        tale.tick()
    core = tale.run.core
    twin = ControlCore(core.settings)
    twin.restore(decoder(CoreMemory)(pack(core.state())))
    pairs = [
        (core, twin),
        (core._standing, twin._standing),
        (core._observer, twin._observer),
        (core._watch, twin._watch),
        (core._target, twin._target),
        (core._pilot, twin._pilot),
        (core._observer._filter, twin._observer._filter),
        (core._pilot._planner._planner, twin._pilot._planner._planner),  # type: ignore[attr-defined]
    ]
    for one, other in pairs:
        for name, value in vars(one).items():
            if name in made_anew[type(one).__name__] or hasattr(value, "__dict__"):
                continue
            assert repr(value) == repr(getattr(other, name)), f"{type(one).__name__}.{name}"
    assert set(get_type_hints(CoreMemory)) == set(orjson.loads(pack(core.state())))


def test_a_fork_flies_on_by_itself() -> None:
    """From any tick: what it does changes nothing here, and with the same inputs it is the same."""
    run = VirtualRun(Config(), 6)
    ticks = run.ticks()
    for _ in range(60):
        next(ticks)
    forks = [run.core.fork() for _ in range(2)]
    before = pack(run.core.state())
    now_ns = next(ticks).record.input.now_ns
    state = pack(run.core.state())
    assert state != before
    for _ in range(20):
        forks[0].tick(TickInput(now_ns, (), (Request(RequestKind.STOP),), 60))
    assert forks[0].mode is not run.core.mode
    assert pack(run.core.state()) == state
    for _ in range(100):
        tick = next(ticks)
        run.core.fork()
    assert tick.record.mode is Mode.BALANCE
    assert pack(forks[1].state()) == before
