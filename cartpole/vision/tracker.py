"""A picture in, a :class:`~cartpole.messages.Detection` out.

Where the pole is expected (a hint from the estimator, or the last pictures) its strip is measured
directly; otherwise, and whenever that fails, the whole picture is searched. No clock, no device:
time comes with the picture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from cartpole.config.schema import Camera
from cartpole.messages import NANOSECONDS, Detection, DetectionHint, DetectionStatus
from cartpole.vision import acquire, pose, slices, strip
from cartpole.vision.expected import measure_expected, smear
from cartpole.vision.geometry import CameraGeometry
from cartpole.vision.history import CART_JERK, POLE_JERK, History
from cartpole.vision.slices import Pixels

MAX_SLACK_PX = 14.0  # beyond this the whole picture is searched
MAX_EXTEND_PX = 30.0
LINE_SIGMA_PX = 0.02  # floor of a slice's error, line fit
RECTANGLE_SIGMA_PX = 0.5  # the same standing for a rotated rectangle's axis
UNKNOWN_OMEGA = 10.0  # rad/s: sigma of the pole's rate when nothing is known
UNKNOWN_SPEED = 0.5  # m/s
HINT_SIGMA_OMEGA = 0.05  # rad/s: a hint's rates at its own time
HINT_SIGMA_SPEED = 0.01  # m/s
AMBIGUOUS_MARGIN = 3.0  # chi-square by which the best explanation must win
WORST_SCORE = 30.0  # chi-square beyond which the strip is not this rig's pole
LENGTH_TOLERANCE = 0.15
MAX_CANDIDATES = 4
SAME_RAD = 0.02  # two candidates this close are one
SAME_M = 0.01
MIN_CONFIDENCE = 0.15
FROZEN_MOTION_PX = 0.5  # expected motion that a noise-free picture must show
NOISY_DN = 0.4  # a picture with this much noise never repeats itself


class _Expectation(NamedTuple):
    """The pole at the middle line's mid-exposure; sigma inf: not known."""

    p_m: float
    speed_m_s: float
    theta_rad: float
    omega_rad_s: float
    sigma_p_m: float
    sigma_speed_m_s: float
    sigma_theta_rad: float
    sigma_omega_rad_s: float


_NOTHING = _Expectation(0.0, 0.0, 0.0, 0.0, 0.5, UNKNOWN_SPEED, math.inf, UNKNOWN_OMEGA)


def _wrap(angle: float) -> float:
    return math.remainder(angle, 2.0 * math.pi)


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
        self._table = np.zeros((size, slices.TABLE_COLUMNS))
        self._report = np.zeros(slices.REPORT_SIZE)
        self._scratch = np.zeros(size)
        self._points = np.zeros((size, 4))
        self._moved = np.zeros((size, 2))
        self._pose = np.zeros(pose.POSE_SIZE)
        self._found: list[float] = self._pose.tolist()
        self._prior = np.zeros(pose.PRIOR_SIZE)
        self._prior[pose.TAPE_START] = camera.tape_start_m
        self._prior[pose.TAPE_END] = camera.tape_end_m
        self._prior[pose.READOUT] = camera.readout_s
        self._prior[pose.HEIGHT] = camera.height_px
        self._prior[pose.PX_PER_M] = scale
        self._step = acquire.grid_step(self._width_px)
        self._mask = acquire.grid_mask(self._shape, self._step)
        self._full_mask = acquire.grid_mask(self._shape, 1)
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
        expected = self._expect(t_ns, hint)
        if self._is_frozen(frame, expected):
            return Detection(t_ns, arrival_ns, sequence, DetectionStatus.FROZEN)
        self._set_prior(expected)
        status = DetectionStatus.NO_BLOB
        if self._camera.method == "line_fit" and self._measure_expected(frame, expected):
            status = self._judge()
        if status is not DetectionStatus.OK:
            status = self._search(frame, expected)
        if status is not DetectionStatus.OK:
            return Detection(t_ns, arrival_ns, sequence, status)
        return self._accept(t_ns, arrival_ns, sequence)

    def _expect(self, t_ns: int, hint: DetectionHint | None) -> _Expectation:
        """What is known of the pole at t_ns, from the hint and the last pictures.

        Rates come from whichever knows them better: between two hints the motion goes on, and the
        last pictures have seen it.
        """
        own = self._extrapolate(t_ns) if self._past.recent(t_ns) else None
        if hint is None:
            return own[0] if own else _NOTHING
        told = self._carry_hint(t_ns, hint, own)
        if own is None:
            return told
        seen = own[0]
        agree = abs(_wrap(seen.theta_rad - told.theta_rad)) < 4.0 * told.sigma_theta_rad + 0.2
        if not agree or abs(seen.p_m - told.p_m) > 4.0 * told.sigma_p_m + 0.02:
            return told
        pole = seen if seen.sigma_omega_rad_s < told.sigma_omega_rad_s else told
        cart = seen if seen.sigma_speed_m_s < told.sigma_speed_m_s else told
        return _Expectation(
            cart.p_m,
            cart.speed_m_s,
            pole.theta_rad,
            pole.omega_rad_s,
            cart.sigma_p_m,
            cart.sigma_speed_m_s,
            pole.sigma_theta_rad,
            pole.sigma_omega_rad_s,
        )

    def _carry_hint(
        self,
        t_ns: int,
        hint: DetectionHint,
        own: tuple[_Expectation, float, float] | None,
    ) -> _Expectation:
        """The hint carried on to t_ns; accelerations come from the last pictures."""
        ahead = (t_ns - hint.t_ns) / NANOSECONDS
        late = abs(ahead)
        alpha = push = 0.0
        alpha_sigma, push_sigma = 25.0, 5.0
        if own is not None and len(self._past) > 2:
            alpha, push = own[1], own[2]
            alpha_sigma = min(alpha_sigma, 5.0 + POLE_JERK * (late + 0.015))
            push_sigma = min(push_sigma, 1.0 + CART_JERK * (late + 0.015))
        return _Expectation(
            hint.p_m + (hint.v_m_s + 0.5 * push * ahead) * ahead,
            hint.v_m_s + push * ahead,
            hint.theta_rad + (hint.omega_rad_s + 0.5 * alpha * ahead) * ahead,
            hint.omega_rad_s + alpha * ahead,
            hint.sigma_p_m + push_sigma * late * late,
            HINT_SIGMA_SPEED + push_sigma * late,
            hint.sigma_theta_rad + alpha_sigma * late * late,
            HINT_SIGMA_OMEGA + alpha_sigma * late,
        )

    def _extrapolate(self, t_ns: int) -> tuple[_Expectation, float, float]:
        """From the last pictures alone; also the accelerations of pole and cart."""
        pole, cart = self._past.predict(t_ns)
        theta, omega, sigma_omega, alpha = pole.tolist()
        p, speed, sigma_speed, push = cart.tolist()
        ahead = self._past.age_s(t_ns)
        sigma_omega, sigma_speed = min(sigma_omega, UNKNOWN_OMEGA), min(sigma_speed, UNKNOWN_SPEED)
        return (
            _Expectation(
                p,
                speed,
                theta,
                omega,
                0.001 + sigma_speed * ahead,
                sigma_speed,
                0.001 + sigma_omega * ahead,
                sigma_omega,
            ),
            alpha,
            push,
        )

    def _is_frozen(self, frame: Pixels, expected: _Expectation) -> bool:
        """Whether the strip's pixels repeat the last picture exactly though they cannot."""
        steep = self._report[slices.STEEP] > 0.0
        measured = int(self._report[slices.SLICES])
        lines = frame if steep else frame.T
        if measured == 0 or not strip.same_slices(lines, self._table, measured):
            self._frozen_pose = None
            return False
        if self._report[slices.GROUND_NOISE] > NOISY_DN:
            return True
        if self._frozen_pose is None:
            if len(self._past) == 0:
                return False
            self._frozen_pose = self._past.last
        theta, p = self._frozen_pose
        turned = abs(_wrap(expected.theta_rad - theta)) * self._camera.tape_end_m
        return (turned + abs(expected.p_m - p)) * self._scale > FROZEN_MOTION_PX

    def _set_prior(self, expected: _Expectation) -> None:
        prior = self._prior
        prior[pose.OMEGA] = expected.omega_rad_s
        prior[pose.SIGMA_OMEGA] = expected.sigma_omega_rad_s
        prior[pose.SPEED] = expected.speed_m_s
        prior[pose.SIGMA_SPEED] = expected.sigma_speed_m_s
        prior[pose.EXPECT_P] = expected.p_m
        prior[pose.SIGMA_P] = expected.sigma_p_m
        prior[pose.EXPECT_THETA] = expected.theta_rad
        prior[pose.SIGMA_THETA] = expected.sigma_theta_rad
        prior[pose.POINT_SIGMA_PX] = LINE_SIGMA_PX

    def _measure_expected(self, frame: Pixels, expected: _Expectation) -> bool:
        """Measure where the pole is expected; False if that is too vague or nothing is there."""
        if not math.isfinite(expected.sigma_theta_rad):
            return False
        sine, cosine = math.sin(expected.theta_rad), math.cos(expected.theta_rad)
        swing = self._camera.tape_end_m * expected.sigma_theta_rad
        slack = 3.0 * self._scale * (swing + abs(cosine) * expected.sigma_p_m) + 2.0
        extend = 3.0 * self._scale * abs(sine) * expected.sigma_p_m + 5.0
        if slack > MAX_SLACK_PX or extend > MAX_EXTEND_PX:
            return False
        solved = measure_expected(
            frame,
            self._prior,
            self.geometry.vector,
            self._width_px,
            self._camera.exposure_s,
            slack,
            extend,
            self._threshold,
            self._table,
            self._report,
            self._scratch,
            self._points,
            self._moved,
            self._pose,
        )
        self._found = self._pose.tolist()
        return bool(solved)

    def _measure(
        self,
        frame: Pixels,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        smear0: float,
        smear1: float,
        slack: float,
        extend: float,
    ) -> bool:
        used = strip.measure_strip(
            frame,
            x0,
            y0,
            x1,
            y1,
            self._width_px,
            smear0,
            smear1,
            slack,
            extend,
            self._threshold,
            self._table,
            self._report,
            self._scratch,
        )
        return used >= slices.MIN_SLICES and self._solve()

    def _solve(self) -> bool:
        solved = pose.solve_pose(
            self._table,
            self._report,
            self._prior,
            self.geometry.vector,
            self._points,
            self._moved,
            self._pose,
        )
        self._found = self._pose.tolist()
        return bool(solved)

    def _confidence(self) -> float:
        """0 to 1: share of the tape that was seen and agrees with a line."""
        seen = self._found[pose.LENGTH] / self._length_m
        whole = min(1.0, seen) if seen < 1.3 else max(0.0, 2.3 - seen)
        return whole * self._found[pose.INLIERS]

    def _judge(self) -> DetectionStatus:
        """Whether the pose just solved may be believed."""
        score, other = self._found[pose.SCORE], self._found[pose.OTHER_SCORE]
        if score > WORST_SCORE or self._confidence() < MIN_CONFIDENCE:
            return DetectionStatus.LOW_CONFIDENCE
        if other - score < AMBIGUOUS_MARGIN:
            return DetectionStatus.AMBIGUOUS
        return DetectionStatus.OK

    def _search(self, frame: Pixels, expected: _Expectation) -> DetectionStatus:
        """Search the whole picture; on OK the best candidate's pose is in place."""
        plain = self._camera.method == "min_area_rect"
        step, mask = (1, self._full_mask) if plain else (self._step, self._mask)
        bright = acquire.threshold_grid(frame, step, self._threshold, mask)
        if bright > acquire.SATURATED_SHARE * mask.size:
            return DetectionStatus.SATURATED
        least = 0.25 * self._length_m * self._scale
        candidates = acquire.find_candidates(mask, step, least)
        likely = [c for c in candidates if acquire.looks_like_strip(c, self._width_px, step)]
        status = self._try_candidates(frame, likely, expected, 4.0)
        if status is DetectionStatus.NO_BLOB and not plain and candidates:
            # A reflection may touch the strip: take such blobs apart, and trust their axes less.
            cleaned = acquire.strips_only(frame, self._threshold, self._width_px)
            pieces = acquire.find_candidates(cleaned, 1, least)
            status = self._try_candidates(frame, pieces + candidates, expected, MAX_SLACK_PX)
        return self._if_outside(status, expected)

    def _if_outside(self, status: DetectionStatus, expected: _Expectation) -> DetectionStatus:
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
        candidates: list[acquire.Candidate],
        expected: _Expectation,
        slack: float,
    ) -> DetectionStatus:
        """Measure the first candidates; leave the best one's pose in place.

        Two candidates that lead to the same pose are one.
        """
        status = DetectionStatus.NO_BLOB
        judged: list[tuple[float, float, float, acquire.Candidate]] = []
        for candidate in candidates[:MAX_CANDIDATES]:
            if not self._measure_candidate(frame, candidate, expected, slack):
                continue
            verdict = self._judge()
            if verdict is DetectionStatus.OK:
                theta, p = self._found[pose.THETA], self._found[pose.PIVOT]
                judged.append((self._badness(), theta, p, candidate))
            elif status is DetectionStatus.NO_BLOB:
                status = verdict
        if not judged:
            return status
        judged.sort(key=lambda item: item[0])
        best = judged[0]
        for other in judged[1:]:
            same = abs(_wrap(other[1] - best[1])) < SAME_RAD and abs(other[2] - best[2]) < SAME_M
            if not same and other[0] - best[0] < AMBIGUOUS_MARGIN:
                return DetectionStatus.AMBIGUOUS
        if len(judged) > 1 or status is not DetectionStatus.NO_BLOB:
            self._measure_candidate(frame, best[3], expected, slack)
        return DetectionStatus.OK

    def _badness(self) -> float:
        """Chi-square of a candidate: place, angle and length."""
        badness = self._found[pose.SCORE]
        length = self._found[pose.LENGTH] / self._length_m - 1.0
        if self._found[pose.ENDS_SEEN] > 1.0:
            return badness + (length / LENGTH_TOLERANCE) ** 2
        return badness + (max(0.0, length) / LENGTH_TOLERANCE) ** 2 + 2.0

    def _measure_candidate(
        self, frame: Pixels, candidate: acquire.Candidate, expected: _Expectation, slack: float
    ) -> bool:
        c = candidate
        if self._camera.method == "min_area_rect":
            self._prior[pose.POINT_SIGMA_PX] = RECTANGLE_SIGMA_PX
            strip.slices_of_segment(
                frame, c.x0, c.y0, c.x1, c.y1, c.width_px, self._table, self._report
            )
            return self._solve()
        # Which end is which is not known yet: allow for the same blur all along.
        blur = 0.5 * smear(self._camera.tape_end_m, self._camera.exposure_s, self._prior)
        blur = max(blur, slices.BLIND_SMEAR_PX)
        missing = max(0.0, self._length_m * self._scale - c.length_px)
        return self._measure(frame, c.x0, c.y0, c.x1, c.y1, blur, blur, slack, missing + 8.0)

    def _accept(self, t_ns: int, arrival_ns: int, sequence: int) -> Detection:
        found = self._found
        true_ns = t_ns + round(found[pose.TIME] * NANOSECONDS)
        theta, p = found[pose.THETA], found[pose.PIVOT]
        sigma_theta, sigma_p = found[pose.THETA_ERROR], found[pose.PIVOT_ERROR]
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
            self._confidence(),
            self._corners(),
        )

    def _corners(self) -> tuple[tuple[float, float], ...]:
        x0, y0, x1, y1 = self._found[pose.NEAR_X : pose.FAR_Y + 1]
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        side_x = -(y1 - y0) / length * 0.5 * self._width_px
        side_y = (x1 - x0) / length * 0.5 * self._width_px
        return (
            (x0 + side_x, y0 + side_y),
            (x1 + side_x, y1 + side_y),
            (x1 - side_x, y1 - side_y),
            (x0 - side_x, y0 - side_y),
        )
