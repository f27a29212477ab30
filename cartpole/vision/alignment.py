"""Pictures for setting a camera up: what it sees, what the tracker finds in it, and how it runs.

Written to files, so a rig without a screen can be aligned from anywhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cartpole.config.schema import Camera
from cartpole.errors import IdentificationError
from cartpole.messages import Detection, DetectionStatus
from cartpole.vision.exposure import advice, propose
from cartpole.vision.frame import Frame, Pixels
from cartpole.vision.levels import MAX_PICTURES, measure_levels
from cartpole.vision.source import CameraSource, SourceCounters
from cartpole.vision.warm_up import FrameTracker

_SCALE = 2  # of the picture
_PANEL_PX = 120  # histogram and figures below it
_LINE_PX = 16
_BINS = 64
_FOUND, _LOST, _ABOVE, _INK = (80, 220, 80), (60, 60, 255), (255, 160, 0), (230, 230, 230)  # BGR


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """How the camera did while it was watched."""

    frames: int
    rate_hz: float
    gaps: int
    skipped: int
    found: dict[str, int]  # pictures by what the tracker said of them
    brightest: int  # 99.9th percentile of the last picture
    background: int  # median of the last picture
    threshold: int
    tape: int | None = None  # the tape's own level; None if it cannot be told from the ground
    proposal: str = ""  # exposure, gain and threshold that suit tape and ground better

    def advice(self) -> str:
        """One line: what to change, or that all is well."""
        if not self.frames:
            return "no pictures: check the cable"
        if self.proposal:
            return self.proposal
        if self.brightest >= 254 and self.background > 0.5 * self.threshold:
            return "the picture is too bright: lower camera.exposure or camera.gain"
        if self.brightest < self.threshold:
            return "nothing is brighter than camera.threshold: is the ring light on?"
        if self.found.get(DetectionStatus.OK.name, 0) < 0.95 * self.frames:
            return "the pole is not found in every picture: look for reflections, check the lens"
        return "the pole is found in every picture"


def watch(
    source: CameraSource,
    tracker: FrameTracker,
    camera: Camera,
    folder: Path,
    duration_s: float,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> AlignmentReport:
    """Watch for ``duration_s`` and write ``alignment.avi`` and ``alignment.png`` into ``folder``.

    The source must be open. Raises ``DeviceLost`` from the source, ``OSError`` for the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, int] = {}
    times: list[int] = []
    picture: Pixels | None = None
    kept = _Kept()
    view: Any = None
    film: Any = None
    film_hz = min(25.0, camera.rate_hz)
    film_due_ns = 0
    end_ns = clock_ns() + int(duration_s * 1e9)
    try:
        while clock_ns() < end_ns:
            frame = source.read_latest(0.5, 0.1)
            if frame is None:
                continue
            detection = _detect(tracker, frame)
            found[detection.status.name] = found.get(detection.status.name, 0) + 1
            times.append(frame.t_ns)
            picture = frame.data
            if frame.t_ns < film_due_ns:
                continue
            film_due_ns = frame.t_ns + int(1e9 / film_hz)
            kept.add(frame.data, detection)
            view = draw(frame, detection, camera.threshold, _figures(times, source.counters))
            if film is None:
                film = _film(folder / "alignment.avi", film_hz, view)
            film.write(view)
    finally:
        if film is not None:
            film.release()
    if view is not None:
        _write(folder / "alignment.png", view)
    tape, proposal = _look_at_levels(kept, camera)
    return AlignmentReport(
        frames=len(times),
        rate_hz=rate(times),
        gaps=source.counters.gaps,
        skipped=source.counters.skipped,
        found=found,
        brightest=0 if picture is None else int(np.percentile(picture, 99.9)),
        background=0 if picture is None else int(np.median(picture)),
        threshold=camera.threshold,
        tape=tape,
        proposal=proposal,
    )


class _Kept:
    """Copies of pictures spread over all that were added, at most 2 MAX_PICTURES."""

    def __init__(self) -> None:
        self.pictures: list[Pixels] = []
        self.detections: list[Detection] = []
        self._every = 1
        self._added = 0

    def add(self, picture: Pixels, detection: Detection) -> None:
        if self._added % self._every == 0:
            self.pictures.append(np.array(picture))
            self.detections.append(detection)
        self._added += 1
        if len(self.pictures) == 2 * MAX_PICTURES:
            self.pictures, self.detections = self.pictures[::2], self.detections[::2]
            self._every *= 2


def _look_at_levels(kept: _Kept, camera: Camera) -> tuple[int | None, str]:
    """The tape's level and what to change; (None, "") if there is no telling."""
    try:
        levels = measure_levels(kept.pictures, kept.detections)
    except IdentificationError:
        return None, ""
    return round(levels.tape_dn), advice(levels, propose(levels, camera), camera)


def _detect(tracker: FrameTracker, frame: Frame) -> Detection:
    return tracker.detect(frame.data, frame.t_ns, frame.arrival_ns, frame.sequence, None)


def rate(times_ns: list[int]) -> float:
    """Pictures a second; 0 for fewer than two."""
    if len(times_ns) < 2:
        return 0.0
    return (len(times_ns) - 1) * 1e9 / max(1, times_ns[-1] - times_ns[0])


def _figures(times_ns: list[int], counters: SourceCounters) -> str:
    return f"{rate(times_ns[-64:]):.1f} frames/s  {counters.gaps} lost  {counters.skipped} skipped"


def draw(frame: Frame, detection: Detection, threshold: int, figures: str) -> Any:
    """The view as a BGR picture (2 height + panel, 2 width, 3).

    The picture with pixels above the threshold tinted, the rectangle that was found, and below it
    the histogram of grey levels with the threshold and two lines of figures.
    """
    grey = np.ascontiguousarray(frame.data)
    view = tinted(grey, threshold)
    size = (grey.shape[1] * _SCALE, grey.shape[0] * _SCALE)
    view = cv2.resize(view, size, interpolation=cv2.INTER_NEAREST)
    good = detection.status is DetectionStatus.OK
    if detection.corners_px:
        corners = (np.array(detection.corners_px) + 0.5) * _SCALE
        closed = np.rint(corners).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(view, [closed], True, _FOUND if good else _LOST, 1)
    return np.vstack((view, _panel(grey, detection, threshold, figures, size[0])))


def tinted(grey: Pixels, threshold: int, shown: Pixels | None = None) -> Any:
    """The picture in BGR (height, width, 3) with pixels above the threshold tinted; ``shown`` in
    its place if the picture itself is too dark to be seen."""
    view = cv2.cvtColor(np.ascontiguousarray(grey if shown is None else shown), cv2.COLOR_GRAY2BGR)
    bright = grey > threshold
    view[bright] = view[bright] // 2 + np.array(_ABOVE, np.uint8) // 2
    return view


def _panel(grey: Pixels, detection: Detection, threshold: int, figures: str, width: int) -> Any:
    """Histogram (square-root scale, so that a thin tape shows) with the threshold, and figures."""
    panel = np.zeros((_PANEL_PX, width, 3), np.uint8)
    counts = np.sqrt(np.bincount(grey.ravel() // (256 // _BINS), minlength=_BINS))
    room = _PANEL_PX - 2 * _LINE_PX - 10
    base = _PANEL_PX - 2 * _LINE_PX - 6
    for index, count in enumerate(counts):
        left, right = index * width // _BINS, (index + 1) * width // _BINS - 1
        top = base - round(room * count / counts.max())
        colour = _ABOVE if (index + 0.5) * 256 / _BINS > threshold else _INK
        cv2.rectangle(panel, (left, top), (right, base), colour, -1)
    at = threshold * width // 256
    cv2.line(panel, (at, 0), (at, base), _LOST, 1)
    good = detection.status is DetectionStatus.OK
    said = f"{detection.status.name}  threshold {threshold}"
    if good:
        angle = math.degrees(detection.theta_rad)
        said += f"  theta {angle:.2f} deg  p {1e3 * detection.p_m:.1f} mm"
    for row, (text, colour) in enumerate(((said, _FOUND if good else _LOST), (figures, _INK))):
        origin = (4, base + (row + 1) * _LINE_PX)
        cv2.putText(panel, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
    return panel


def _film(path: Path, rate_hz: float, view: Any) -> Any:
    film = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, (view.shape[1], view.shape[0])
    )
    if not film.isOpened():
        raise OSError(f"cannot write {path}")
    return film


def _write(path: Path, view: Any) -> None:
    if not cv2.imwrite(str(path), view):
        raise OSError(f"cannot write {path}")
