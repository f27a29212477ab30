"""Pictures measured again and again: where the answers meet is found, not only come nearer to."""

from __future__ import annotations

from calibration.passes import LENS, PLANE, fit_pictures, meeting
from calibration.recording import Recording
from calibration.result import CalibrationResult, Estimate
from calibration.sight import Pictures, Sight
from cartpole.config.load import load_config
from cartpole.config.schema import Camera, Config

TRUTH, HALF = -0.03, 0.004
CONFIG = load_config(None, ["camera.lens_k1=-0.08"])


class Kept(Pictures):
    """None at all: the fits here ask for none."""

    def sight(self, camera: Camera) -> Sight:
        return None  # type: ignore[return-value]


def looked(slope: float) -> tuple[Estimate, int]:
    """The lens found where each answer is wrong by ``slope`` of what went in, and after how many
    passes."""
    passes = 0

    def answer(_recording: Recording, config: Config) -> CalibrationResult:
        nonlocal passes
        passes += 1
        lens = TRUTH + slope * (config.camera.lens_k1 - TRUTH)
        found = Estimate(lens, (lens - HALF, lens + HALF), "1")
        return CalibrationResult({LENS: found}, 1.0)

    pictures = Kept((), CONFIG.camera, 0)
    result = fit_pictures(answer, Recording("r", "", pictures=pictures), CONFIG)
    return result.estimates[LENS], passes


def test_answers_that_swing_about_the_truth_end_there() -> None:
    """A short pole's small swing: each pass was as wrong as the one before, to the other side."""
    for slope in (-0.84, -1.1, 0.6):
        found, passes = looked(slope)
        assert abs(found.value - TRUTH) < 0.2 * HALF
        assert passes <= 5


def test_the_plane_goes_along_with_the_lens() -> None:
    plane = CONFIG.camera.homography
    doubled = tuple(2.0 * one for one in plane)
    moved = tuple(one + 0.5 for one in plane[:8]) + (plane[8],)
    first = ({LENS: 0.0, PLANE: plane}, {LENS: 1.0, PLANE: plane})
    second = ({LENS: 1.0, PLANE: doubled}, {LENS: 0.0, PLANE: moved})
    there = meeting([first, second])
    assert abs(there[LENS] - 0.5) < 1e-12
    assert all(
        abs(found - (one + 0.25)) < 1e-9
        for found, one in zip(there[PLANE][:8], plane[:8], strict=True)
    )
    assert meeting([first]) == {}


def test_a_lens_that_still_moves_is_known_no_better_than_by_how_much() -> None:
    calls = 0

    def restless(_recording: Recording, config: Config) -> CalibrationResult:
        nonlocal calls
        calls += 1
        lens = TRUTH + (0.01 if calls % 2 else -0.01)
        return CalibrationResult({LENS: Estimate(lens, (lens - HALF, lens + HALF), "1")}, 1.0)

    pictures = Kept((), CONFIG.camera, 0)
    result = fit_pictures(restless, Recording("r", "", pictures=pictures), CONFIG)
    low, high = result.estimates[LENS].ci95
    assert low <= TRUTH <= high
    assert high - low > 2.0 * HALF


def test_a_tape_that_looks_longer_than_it_is_said_to_be_is_believed_and_told() -> None:
    seen: list[float] = []

    def answer(_recording: Recording, config: Config) -> CalibrationResult:
        seen.append(config.camera.tape_end_m)
        lens = Estimate(TRUTH, (TRUTH - HALF, TRUTH + HALF), "1")
        longer = {"camera.tape_start_m": 0.033, "camera.tape_end_m": 0.528}
        return CalibrationResult({LENS: lens}, 1.0, aside=longer)

    pictures = Kept((), CONFIG.camera, 0)
    result = fit_pictures(answer, Recording("r", "", pictures=pictures), CONFIG)
    assert seen == [0.48, 0.528]
    assert "the tape is 1.100 times as long" in result.notes[-1]
    assert "camera.tape_end_m" not in result.settings()
