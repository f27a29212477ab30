"""A picture in, a :class:`~cartpole.messages.Detection` out.

Where the pole is expected (a hint from the estimator, or the last pictures) its strip is measured
directly; otherwise, and whenever that fails, the whole picture is searched. No clock, no device:
time comes with the picture.
"""

from __future__ import annotations

import math

import numpy as np

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, DetectionStatus, FloatArray
from cartpole.vision import (
    acquire,
    blobs,
    layout,
    pose,
    segment,
    slices,
    strip,
    track,
    verdict,
)
from cartpole.vision.expectation import Expectation, expect, wrap
from cartpole.vision.frame import Pixels
from cartpole.vision.geometry import CameraGeometry
from cartpole.vision.history import History

UNSEEN_OMEGA = 50.0  # rad/s: a rate less certain was not seen
LENGTH_TOLERANCE = 0.15
MOST_SHORT = 6.0  # chi-square of a strip that is too short
MAX_CANDIDATES = 4
SAME_RAD = 0.02  # two candidates this close are one
SAME_M = 0.01
FROZEN_MOTION_PX = 0.5  # expected motion that a noise-free picture must show
NOISY_DN = 0.4  # a picture with this much noise never repeats itself


class Tracker:
    """Measures the pole in successive pictures of one camera.

    ``detect`` needs no hint, but after a gap only a hint tells which end of the pole is which when
    it lies level, and a hint keeps reflections from being taken for the pole.
    """

    def __init__(self, camera: Camera) -> None:
        self.geometry = CameraGeometry.from_camera(camera)
        self._camera = camera
        self._threshold = camera.threshold
        scale = self.geometry.scale_px_m()
        self._scale = scale
        self._width_px = camera.tape_width_m * scale
        self._length_m = camera.tape_end_m - camera.tape_start_m
        self._shape = (camera.height_px, camera.width_px)
        size = max(self._shape)
        self._optics = np.zeros(slices.OPTICS_SIZE)
        self._optics[slices.OPTICS_HALF] = 0.5 * self._width_px
        self._optics[slices.OPTICS_BLUR] = strip.BLUR_PX
        self._table = np.zeros((size, slices.TABLE_COLUMNS))
        self._report = np.zeros(slices.REPORT_SIZE)
        self._scratch = np.zeros(3 * size)
        self._points = np.zeros((size, 4))
        self._pose = np.zeros(layout.POSE_SIZE)
        self._prior = np.zeros(layout.PRIOR_SIZE)
        self._prior[layout.TAPE_START] = camera.tape_start_m
        self._prior[layout.TAPE_END] = camera.tape_end_m
        self._prior[layout.READOUT] = camera.readout_s
        self._prior[layout.HEIGHT] = camera.height_px
        self._prior[layout.PX_PER_M] = scale
        self._prior[layout.EXPOSURE] = camera.exposure_s
        self._prior[layout.WIDTH] = self._width_px
        self._prior[layout.SIGMA_SWING] = math.inf
        self._step = acquire.grid_step(self._width_px)
        self._past = History()
        self._frozen_pose: tuple[float, float] | None = None

    def set_threshold(self, threshold: int) -> None:
        """Change the grey level between ground and tape while running."""
        self._threshold = int(threshold)

    def reset(self) -> None:
        """Forget the pictures seen so far."""
        self._past.clear()
        self._report[:] = 0.0
        self._frozen_pose = None

    def detect(
        self,
        frame: Pixels,
        t_ns: int,
        arrival_ns: int,
        sequence: int,
        hint: DetectionHint | None = None,
    ) -> Detection:
        """Measure one picture.

        Args:
            frame: (height, width) uint8: grey levels, the luma of a YUYV buffer as a strided view,
                or a raw Bayer pattern. Not changed, not kept.
            t_ns: mid-exposure of the middle line.
            arrival_ns: when the picture could be read.
            sequence: the camera's counter.
            hint: where the pole is expected; None searches by the pictures alone.

        Returns:
            A detection; unless its status is OK both sigmas are infinite.

        Raises:
            ValueError: the picture has another size than the settings say.
        """
        if frame.shape != self._shape:
            raise ValueError(
                f"picture is {frame.shape[1]}x{frame.shape[0]} px, the settings say "
                f"{self._shape[1]}x{self._shape[0]}"
            )
        expected = expect(self._past, t_ns, hint)
        if self._is_frozen(frame, expected):
            return Detection(t_ns, arrival_ns, sequence, DetectionStatus.FROZEN)
        self._set_prior(expected)
        code = verdict.NO_BLOB
        if self._camera.method == "line_fit" and math.isfinite(expected.sigma_theta_rad):
            code = self._measure_expected(frame)
        if code == verdict.OK:
            return self._accept(t_ns, arrival_ns, sequence)
        if code == verdict.MISFIT:
            status = DetectionStatus.MISFIT
        else:
            status = self._search(frame, expected)
            if status is DetectionStatus.OK:
                status = self._check(frame)
        if status is not DetectionStatus.OK:
            return Detection(t_ns, arrival_ns, sequence, status, threshold=self._threshold)
        return self._accept(t_ns, arrival_ns, sequence)

    def _is_frozen(self, frame: Pixels, expected: Expectation) -> bool:
        """Whether the strip's pixels repeat the last picture exactly though they cannot."""
        measured = int(self._report[slices.SLICES])
        if measured == 0:
            return False
        lines = frame if self._report[slices.STEEP] > 0.0 else frame.T
        if not segment.same_slices(lines, self._table, measured):
            self._frozen_pose = None
            return False
        if self._report[slices.GROUND_NOISE] > NOISY_DN:
            return True
        if self._frozen_pose is None:
            if len(self._past) == 0:
                return False
            self._frozen_pose = self._past.last
        theta, p = self._frozen_pose
        turned = abs(wrap(expected.theta_rad - theta)) * self._camera.tape_end_m
        return (turned + abs(expected.p_m - p)) * self._scale > FROZEN_MOTION_PX

    def _set_prior(self, expected: Expectation) -> None:
        prior = self._prior
        prior[layout.OMEGA] = expected.omega_rad_s
        prior[layout.SIGMA_OMEGA] = expected.sigma_omega_rad_s
        prior[layout.SPEED] = expected.speed_m_s
        prior[layout.SIGMA_SPEED] = expected.sigma_speed_m_s
        prior[layout.EXPECT_P] = expected.p_m
        prior[layout.SIGMA_P] = expected.sigma_p_m
        prior[layout.EXPECT_THETA] = expected.theta_rad
        prior[layout.SIGMA_THETA] = expected.sigma_theta_rad

    def _smear(self, expected: Expectation, distance_m: float) -> float:
        """How far the pole moves across its axis while exposed [px], at that distance; signed."""
        speed = expected.omega_rad_s * distance_m
        speed += expected.speed_m_s * math.cos(expected.theta_rad)
        return speed * self._camera.exposure_s * self._scale

    def _measure_expected(self, frame: Pixels) -> int:
        """Measure where the pole is expected; a status."""
        status: int = track.track(
            frame,
            self._prior,
            self.geometry.vector,
            self._threshold,
            self._optics,
            self._table,
            self._report,
            self._scratch,
            self._points,
            self._pose,
        )
        return status

    def _check(self, frame: Pixels) -> DetectionStatus:
        """Whether what a search has found is one picture of the pole."""
        if self._camera.method != "line_fit":
            verdict.draw_corners(self._prior, self._pose)
            return DetectionStatus.OK
        return DetectionStatus(
            verdict.check(
                frame,
                self._table,
                self._report,
                self._prior,
                self._pose,
                self.geometry.vector,
                self._optics,
                self._scratch,
            )
        )

    def _search(self, frame: Pixels, expected: Expectation) -> DetectionStatus:
        """Search the whole picture; on OK the best candidate's pose is in place."""
        least = 0.25 * self._length_m * self._scale
        plain = self._camera.method == "min_area_rect"
        if plain:
            candidates = acquire.rectangles(frame, self._threshold, least)
        else:
            candidates = acquire.bright_blobs(frame, self._step, self._threshold, least)
        if candidates is None:
            return DetectionStatus.SATURATED
        step = 1 if plain else self._step
        likely = [c for c in candidates if acquire.looks_like_strip(c, self._width_px, step)]
        status = self._try_candidates(frame, likely, expected, 4.0)
        if status is DetectionStatus.NO_BLOB and not plain and len(candidates) > 0:
            # A reflection may touch the strip: take such blobs apart, and trust their axes less.
            cleaned = acquire.strips_only(frame, self._threshold, self._width_px)
            pieces = acquire.bright_blobs(cleaned, 1, 0, least)
            tried = [*(() if pieces is None else pieces), *candidates]
            status = self._try_candidates(frame, tried, expected, track.MAX_SLACK_PX)
        return self._if_outside(status, expected)

    def _if_outside(self, status: DetectionStatus, expected: Expectation) -> DetectionStatus:
        """Say OUT_OF_FRAME instead of NO_BLOB where that is what the hint says."""
        if status is not DetectionStatus.NO_BLOB or not math.isfinite(expected.sigma_theta_rad):
            return status
        distance = 0.5 * (self._camera.tape_start_m + self._camera.tape_end_m)
        x = expected.p_m + distance * math.sin(expected.theta_rad)
        column, row = self.geometry.project(x, -distance * math.cos(expected.theta_rad))
        inside = 0 <= column < self._shape[1] and 0 <= row < self._shape[0]
        return status if inside else DetectionStatus.OUT_OF_FRAME

    def _try_candidates(
        self,
        frame: Pixels,
        candidates: list[FloatArray],
        expected: Expectation,
        slack: float,
    ) -> DetectionStatus:
        """Measure the first candidates; leave the best one's pose in place.

        Two candidates that lead to the same pose are one.
        """
        status = DetectionStatus.NO_BLOB
        judged: list[tuple[float, float, float, FloatArray]] = []
        either_way = math.inf  # badness of the best strip that may point either way
        tried = candidates[:MAX_CANDIDATES]
        for candidate in tried:
            code = self._measure_candidate(frame, candidate, expected, slack)
            if code == verdict.NO_BLOB:
                continue
            if code == verdict.OK:
                theta, p = float(self._pose[layout.THETA]), float(self._pose[layout.PIVOT])
                judged.append((self._badness(), theta, p, candidate))
            elif code == verdict.AMBIGUOUS:
                either_way = min(either_way, self._badness())
            if code != verdict.OK and status is DetectionStatus.NO_BLOB:
                status = DetectionStatus(code)
        if not judged:
            return status
        judged.sort(key=lambda item: item[0])
        best = judged[0]
        if either_way - best[0] < verdict.AMBIGUOUS_MARGIN:
            return DetectionStatus.AMBIGUOUS
        for other in judged[1:]:
            same = abs(wrap(other[1] - best[1])) < SAME_RAD and abs(other[2] - best[2]) < SAME_M
            if not same and other[0] - best[0] < verdict.AMBIGUOUS_MARGIN:
                return DetectionStatus.AMBIGUOUS
        if best[3] is not tried[-1]:
            self._measure_candidate(frame, best[3], expected, slack)
        return DetectionStatus.OK

    def _badness(self) -> float:
        """Chi-square of a candidate: place, angle and length."""
        found = self._pose.tolist()
        badness: float = found[layout.SCORE]
        length = found[layout.LENGTH] / self._length_m - 1.0
        if found[layout.ENDS_SEEN] > 1.0:
            return badness + (length / LENGTH_TOLERANCE) ** 2
        # What ends in the picture and is too short may be a tape that something covers: that is
        # less likely than another strip, as long as there is one.
        ends = self._report[slices.START_SEEN] + self._report[slices.STOP_SEEN]
        short = max(0.0, -length) / LENGTH_TOLERANCE if ends > 1.0 else 0.0
        short = min(MOST_SHORT, short * short)
        return badness + (max(0.0, length) / LENGTH_TOLERANCE) ** 2 + 2.0 + short

    def _measure_candidate(
        self, frame: Pixels, candidate: FloatArray, expected: Expectation, slack: float
    ) -> int:
        """A status; NO_BLOB: no strip is there."""
        if self._camera.method == "min_area_rect":
            return self._take_rectangle(frame, candidate)
        # Which end is which is not known yet: allow for the same blur all along.
        smear = 0.5 * abs(self._smear(expected, self._camera.tape_end_m))
        smear = max(smear, slices.BLIND_SMEAR_PX)
        missing = max(0.0, self._length_m * self._scale - float(candidate[blobs.LENGTH_PX]))
        status: int = track.measure(
            frame,
            candidate,
            smear,
            smear,
            True,
            slack,
            missing + 8.0,
            self._prior,
            self.geometry.vector,
            self._threshold,
            self._optics,
            self._table,
            self._report,
            self._scratch,
            self._points,
            self._pose,
        )
        return status

    def _take_rectangle(self, frame: Pixels, rectangle: FloatArray) -> int:
        """The pose that a rectangle's axis tells by itself; a status as of ``measure``."""
        x0, y0, x1, y1, _, width, _ = rectangle.tolist()
        segment.slices_of_segment(frame, x0, y0, x1, y1, width, self._table, self._report)
        solved = pose.solve_pose(
            self._table,
            self._report,
            self._prior,
            self.geometry.vector,
            self._points,
            self._pose,
        )
        if not solved:
            return verdict.NO_BLOB
        return int(verdict.judge(self._report, self._prior, self._pose))

    def _accept(self, t_ns: int, arrival_ns: int, sequence: int) -> Detection:
        found = self._pose.tolist()
        true_ns = t_ns + round(found[layout.TIME] * NANOSECONDS)
        theta, p = found[layout.THETA], found[layout.PIVOT]
        sigma_theta, sigma_p = found[layout.THETA_ERROR], found[layout.PIVOT_ERROR]
        x0, y0, x1, y1, x2, y2, x3, y3 = found[layout.CORNERS :]
        rate_seen = found[layout.RATE_ERROR] < UNSEEN_OMEGA
        self._past.add(true_ns, theta, p, sigma_theta, sigma_p)
        return Detection(
            true_ns,
            arrival_ns,
            sequence,
            DetectionStatus.OK,
            theta,
            p,
            sigma_theta,
            sigma_p,
            found[layout.CONFIDENCE],
            ((x0, y0), (x1, y1), (x2, y2), (x3, y3)),
            found[layout.RATE] if rate_seen else 0.0,
            found[layout.RATE_ERROR] if rate_seen else math.inf,
            found[layout.THETA_PIVOT],
            found[layout.THETA_RATE],
            found[layout.PIVOT_RATE],
            found[layout.RESIDUAL],
            self._threshold,
        )
