"""The alignment view: files that open, a rectangle where the pole is, advice that fits."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np

from cartpole.config.schema import Camera
from cartpole.messages import DetectionStatus
from cartpole.vision.alignment import AlignmentReport, watch
from cartpole.vision.frame import Frame
from cartpole.vision.sources import FakeSource
from cartpole.vision.warm_up import drawn_pole
from cartpole.vision.worker import default_tracker

CAMERA = Camera(source="sim")
PERIOD_NS = 6_666_667


def frames(pictures: list[np.ndarray]) -> list[Frame]:
    return [
        Frame(picture, index * PERIOD_NS, index * PERIOD_NS, index)
        for index, picture in enumerate(pictures)
    ]


def look(pictures: list[np.ndarray], folder: Path) -> AlignmentReport:
    source = FakeSource(frames(pictures))
    source.open()
    clock = itertools.count(0, PERIOD_NS)
    return watch(
        source,
        default_tracker(CAMERA),
        CAMERA,
        folder,
        (len(pictures) + 2) * PERIOD_NS * 1e-9,
        clock_ns=lambda: next(clock),
    )


def test_writes_a_film_and_a_picture_with_the_rectangle(tmp_path: Path) -> None:
    report = look([drawn_pole(CAMERA, 0.01 * number) for number in range(30)], tmp_path)
    assert report.frames == 30
    assert abs(report.rate_hz - 150.0) < 0.1
    assert report.found == {DetectionStatus.OK.name: 30}
    assert report.brightest >= 200 > report.threshold > report.background
    assert "every picture" in report.advice()
    view = cv2.imread(str(tmp_path / "alignment.png"))
    assert view is not None
    assert view.shape == (2 * 240 + 120, 2 * 320, 3)
    green = (view[:480, :, 1] > 200) & (view[:480, :, 0] < 120) & (view[:480, :, 2] < 120)
    rows, columns = np.nonzero(green)
    assert abs(np.median(columns) - 320) < 60, "hanging in the middle"
    assert rows.min() > 230, "below its pivot"
    film = cv2.VideoCapture(str(tmp_path / "alignment.avi"))
    assert film.isOpened()
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) >= 4
    film.release()


def test_advice_for_darkness_and_glare(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    dark = [rng.integers(0, 20, (240, 320), dtype=np.uint8) for _ in range(3)]
    assert "ring light" in look(dark, tmp_path).advice()
    glare = [rng.integers(200, 256, (240, 320), dtype=np.uint8) for _ in range(3)]
    assert "too bright" in look(glare, tmp_path).advice()


def test_no_pictures(tmp_path: Path) -> None:
    report = look([], tmp_path)
    assert report.frames == 0
    assert "cable" in report.advice()
