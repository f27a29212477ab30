"""The camera process over a ring: detections in order, orders obeyed, losses told, no orphans."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cartpole.config.schema import Camera
from cartpole.errors import DeviceError
from cartpole.messages import Detection, DetectionHint, DetectionStatus, LinkEvent, LinkState
from cartpole.vision.frame import Frame, Pixels
from cartpole.vision.process import CameraProcess
from cartpole.vision.ring import FrameRing
from cartpole.vision.warm_up import drawn_pole
from cartpole.vision.worker import default_tracker

pytestmark = pytest.mark.realtime

CAMERA = Camera(source="sim", width_px=64, height_px=48)


class BrightnessTracker:
    """Stand-in: tells the mean level as theta, the threshold as confidence, the hint as p."""

    def __init__(self, camera: Camera) -> None:
        self._threshold = camera.threshold

    def set_threshold(self, threshold: int) -> None:
        self._threshold = threshold

    def reset(self) -> None:
        pass

    def detect(
        self, frame: Pixels, t_ns: int, arrival_ns: int, sequence: int, hint: DetectionHint | None
    ) -> Detection:
        return Detection(
            t_ns,
            arrival_ns,
            sequence,
            DetectionStatus.OK,
            theta_rad=float(frame.mean()),
            p_m=-1.0 if hint is None else hint.p_m,
            confidence=float(self._threshold),
            corners_px=((1.0, 2.0), (3.0, 4.0)),
        )


def test_the_warm_up_draws_a_pole_the_tracker_finds() -> None:
    camera = Camera(source="sim")
    for theta_rad in (0.2, 1.4):
        picture = drawn_pole(camera, theta_rad)
        hint = DetectionHint(0, 0.0, 0.0, theta_rad, 0.0, 0.005, 0.02)
        found = default_tracker(camera).detect(picture, 0, 0, 0, hint)
        assert found.status is DetectionStatus.OK
        assert abs(found.theta_rad - theta_rad) < 0.02
        luma = drawn_pole(Camera(source="v4l2"), theta_rad)
        assert luma.strides == (2 * camera.width_px, 2), "laid out as the driver's buffer is"
        np.testing.assert_array_equal(luma, picture)


def broken_tracker(camera: Camera) -> BrightnessTracker:
    raise RuntimeError("no tracker today")


def show(ring: FrameRing, sequence: int, level: int) -> None:
    now_ns = time.monotonic_ns()
    data = np.full((CAMERA.height_px, CAMERA.width_px), level, np.uint8)
    ring.write(Frame(data, now_ns - 4_000_000, now_ns, sequence))


def collect(
    process: CameraProcess,
    until: Callable[[list[Detection | LinkEvent]], bool],
    limit_s: float = 20,
) -> list[Detection | LinkEvent]:
    news: list[Detection | LinkEvent] = []
    end_s = time.monotonic() + limit_s
    while not until(news):
        assert time.monotonic() < end_s, news
        news += process.poll()
        time.sleep(0.002)
    return news


def detections(news: list[Detection | LinkEvent]) -> list[Detection]:
    return [item for item in news if isinstance(item, Detection)]


def states(news: list[Detection | LinkEvent]) -> list[LinkState]:
    return [item.state for item in news if isinstance(item, LinkEvent)]


@pytest.fixture
def rig() -> Iterator[FrameRing]:
    ring = FrameRing(CAMERA.height_px, CAMERA.width_px)
    yield ring
    ring.close()


@pytest.fixture
def process(rig: FrameRing) -> Iterator[CameraProcess]:
    with CameraProcess(CAMERA, rig, tracker=BrightnessTracker) as process:
        process.wait_ready(60.0)
        yield process


def test_measures_obeys_and_survives_an_unplugged_camera(
    rig: FrameRing, process: CameraProcess
) -> None:
    collect(process, lambda news: states(news) == [LinkState.UP])
    show(rig, 100, 7)
    (first,) = detections(collect(process, lambda news: bool(detections(news))))
    assert (first.theta_rad, first.p_m, first.confidence) == (7.0, -1.0, CAMERA.threshold)
    assert first.arrival_ns - first.t_ns == 4_000_000
    assert first.corners_px == ((1.0, 2.0), (3.0, 4.0))

    process.publish_hint(DetectionHint(time.monotonic_ns(), 0.25, 0, 0, 0, 0.01, 0.1))
    process.set_threshold(99)
    show(rig, 102, 8)  # the orders are read before this picture or at the latest before the next
    second = detections(collect(process, lambda news: bool(detections(news))))[-1]
    assert second.sequence == first.sequence + 2, "a gap of the camera stays visible"
    show(rig, 103, 9)
    third = detections(collect(process, lambda news: bool(detections(news))))[-1]
    assert (third.theta_rad, third.p_m, third.confidence) == (9.0, 0.25, 99.0)

    since = process.frames_since(first.sequence)
    assert [frame.sequence for frame in since] == [second.sequence, third.sequence]
    assert (since[-1].data == 9).all()

    rig.set_plugged(False)
    collect(process, lambda news: states(news) == [LinkState.DOWN])
    rig.set_plugged(True)
    collect(process, lambda news: states(news) == [LinkState.UP])
    show(rig, 0, 10)  # a new camera counts from 0 again
    fourth = detections(collect(process, lambda news: bool(detections(news))))[-1]
    assert fourth.sequence > third.sequence
    assert fourth.theta_rad == 10.0


def test_statistics_count_gaps(rig: FrameRing, process: CameraProcess) -> None:
    collect(process, lambda news: states(news) == [LinkState.UP])
    for sequence in (0, 1, 2, 5, 6):
        show(rig, sequence, 1)
        collect(process, lambda news: bool(detections(news)))
    collect(process, lambda news: process.statistics.frames == 5)
    assert process.statistics.gaps == 2
    assert process.statistics.latency_p50_us > 0
    assert process.statistics.rate_hz > 0


def test_a_terminated_process_serves_a_parent_that_still_brakes(
    rig: FrameRing, process: CameraProcess
) -> None:
    inner = process._process
    assert inner is not None
    collect(process, lambda news: states(news) == [LinkState.UP])
    inner.terminate()
    time.sleep(0.2)
    show(rig, 0, 7)
    assert detections(collect(process, lambda news: bool(detections(news))))
    inner.join(30.0)
    assert inner.exitcode is not None, "left alone it ends by itself"


def test_a_killed_process_is_told_once_and_can_be_started_again(
    rig: FrameRing, process: CameraProcess
) -> None:
    inner = process._process
    assert inner is not None
    assert inner.pid is not None
    os.kill(inner.pid, signal.SIGKILL)
    news = collect(process, lambda news: LinkState.DOWN in states(news))
    assert "exit code -9" in str(news[-1])
    assert process.poll() == []
    process.set_threshold(5)  # nobody listens, nobody complains
    process.stop()
    process.start()
    process.wait_ready(60.0)
    assert process.alive


def test_a_tracker_that_fails_to_start_is_one_clear_error(rig: FrameRing) -> None:
    broken = CameraProcess(CAMERA, rig, tracker=broken_tracker)
    broken.start()
    try:
        with pytest.raises(DeviceError, match="no tracker today"):
            broken.wait_ready(60.0)
    finally:
        broken.close()


def _parent(rig: FrameRing, report: multiprocessing.connection.Connection) -> None:
    process = CameraProcess(CAMERA, rig, tracker=BrightnessTracker)
    process.start()
    process.wait_ready(60.0)
    assert process._process is not None
    report.send(process._process.pid)
    time.sleep(60.0)


def test_the_process_dies_with_a_killed_parent(rig: FrameRing) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_parent, args=(rig, theirs))
    parent.start()
    assert ours.poll(60.0)
    pid = ours.recv()
    parent.kill()
    parent.join()
    end_s = time.monotonic() + 10.0
    while running(pid):
        assert time.monotonic() < end_s, "the camera process outlived its parent"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Whether the process is there and no zombie waiting to be collected."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
