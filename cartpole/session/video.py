"""A recording as a film: the drawn cart and pole, and beside it the camera's pictures if kept."""

from __future__ import annotations

import math
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.errors import SessionError
from cartpole.messages import NANOSECONDS, Detection
from cartpole.session.reader import RecordedFrame, RecordedTick, Session, open_session

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Pixels

RATE_HZ = 25.0
DRAWING = (640, 480)  # width, height [px]
_INK, _BLUE, _ORANGE, _RED, _GREEN = (
    (40, 40, 40),
    (168, 95, 31),
    (26, 86, 196),
    (30, 38, 179),
    (50, 125, 45),
)  # BGR
_WHITE = (255, 255, 255)
_MOST_PICTURE_BYTES = 64 << 20
LONGEST_STILL_NS = 2 * NANOSECONDS
MOST_PICTURES = round(2 * 3600 * RATE_HZ)  # two hours
Image = np.ndarray[Any, np.dtype[np.uint8]]


def write_video(session: Session | Path, output: Path) -> int:
    """Write an MP4 at 25 pictures a second of recorded time; returns how many there are.

    Raises SessionError if there is nothing to show or the file cannot be written.
    """
    import cv2

    if isinstance(session, Path):
        session = open_session(session)
    pictures = _PictureIndex(session)
    scene = Scene(session.config)
    width, height = DRAWING[0] * (2 if pictures.times else 1), DRAWING[1]
    code = cv2.VideoWriter.fourcc(*"mp4v")
    film = cv2.VideoWriter(str(output), code, RATE_HZ, (width, height))
    if not film.isOpened():
        raise SessionError(f"cannot write {output}: no folder, or this build cannot write MP4")
    count = 0
    try:
        due_ns: int | None = None
        seen: list[Detection] = []
        for tick in session.ticks():
            seen = [m for m in tick.input.measurements if isinstance(m, Detection)] or seen
            now_ns = tick.line.now_ns
            due_ns = now_ns if due_ns is None else due_ns
            if now_ns < due_ns:
                continue
            image = scene.draw(tick)
            if pictures.times:
                camera = _camera_view(pictures.at(now_ns), seen[-1] if seen else None)
                image = np.hstack([image, camera])
            # Time that jumps is not shown standing still for as long.
            due_ns = max(due_ns, now_ns - LONGEST_STILL_NS)
            while due_ns <= now_ns:
                film.write(image)
                count += 1
                due_ns += round(NANOSECONDS / RATE_HZ)
            if count >= MOST_PICTURES:
                break
    finally:
        film.release()
    if count == 0:
        output.unlink(missing_ok=True)
        raise SessionError(f"{session.path} holds no whole tick")
    return count


class Scene:
    """Draws the cart, the pole, the plan and what the controller says of itself."""

    def __init__(self, config: Config) -> None:
        self._half_track = config.rig.track_length_m / 2
        self._limit = config.rig.position_limit_m
        self._length = config.pole.length_m
        wide = 2 * self._half_track + 0.1
        tall = 2 * self._length + 0.35
        self._scale = min(DRAWING[0] / wide, (DRAWING[1] - 70) / tall)
        self._start_ns: int | None = None

    def draw(self, tick: RecordedTick) -> Image:
        """The picture of a tick, (480, 640, 3), blue-green-red."""
        import cv2

        now_ns = tick.line.now_ns
        self._start_ns = now_ns if self._start_ns is None else self._start_ns
        image: Image = np.full((DRAWING[1], DRAWING[0], 3), 255, np.uint8)
        self._track(image, tick.line.target_m)
        trajectory = tick.trajectory
        if trajectory is not None:
            tips = [
                self._tip(state[0], state[2]) for state in trajectory.states if _drawable(state)
            ]
            if tips:
                cv2.polylines(image, [np.array(tips)], False, _ORANGE, 1, cv2.LINE_AA)
        state = tick.truth or (tick.estimate.state if tick.estimate is not None else None)
        if state is not None and _drawable(state):
            self._cart(image, state[0], state[2])
        self._words(image, tick, state)
        return image

    def _pixel(self, x_m: float, y_m: float) -> tuple[int, int]:
        x = DRAWING[0] / 2 + self._scale * x_m
        y = 70 + (DRAWING[1] - 70) / 2 - self._scale * y_m
        return round(min(max(x, -5000), 5000)), round(min(max(y, -5000), 5000))

    def _tip(self, p: float, theta: float) -> tuple[int, int]:
        # theta 0 hangs, counter-clockwise positive: the tip goes to the right first
        return self._pixel(p + self._length * math.sin(theta), -self._length * math.cos(theta))

    def _track(self, image: Image, target_m: float) -> None:
        import cv2

        left, right = self._pixel(-self._half_track, 0), self._pixel(self._half_track, 0)
        cv2.line(image, left, right, _INK, 2)
        for x, colour in ((self._half_track, _INK), (self._limit, _RED)):
            for side in (-x, x):
                cv2.line(image, self._pixel(side, 0.03), self._pixel(side, -0.03), colour, 2)
        cv2.drawMarker(image, self._pixel(target_m, -0.05), _GREEN, cv2.MARKER_TRIANGLE_UP, 10, 2)

    def _cart(self, image: Image, p: float, theta: float) -> None:
        import cv2

        cv2.rectangle(image, self._pixel(p - 0.05, 0.02), self._pixel(p + 0.05, -0.02), _BLUE, -1)
        cv2.line(image, self._pixel(p, 0), self._tip(p, theta), _INK, 6, cv2.LINE_AA)
        cv2.circle(image, self._pixel(p, 0), 5, _WHITE, -1, cv2.LINE_AA)

    def _words(
        self, image: Image, tick: RecordedTick, state: tuple[float, float, float, float] | None
    ) -> None:
        import cv2

        seconds = (tick.line.now_ns - (self._start_ns or 0)) / NANOSECONDS
        lines = [
            f"{seconds:7.2f} s  {tick.line.mode.value}  u {tick.command.velocity_m_s:+.3f} m/s"
        ]
        if state is not None:
            lines.append(
                f"p {state[0]:+.3f} m  v {state[1]:+.3f} m/s  theta {state[2]:+.3f}  "
                f"omega {state[3]:+.2f}"
            )
        if tick.faults:
            lines.append(", ".join(fault.name for fault in tick.faults)[:70])
        for row, text in enumerate(lines):
            colour = _RED if row == 2 else _INK
            at = (8, 20 + 20 * row)
            cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)


def _drawable(state: tuple[float, ...]) -> bool:
    return all(math.isfinite(value) and abs(value) < 1e6 for value in state[:4])


class _PictureIndex:
    """The recorded pictures by time: those a film can show, as many as memory should hold."""

    def __init__(self, session: Session) -> None:
        frames: list[RecordedFrame] = []
        total, last_ns = 0, -NANOSECONDS
        for frame in session.frames():
            # A fault's pictures are written after their ticks, so time may step back.
            if 0 <= frame.t_ns - last_ns < NANOSECONDS / (2 * RATE_HZ):
                continue
            total += len(frame.data)
            if total > _MOST_PICTURE_BYTES:
                break
            frames.append(frame)
            last_ns = frame.t_ns
        self._frames = sorted(frames, key=lambda frame: frame.t_ns)
        self.times = [frame.t_ns for frame in self._frames]

    def at(self, t_ns: int) -> RecordedFrame | None:
        """The newest picture not after ``t_ns``."""
        place = bisect_right(self.times, t_ns)
        return self._frames[place - 1] if place else None


def _camera_view(frame: RecordedFrame | None, detection: Detection | None) -> Image:
    """A picture with what was found in it, as large as the drawing."""
    import cv2

    if frame is None:
        return np.zeros((DRAWING[1], DRAWING[0], 3), np.uint8)
    pixels: Pixels = frame.pixels()
    image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    if detection is not None and len(detection.corners_px) >= 3:
        corners = np.asarray(detection.corners_px, dtype=np.float64)
        if np.all(np.isfinite(corners)) and np.all(np.abs(corners) < 1e5):
            outline = np.round(corners * 8).astype(np.int32).reshape(-1, 1, 2)
            cv2.polylines(image, [outline], True, (0, 200, 255), 1, cv2.LINE_AA, 3)
    return np.asarray(cv2.resize(image, DRAWING, interpolation=cv2.INTER_NEAREST), np.uint8)
