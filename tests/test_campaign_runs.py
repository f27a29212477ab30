"""The campaign: what a seed means, how a run is judged, what is kept, and what is shrunk."""

from __future__ import annotations

import dataclasses
import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cartpole.campaign import many
from cartpole.campaign.checks import _sure_ends
from cartpole.campaign.draw import RIG, Draw, draw
from cartpole.campaign.figures import figures
from cartpole.campaign.flight import fly
from cartpole.campaign.judge import FINDINGS, Flown
from cartpole.campaign.many import Kept, faults_of, fly_campaign, kept_of, shrink
from cartpole.campaign.strikes import STRIKES, End, chosen
from cartpole.config.schema import Config
from cartpole.control.faults import CATALOGUE
from cartpole.errors import SessionError, UsageError
from cartpole.messages import Mode, PlanStatus, Severity

ALL = chosen(())


def test_a_seed_means_one_thing() -> None:
    assert draw(7, ALL) == draw(7, ALL)
    assert draw(7, ALL) != draw(9, ALL)
    assert draw(8, ALL).strike is None
    assert {draw(k, ALL).strike for k in range(1, 2 * len(ALL), 2)} == set(ALL)


def test_every_draw_is_a_valid_configuration() -> None:
    base = Config()
    for seed in range(200):
        config = draw(seed, ALL).config(base)
        assert config.rig.position_limit_m < config.rig.track_length_m / 2


def test_leaving_one_out_changes_no_other() -> None:
    whole = draw(13, ALL)
    some = whole.keeping(whole.names[:3])
    assert some.names == whole.names[:3]
    assert [p for p in whole.ingredients if p.name in (RIG, *some.names)] == list(some.ingredients)
    assert draw(13, ALL).keeping(()).names == ()


def test_mismatch_is_what_it_says() -> None:
    base, ratios = Config(), []
    for seed in range(100):
        config = draw(seed, ()).config(base)
        assert config.sim.length_m is not None
        ratios.append(config.sim.length_m / config.pole.length_m)
    assert min(ratios) < 0.83
    assert max(ratios) > 1.17
    assert all(0.8 <= ratio <= 1.2 for ratio in ratios)


def test_causes_are_in_the_catalogue() -> None:
    for name, strike in STRIKES.items():
        assert not strike.causes or set(strike.causes) & set(CATALOGUE), name
        flies = {End.RUN, End.REFUSED, End.STOPPED} & set(strike.ends)
        assert strike.causes or flies, f"{name} ends in a fault without a name"


def test_every_fault_that_stops_is_drawn_for() -> None:
    """A fault of the catalogue that no draw can reach is one that no campaign says anything of."""
    named = {cause for strike in STRIKES.values() for cause in strike.causes}
    stops = {name for name, kind in CATALOGUE.items() if kind.severity >= Severity.BRAKE}
    assert stops <= named, stops - named


def test_names_can_be_chosen() -> None:
    assert all("," not in name and faults_of(name) == (name,) for name in STRIKES)


def test_unknown_names_are_told() -> None:
    with pytest.raises(UsageError, match="meteor"):
        faults_of("flash,meteor")
    assert faults_of("garbage, flash") == ("flash", "garbage")
    assert faults_of("none") == ()
    with pytest.raises(UsageError, match="meteor"):
        kept_of(draw(3, ALL), ["meteor"])


# ---- real flights, short because their faults end them ----


def struck(name: str, seed: int = 1) -> Flown:
    """A run with true settings and one fault, early."""
    drawn = Draw(seed, draw(seed, ()).keeping(()).ingredients, name, 0.5, 0.5, 1)
    return fly(drawn, Config())


def still_flown(seed: int) -> Flown:
    """A run with true settings that an operator stops after two seconds."""
    drawn = Draw(seed, draw(seed, ()).keeping(()).ingredients, "asked to stop", 2.0, 0.5, 1)
    return fly(drawn, Config())


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("encoder unplugged", End.BRAKED),
        ("e-stop", End.OFF),
        ("starved", End.BRAKED),
        ("asked to stop", End.STOPPED),
        ("motor reversed", End.REFUSED),
        ("drive runs on", End.OFF),
        ("motor unplugged", End.BRAKED),
        ("only camera unplugged", End.BRAKED),
        ("reader starved", End.BRAKED),
        ("nobody may fly", End.BRAKED),
        ("left outside", End.REFUSED),
    ],
)
def test_faults_end_as_they_must(name: str, end: End) -> None:
    if name == "motor reversed":
        drawn = Draw(1, draw(1, ()).keeping(()).ingredients, name, 0.5, 0.5, 1)
        homing = next(p for s in range(50) for p in draw(s, ()).ingredients if p.name == "homing")
        flown = fly(dataclasses.replace(drawn, ingredients=(*drawn.ingredients, homing)), Config())
    else:
        flown = struck(name)
    assert (flown.end, flown.end_right, flown.cause_right) == (end.value, True, True), flown.why
    assert flown.violations == {}
    assert flown.why == ""


def test_a_digit_that_turned_on_the_drives_line_is_no_command_of_ours() -> None:
    """In one tick of this run the drive hears 1.79 for 1.25 m/s near its end: counted, not held."""
    flown = fly(draw(903292, ALL), Config())
    assert flown.violations == {}, flown.first_violation
    assert sum(flown.left_out.values()) == 1
    assert figures([flown])["left_out"] == flown.left_out


@pytest.mark.parametrize("seed", [900555, 900095])
def test_a_host_that_stood_still_brakes_where_its_board_did(seed: int) -> None:
    """Told to drive on at 1.5 m/s by a late tick, the first cart could have reached its switch; the
    second one's drive was called dead.
    """
    flown = fly(draw(seed, ALL), Config())
    assert (flown.fault, flown.violations) == ("starved", {}), flown.first_violation
    assert flown.why == ""


@pytest.mark.parametrize(("seed", "faults"), [(906717, ALL), (909569, ALL), (920219, ())])
def test_a_model_that_is_still_to_be_learned_accuses_no_stamps(
    seed: int, faults: tuple[str, ...]
) -> None:
    """Worn rigs whose first tenth of a second looks like pictures that are 5 to 7 ms old."""
    flown = fly(draw(seed, faults), Config())
    assert flown.causes == ()


def test_the_same_draw_flies_the_same() -> None:
    one, two = struck("e-stop"), struck("e-stop")
    assert dataclasses.replace(one, wall_s=0.0) == dataclasses.replace(two, wall_s=0.0)


def test_a_core_that_lies_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wire is what counts: a link that sends more than it was told breaks I1."""
    from firmware_bridge.sabertooth_text import SabertoothText

    honest = SabertoothText.encode

    def louder(self: SabertoothText, velocity_m_s: float) -> bytes:
        return honest(self, 1.5 * velocity_m_s)

    monkeypatch.setattr(SabertoothText, "encode", louder)
    assert "I1" in struck("e-stop").violations


def test_a_board_that_drives_on_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """I3: the driver's serial time-out is three times what it should be."""
    from cartpole.sim.boards import SabertoothTextBoard

    assert "I3" not in struck("starved").violations
    honest = SabertoothTextBoard.__init__

    def patient(self: SabertoothTextBoard, *given: Any, **named: Any) -> None:
        honest(self, *given, **named | {"timeout_ns": 3 * named["timeout_ns"]})

    monkeypatch.setattr(SabertoothTextBoard, "__init__", patient)
    assert "I3" in struck("starved").violations


def test_a_limit_taken_over_in_flight_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """I9: nobody refuses what may only change while disarmed."""
    monkeypatch.setattr("cartpole.control.core.refusal", lambda *_: "")
    assert "I9" in still_flown(10).violations


def test_a_weight_taken_over_beside_a_refused_limit_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I9: half of what was asked for."""
    from cartpole.control.core import ControlCore
    from cartpole.messages import Answer, Settings

    def half(self: ControlCore, asked: Settings, _now_ns: int) -> Answer:
        key = "controller.weights.angle"
        values = {**self.settings.values, key: asked.values[key]}
        self.adopt(dataclasses.replace(self.settings, values=values))
        return Answer(False, "the limit only while disarmed")

    monkeypatch.setattr(ControlCore, "_reconfigure", half)
    assert "I9" in still_flown(10).violations


RECORDED = 21


def test_a_recorded_run_holds() -> None:
    flown = still_flown(RECORDED)
    assert flown.violations == {}, flown.first_violation


def test_a_core_that_remembers_elsewhere_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """I8: what is flown depends on something that no recording holds."""
    from cartpole.control.core import ControlCore

    honest, ticks = ControlCore._fly, iter(range(10**6))

    def moody(self: ControlCore, *given: Any) -> Any:
        plan, desired = honest(self, *given)
        return plan, desired * (1.0 - 1e-6 * (next(ticks) % 7))

    monkeypatch.setattr(ControlCore, "_fly", moody)
    assert "I8" in still_flown(RECORDED).violations


def test_a_chunk_that_is_not_on_the_disk_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """I5: a part of each chunk that was closed is missing."""
    from cartpole.session.container import Container

    honest = Container._close_chunk

    def spoilt(self: Container) -> None:
        begin = self._stream.tell()
        honest(self)
        here = self._stream.tell()
        self._stream.seek(begin + (here - begin) // 2)
        self._stream.write(bytes(min(40, (here - begin) // 2)))
        self._stream.seek(here)

    monkeypatch.setattr(Container, "_close_chunk", spoilt)
    assert "I5" in still_flown(RECORDED).violations


# ---- figures ----


def run(seed: int, **changes: object) -> Flown:
    return dataclasses.replace(Flown(seed, ("lag",), None), **changes)  # type: ignore[arg-type]


def test_figures_count() -> None:
    runs = [
        run(0, upright_s=2.0, simulated_s=20.0, wall_s=0.5, modes={"BALANCE": 900}),
        run(2, upright_s=9.0, simulated_s=20.0, wall_s=0.5, why="upright only after 9.0 s"),
        run(4, causes=("camera delay",), why="without a fault: camera delay"),
        run(1, fault="e-stop", end="S0", react_s=0.02, violations={"I2": 3}, why="I2"),
        run(3, fault="flash", end="S1", end_right=False, cause_right=False, why="wrong"),
    ]
    found = figures(runs, ["--set", "pole.length_m=0.4"])
    assert found["runs"] == 5
    assert found["speed_x"] == 40.0
    assert found["violations"]["I2"] == 3
    assert found["violations"]["I7"] == 0
    quiet = found["no_fault"]
    assert (quiet["runs"], quiet["false_faults"]) == (3, 1)
    assert quiet["success_8s"] == pytest.approx(1 / 3)
    assert (found["ends_right"], found["causes_right"]) == (0.5, 0.5)
    assert found["faults_injected"]["flash"] == 1
    assert found["faults_injected"]["garbage"] == 0
    assert set(found["modes_reached"]) == {mode.value for mode in Mode}
    assert set(found["plan_statuses"]) == {status.name for status in PlanStatus}
    assert [failure["seed"] for failure in found["failures"]] == [1, 2, 3, 4]
    first = found["failures"][0]
    assert first["command"].startswith("cartpole campaign --replay 1 --set pole.length_m=0.4")
    assert json.loads(json.dumps(found)) == found


# ---- kept and resumed ----


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seeds: list[int] = []

    def quick(_base: Config, seed: int, _faults: tuple[str, ...]) -> Flown:
        seeds.append(seed)
        return run(seed, upright_s=1.0)

    monkeypatch.setattr(many, "fly_seed", quick)
    return seeds


def test_what_was_flown_is_not_flown_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flown, path = counted(monkeypatch), tmp_path / "runs.jsonl"
    base = Config()
    fly_campaign(base, range(4), ALL, jobs=1, resume=path)
    assert flown == [0, 1, 2, 3]
    # Cut off in the middle of the last line, as by SIGKILL.
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    found = fly_campaign(base, range(6), ALL, jobs=1, resume=path)
    assert flown == [0, 1, 2, 3, 3, 4, 5]
    assert sorted(one.seed for one in found) == list(range(6))
    assert len(path.read_bytes().splitlines()) == 7
    kept = Kept(path, base, ALL)
    kept.close()
    assert fly_campaign(base, range(6), ALL, jobs=1, resume=path) == kept.flown


@pytest.mark.parametrize("text", ["", "no line", "{}\n", '{"campaign": 3}\n', "[1]\n\n"])
def test_a_file_that_is_another_ones_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(text)
    if not text:
        Kept(path, Config(), ALL).close()
        return
    with pytest.raises(SessionError, match=r"runs\.jsonl"):
        Kept(path, Config(), ALL)
    assert path.read_text() == text


def test_a_run_that_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_drawn: Draw, _base: Config) -> Flown:
        assert not gc.isenabled()
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(many, "fly", broken)
    flown = many.fly_drawn(Config(), draw(3, ALL))
    assert flown.why == "ZeroDivisionError: oops"
    assert not flown.end_right
    assert gc.isenabled()  # it waited for the run's end only


def test_a_failing_draw_is_shrunk_to_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw(5, ALL)
    needed = {whole.names[1], whole.names[-1]}

    def fails(_base: Config, drawn: Draw) -> Flown:
        return run(5, why="x" if needed <= set(drawn.names) else "")

    monkeypatch.setattr(many, "fly_drawn", fails)
    assert set(shrink(Config(), whole).names) == needed


def test_all_that_differs_is_a_finding_and_no_fault() -> None:
    assert {name for name in CATALOGUE if name.endswith(" differs")} == FINDINGS


def test_a_chunk_with_a_stamp_from_ahead_holds_no_less_than_those_before_it() -> None:
    ends = np.array([1, 2, 1922, 3, 4])
    assert _sure_ends(ends).tolist() == [1, 2, 2, 3, 4]
