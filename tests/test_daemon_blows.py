"""The real daemon struck in mid-flight: the short form of `make blows` (tests/blows)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from blows import run, scenes
from blows.stand import Stand

from cartpole.errors import CartpoleError

realtime = pytest.mark.realtime


def struck(folder: Path, scene: Callable[[Stand], scenes.Figures]) -> scenes.Figures:
    """One scene on text boards; AssertionError with its figures if anything did not hold."""
    with Stand(folder) as stand:
        found = scene(stand)
    assert found["wrong"] == "", found
    return found


def test_what_did_not_hold_is_told() -> None:
    good = {"rest_s": 0.3, "allowed_s": 0.3, "clear_mm": 6.0}
    assert scenes.at_rest_in_time(good) == ""
    assert "allowed" in scenes.at_rest_in_time(good | {"rest_s": 0.35})
    assert "switch" in scenes.at_rest_in_time(good | {"clear_mm": 4.0})


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
