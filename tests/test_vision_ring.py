"""The ring of pictures: order, laps, waking, and only whole pictures beside a racing writer."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from cartpole.errors import DeviceLost, DeviceNotFound
from cartpole.vision.frame import Frame
from cartpole.vision.ring import FrameRing
from cartpole.vision.ring_source import RingSource

H, W = 24, 32


def picture(number: int) -> Frame:
    return Frame(np.full((H, W), number % 251, np.uint8), number * 10, number * 10 + 1, number)


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    ring = FrameRing(H, W, 4)
    yield ring
    ring.close()


def test_newest_is_the_last_written_and_is_handed_out_once(ring: FrameRing) -> None:
    assert ring.newest() is None
    for number in range(7):
        ring.write(picture(number))
    found = ring.newest()
    assert found is not None
    end, frame = found
    assert (end, frame.sequence, frame.t_ns, frame.arrival_ns) == (7, 6, 60, 61)
    assert (frame.data == 6).all()
    assert ring.newest(end) is None


def test_a_copy_outlives_the_slot(ring: FrameRing) -> None:
    ring.write(picture(1))
    found = ring.newest()
    assert found is not None
    for number in range(2, 12):
        ring.write(picture(number))
    assert (found[1].data == 1).all()
    assert ring.read(0) is None


def test_since_gives_what_is_still_held_in_order(ring: FrameRing) -> None:
    for number in range(10):
        ring.write(picture(number))
    assert [frame.sequence for frame in ring.since(-1)] == [7, 8, 9]
    assert [frame.sequence for frame in ring.since(8)] == [9]


def test_strided_pictures_are_stored(ring: FrameRing) -> None:
    yuyv = np.arange(H * W * 2, dtype=np.uint64).astype(np.uint8).reshape(H, W * 2)
    ring.write(Frame(yuyv[:, ::2], 1, 2, 3))
    found = ring.newest()
    assert found is not None
    np.testing.assert_array_equal(found[1].data, yuyv[:, ::2])


def test_wrong_size_is_refused(ring: FrameRing) -> None:
    with pytest.raises(ValueError, match="picture of"):
        ring.write(Frame(np.zeros((H, W + 1), np.uint8), 0, 0, 0))


def test_no_torn_picture_under_a_racing_writer(ring: FrameRing) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            ring.write(picture(number))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = 0
        end_s = time.monotonic() + 20.0
        while seen < 300 and time.monotonic() < end_s:
            found = ring.newest()
            if found is not None:
                frame = found[1]
                assert (frame.data == frame.sequence % 251).all()
                assert frame.t_ns == 10 * frame.sequence
                seen += 1
    finally:
        stop.set()
        thread.join()
    assert seen == 300


def _write_from_elsewhere(ring: FrameRing) -> None:
    for number in range(5, 8):
        ring.write(picture(number))


def test_another_process_writes_and_wakes_us(ring: FrameRing) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_write_from_elsewhere, args=(ring,))
    child.start()
    assert ring.wait(30.0)
    child.join(30.0)
    assert child.exitcode == 0
    assert [frame.sequence for frame in ring.since(-1)] == [5, 6, 7]


def test_source_skips_to_the_newest_and_counts(ring: FrameRing) -> None:
    source = RingSource(ring)
    source.open()
    now_ns = time.monotonic_ns()
    for sequence in (0, 1, 2, 6):
        ring.write(Frame(picture(0).data, now_ns, now_ns, sequence))
    frame = source.read_latest(10.0, 0.0)
    assert frame is not None
    assert frame.sequence == 6
    assert source.counters.skipped == 3
    ring.write(Frame(picture(0).data, now_ns, now_ns, 9))
    assert source.read_latest(10.0, 0.0) is not None
    assert source.counters.gaps == 2
    assert source.read_latest(10.0, 0.0) is None


def test_source_throws_old_pictures_away(ring: FrameRing) -> None:
    source = RingSource(ring)
    source.open()
    ring.write(Frame(picture(0).data, time.monotonic_ns() - 300_000_000, 0, 0))
    assert source.read_latest(0.1, 0.0) is None
    assert source.counters.stale == 1


def test_source_loses_and_finds_the_simulated_camera(ring: FrameRing) -> None:
    source = RingSource(ring)
    source.open()
    ring.set_plugged(False)
    with pytest.raises(DeviceLost):
        source.read_latest(1.0, 1.0)
    with pytest.raises(DeviceNotFound):
        source.open()
    ring.set_plugged(True)
    source.open()
    now_ns = time.monotonic_ns()
    ring.write(Frame(picture(3).data, now_ns, now_ns, 3))
    assert source.read_latest(10.0, 1.0) is not None
