"""Pictures that are not one picture of the pole are refused for that reason."""

import math

import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, DetectionHint, DetectionStatus, FloatArray
from cartpole.sim.render import Renderer
from cartpole.vision import slices
from cartpole.vision.change import change
from cartpole.vision.seam import has_seam
from cartpole.vision.slices import ODD_SLICES, OPTICS_SIZE
from cartpole.vision.tracker import Tracker
from cartpole.vision.verdict import AS_MUCH, CHANGE, ODD_ALIKE, ODD_SHARE, odd

T0 = NANOSECONDS
STATES = ((0.0, 0.3, 0.4, 6.0), (0.1, -0.2, 2.6, -8.0), (-0.1, 0.0, -2.2, 9.0))


def hint_at(state: tuple[float, float, float, float]) -> DetectionHint:
    p, v, theta, omega = state
    return DetectionHint(T0, p, v, theta, omega, 0.003, 0.03)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("old_above", [True, False])
def test_torn_pictures_are_refused(
    state: tuple[float, float, float, float], old_above: bool
) -> None:
    renderer = Renderer(Camera(), seed=1)
    p, v, theta, omega = state
    new = renderer.render(state)
    old = renderer.render((p - v / 150, v, theta - omega / 150, omega))
    lit = np.nonzero((new > 100).any(axis=1))[0]
    for share in (0.25, 0.35, 0.5, 0.65, 0.75):
        row = int(lit[0] + share * (lit[-1] - lit[0]))
        upper, lower = (old, new) if old_above else (new, old)
        torn = np.vstack([upper[:row], lower[row:]])
        found = Tracker(Camera()).detect(torn, T0, T0, 0, hint_at(state))
        assert found.status is DetectionStatus.MISFIT
        assert found.sigma_theta_rad == math.inf


@pytest.mark.parametrize("hinted", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_half_a_picture_is_refused(state: tuple[float, float, float, float], hinted: bool) -> None:
    half = Renderer(Camera(), seed=1).render(state)
    lit = np.nonzero((half > 100).any(axis=1))[0]
    half[int(0.5 * (lit[0] + lit[-1])) :] = 0
    hint = hint_at(state) if hinted else None
    found = Tracker(Camera()).detect(half, T0, T0, 0, hint)
    assert found.status is DetectionStatus.MISFIT


def test_a_tape_in_two_parts_is_one_tape() -> None:
    state = (0.0, 0.0, 0.5, 0.0)
    renderer = Renderer(Camera(), seed=1)
    frame, empty = renderer.render(state), renderer.render((5.0, 0.0, 0.0, 0.0))
    rows, columns = np.mgrid[0:240, 0:320]
    x, y = (columns - 160) / 180 - state[0], -(rows - 120) / 180
    along = x * math.sin(state[2]) - y * math.cos(state[2])
    # A thing in front of it, with an edge as soft as the lens draws it.
    share = np.clip(0.5 + (np.abs(along - 0.25) - 0.06) * 180 / 2.2, 0.0, 1.0)
    covered = (share * frame + (1.0 - share) * empty).astype(np.uint8)
    tracker = Tracker(Camera())
    found = tracker.detect(covered, T0, T0, 0, hint_at(state))
    assert found.status is DetectionStatus.OK
    assert abs(found.theta_rad - state[2]) < 4.0 * found.sigma_theta_rad < 2e-3
    assert abs(found.p_m - state[0]) < 5e-4


def test_a_rolling_shutter_shows_the_rate() -> None:
    errors, sigmas = [], []
    camera = Camera(readout_s=0.03)
    renderer = Renderer(camera, seed=3)
    for k in range(40):
        state = (0.0, 0.0, math.pi + 0.01 * (k - 20), 0.1 * (k - 20))
        found = Tracker(camera).detect(renderer.render(state), T0, T0, 0, hint_at(state))
        assert found.status is DetectionStatus.OK
        errors.append(found.omega_rad_s - state[3])
        sigmas.append(found.sigma_omega_rad_s)
    assert np.median(sigmas) < 0.12
    normalised = np.array(errors) / np.array(sigmas)
    assert 0.6 < np.sqrt(np.mean(normalised**2)) < 1.5


def test_no_rate_without_a_rolling_shutter() -> None:
    camera = Camera(readout_s=0.0)
    state = (0.0, 0.0, 2.5, 3.0)
    found = Tracker(camera).detect(Renderer(camera).render(state), T0, T0, 0, hint_at(state))
    assert found.status is DetectionStatus.OK
    assert (found.omega_rad_s, found.sigma_omega_rad_s) == (0.0, math.inf)


def test_one_odd_picture_is_refused_a_crooked_tape_is_not() -> None:
    optics = np.zeros(OPTICS_SIZE)

    def is_odd(share: float) -> bool:
        mark = math.log(share)
        return bool(odd(share, ODD_SHARE, mark, AS_MUCH, ODD_SLICES, optics))

    assert not is_odd(0.01)
    seen = [is_odd(0.1) for _ in range(40)]
    assert seen == [True] * ODD_ALIKE + [False] * (40 - ODD_ALIKE)
    assert is_odd(0.4)
    assert all(is_odd(share) for share in (1.5, 5.0) * 40)  # no two alike: no crooked tape


def strip_of(axis: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """Table and report of a strip whose axis (n,) is seen with a noise of .03 px."""
    n = len(axis)
    table, report = np.zeros((n, slices.TABLE_COLUMNS)), np.zeros(slices.REPORT_SIZE)
    table[:, slices.PLACE] = np.arange(n)
    table[:, slices.CENTROID] = axis + np.random.default_rng(seed).normal(0.0, 0.03, n)
    table[:, slices.WEIGHT] = 1.0
    report[slices.SLICES], report[slices.MIDDLE] = n, 0.5 * n
    return table, report


def test_a_break_is_no_bend() -> None:
    u = np.linspace(-1.0, 1.0, 110)
    smooth = 3.0 * u**2 - 2.0 * u**3 + 0.05 * u**4  # a rolling shutter that the settings deny
    for seed in range(50):
        bent, broken = strip_of(smooth, seed), strip_of(smooth + 0.5 * (u > 0.3), seed)
        scratch = np.zeros(3 * 110)
        better, _ = change(*bent, 0.0, scratch)
        assert math.sqrt(better) < CHANGE
        better, place = change(*broken, 0.0, scratch)
        assert math.sqrt(better) > CHANGE
        assert abs(place - 71) <= 2  # the first slice beyond .3


def rendered(camera: Camera, state: tuple[float, float, float, float]) -> DetectionStatus:
    """What a tracker that takes the camera for another one says of its picture."""
    frame = Renderer(camera, seed=1).render(state)
    return Tracker(Camera(readout_s=0.0)).detect(frame, T0, T0, 0, hint_at(state)).status


def test_a_fast_pole_through_another_shutter_is_not_torn() -> None:
    statuses = [
        rendered(Camera(readout_s=0.0053), (0.0, 0.5, theta, omega))
        for theta in (-2.5, -1.2, 0.1, 0.7, 1.9, 3.0)
        for omega in (-14.0, 11.0)
    ]
    assert statuses.count(DetectionStatus.MISFIT) == 0


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_tear_of_half_a_degree_is_refused(share: float) -> None:
    """What was seen of a slow pole a picture ago is less than two pixels off."""
    renderer, state = Renderer(Camera(), seed=1), (0.0, 0.1, 0.4, 1.5)
    p, v, theta, omega = state
    new, old = renderer.render(state), renderer.render((p - v / 150, v, theta - omega / 150, omega))
    lit = np.nonzero((new > 100).any(axis=1))[0]
    row = int(lit[0] + share * (lit[-1] - lit[0]))
    torn = np.vstack([old[:row], new[row:]])
    assert (
        Tracker(Camera()).detect(torn, T0, T0, 0, hint_at(state)).status is DetectionStatus.MISFIT
    )


@pytest.mark.parametrize("omega", [-9.0, 7.0])
def test_a_pole_as_it_was_a_picture_ago_with_its_end_cut_off_is_refused(omega: float) -> None:
    renderer, state = Renderer(Camera(), seed=1), (0.0, 0.2, 1.2, omega)
    p, v, theta, _ = state
    new, old = renderer.render(state), renderer.render((p - v / 150, v, theta - omega / 150, omega))
    lit = np.nonzero((old > 100).any(axis=1))[0]
    for share in (0.75, 0.85):
        row = int(lit[0] + share * (lit[-1] - lit[0]))
        torn = np.vstack([old[:row], new[row:]])
        hint = hint_at((p, v, theta - omega / 150, omega))  # which fits the older one
        found = Tracker(Camera()).detect(torn, T0, T0, 0, hint)
        assert found.status is DetectionStatus.MISFIT


def test_another_width_is_odd_until_it_stays() -> None:
    camera = Camera()
    wide = Camera(tape_width_m=1.4 * camera.tape_width_m)
    tracker, state = Tracker(camera), (0.0, 0.0, 0.4, 0.0)
    hint = hint_at(state)
    narrow, other = Renderer(camera, seed=1), Renderer(wide, seed=1)
    for _ in range(8):
        assert tracker.detect(narrow.render(state), T0, T0, 0, hint).status is DetectionStatus.OK
    seen = [tracker.detect(other.render(state), T0, T0, 0, hint).status for _ in range(30)]
    assert seen[0] is DetectionStatus.MISFIT
    assert seen[-1] is DetectionStatus.OK


def torn_at(
    state: tuple[float, float, float, float], share: float, old_above: bool, old_hint: bool = False
) -> DetectionStatus:
    """What a new tracker says of a picture torn there, whose other part is a picture older."""
    renderer, (p, v, theta, omega) = Renderer(Camera(), seed=1), state
    before = (p - v / 150, v, theta - omega / 150, omega)
    new, old = renderer.render(state), renderer.render(before)
    lit = np.nonzero((new > 100).any(axis=1))[0]
    row = int(lit[0] + share * (lit[-1] - lit[0]))
    upper, lower = (old, new) if old_above else (new, old)
    torn = np.vstack([upper[:row], lower[row:]])
    hint = hint_at(before if old_hint else state)
    return Tracker(Camera()).detect(torn, T0, T0, 0, hint).status


@pytest.mark.parametrize("share", [0.11, 0.2])
def test_the_corner_of_another_picture_beside_a_whole_pole_is_refused(share: float) -> None:
    state = (0.0, 0.2, 1.68, 11.0)  # nearly level: a line cuts it lengthwise
    assert torn_at(state, share, False, old_hint=True) is DetectionStatus.MISFIT


def test_edges_as_sharp_as_the_optics_are_no_seam() -> None:
    """A strip whose edges fall between two lines, seen by optics of several kinds."""
    report = np.zeros(slices.REPORT_SIZE)
    report[slices.MIDDLE], report[slices.LIGHT], report[slices.GROUND_NOISE] = 50.0, 180.0, 0.3
    report[slices.LINE_A] = 29.5
    rows = np.arange(60.0)[:, None]
    for blur in (0.7, 1.2, 1.7, 4.0):
        edges = [np.clip((rows - at) / blur, -1.0, 1.0) for at in (25.5, 33.5)]
        low, high = (0.5 + t * (0.9375 - t**2 * (0.625 - t**2 * 0.1875)) for t in edges)
        frame = np.rint(15.0 + 180.0 * (low - high)) * np.ones(100)
        report[slices.BLUR] = blur
        assert not has_seam(frame.astype(np.uint8), report, 5.0, 95.0, 20.0)
        torn = frame.copy()
        torn[:22, 60:80] = 195.0  # ends within one line
        torn[18, 60:80] = 15.0
        assert has_seam(torn.astype(np.uint8), report, 5.0, 95.0, 20.0) is (blur > 1.0)


@pytest.mark.parametrize(
    ("state", "share"), [((0.0, 0.1, 1.0, 2.0), 0.15), ((0.0, 0.1, -2.2, 0.75), 0.6)]
)
def test_a_tear_of_some_tenths_of_a_degree_is_refused(
    state: tuple[float, float, float, float], share: float
) -> None:
    """A change of curve that is too small to be told from the raster's where a strip lies along it,
    and a smaller one of an axis that is no straight pole's."""
    assert torn_at(state, share, True) is DetectionStatus.MISFIT


def test_what_is_half_as_wide_again_as_the_tape_is_not_found_without_a_hint() -> None:
    camera = Camera()
    wide = Camera(tape_width_m=1.5 * camera.tape_width_m)
    for seen, status in ((camera, DetectionStatus.OK), (wide, DetectionStatus.MISFIT)):
        frame = Renderer(seen, seed=1).render((0.0, 0.0, 0.4, 0.0))
        assert Tracker(camera).detect(frame, T0, T0, 0).status is status
