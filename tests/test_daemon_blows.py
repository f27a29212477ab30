"""The real daemon struck in mid-flight: the short form of `make blows` (tests/blows)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
from blows import run, scenes
from blows.stand import Moment, Stand

from cartpole.config.schema import Config
from cartpole.errors import CartpoleError

realtime = pytest.mark.realtime


def struck(folder: Path, scene: Callable[[Stand], scenes.Figures]) -> scenes.Figures:
    """One scene on text boards; AssertionError with its figures if anything did not hold."""
    with Stand(folder) as stand:
        found = scene(stand)
    assert found["wrong"] == "", found
    return found


def test_what_did_not_hold_is_told() -> None:
    good = {"rest_s": 0.3, "allowed_s": 0.3, "clear_mm": 6.0, "again": ""}
    assert scenes.at_rest_in_time(good) == ""
    assert "allowed" in scenes.at_rest_in_time(good | {"rest_s": 0.35})
    assert "switch" in scenes.at_rest_in_time(good | {"clear_mm": 4.0})
    assert "told" in scenes.at_rest_in_time(good | {"again": "the drive was told 0.1 m/s"})


@dataclass
class Seen:
    """What ``rest`` needs of a stand: moments a millisecond apart from time zero on."""

    moments: list[Moment]
    clear_m: float = 0.1
    config: Config = field(default_factory=Config)

    @property
    def rig(self) -> Seen:
        return self

    held = (0.0, 0.0)

    def since(self, t_ns: int) -> list[Moment]:
        return [one for one in self.moments if one.t_ns >= t_ns]


def stopped(after: Callable[[int], tuple[float, float]]) -> scenes.Figures:
    """A cart that stands from 200 ms on; ``after`` gives (speed, what the drive is told) then."""
    moments, p = [], 0.0
    for ms in range(1400):
        v, told = (0.5, 0.5 if ms < 100 else 0.0) if ms < 200 else after(ms)
        p += 1e-3 * v
        moments.append(Moment(ms * 1_000_000, p, v, 0.0, 0.0, told))
    return scenes.rest(cast("Stand", Seen(moments)), 0)


def test_a_tremble_is_told_from_a_cart_that_moves_again() -> None:
    still = stopped(lambda ms: (0.035 if ms == 1025 else 0.008 * (-1) ** ms, 0.0))
    assert (still["rest_s"], still["told_s"], still["trembled_s"]) == (0.2, 0.099, 1.025)
    assert still["again"] == ""
    driven = stopped(lambda ms: (0.0, 0.02 if ms == 1025 else 0.0))
    assert driven["again"] == "the drive was told 0.020 m/s"
    assert stopped(lambda ms: (0.1 if 1000 < ms < 1100 else 0.0, 0.0))["again"] != ""
    assert stopped(lambda _ms: (0.025, 0.0))["again"] != ""  # it creeps away


def test_a_zero_that_a_balancing_cart_is_told_is_no_rest_yet() -> None:
    """What was on its way before the blow may still act; what comes after the board's time not."""
    config = Seen([]).config
    acts_ns = round((scenes.BOARD_S + config.motor.delay_s) * 1e9)

    def moments(late_ns: int) -> list[Moment]:
        told = {10: 0.0, 20: 0.003, (acts_ns + late_ns) // 1_000_000: 0.003}
        return [Moment(ms * 1_000_000, 0.0, 0.0, 0.0, 0.0, told.get(ms, 0.0)) for ms in range(1400)]

    within = scenes.rest(cast("Stand", Seen(moments(-2_000_000))), 0)
    assert within["again"] == ""
    assert within["rest_s"] <= scenes.BOARD_S + config.motor.delay_s
    after = scenes.rest(cast("Stand", Seen(moments(2_000_000))), 0)
    assert after["again"] == "the drive was told 0.003 m/s"


def test_a_campaign_that_was_cut_off_runs_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flown: list[tuple[str, str, int]] = []

    def fly(scene: str, protocol: str, number: int) -> scenes.Figures:
        flown.append((scene, protocol, number))
        return {"wrong": ""}

    monkeypatch.setattr(run, "fly", fly)
    path, every = tmp_path / "blows.jsonl", run.planned(7)
    run.work(run.planned(7), path, 0, 3, time.monotonic() + 60.0)
    path.write_text(path.read_text() + '{"scene": "kil')  # cut off in the middle of a line
    for lane in range(3):
        run.work(run.planned(7), path, lane, 3, time.monotonic() + 60.0)
    assert sorted(flown) == sorted(every)
    run.work(run.planned(9), path, 0, 1, time.monotonic() - 1.0)  # no time left
    assert len(flown) == len(every)


@realtime
def test_sigkill_loses_a_fifth_of_a_second_and_the_cart_comes_to_rest(tmp_path: Path) -> None:
    struck(tmp_path, lambda stand: scenes.killed(stand, 0.35))


@realtime
def test_sigterm_in_mid_swing_brakes_first(tmp_path: Path) -> None:
    struck(tmp_path, scenes.terminated)


@realtime
def test_sighup_with_nonsense_changes_nothing(tmp_path: Path) -> None:
    struck(tmp_path, scenes.told_nonsense)


@realtime
def test_a_daemon_that_was_held_for_half_a_second_stops_by_name(tmp_path: Path) -> None:
    found = struck(tmp_path, lambda stand: scenes.held(stand, 0.5))
    assert found["mode"] == "FAULT"


@realtime
def test_a_second_daemon_is_refused(tmp_path: Path) -> None:
    struck(tmp_path, scenes.two_daemons)


@realtime
def test_an_encoder_back_on_another_node_needs_a_person(tmp_path: Path) -> None:
    struck(tmp_path, scenes.another_node)


@realtime
def test_a_full_disk_ends_the_recording_alone(tmp_path: Path) -> None:
    try:
        with scenes.small_disk(tmp_path):
            struck(tmp_path, scenes.full_disk)
    except CartpoleError as error:
        pytest.skip(str(error))


@realtime
@pytest.mark.parametrize("flood", [scenes.garbage, scenes.asking])
def test_a_flood_neither_starves_nor_fattens_the_loop(
    tmp_path: Path, flood: Callable[[Stand], object]
) -> None:
    struck(tmp_path, lambda stand: scenes.flooded(stand, flood))
