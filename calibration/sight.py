"""What the camera saw: the tracker's measurements, and the pictures they can be made from anew."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from cartpole.messages import NANOSECONDS, Detection, DetectionStatus, FloatArray

if TYPE_CHECKING:
    from cartpole.config.schema import Camera
    from cartpole.vision.frame import Pixels

TAPE_EVERY = 10  # pictures


@dataclass(frozen=True, slots=True)
class Sight:
    """What the camera measured: believed time t (n,), theta unwrapped, pivot p, sigma of theta; how
    long the tape looks in the plane by the settings (0: not known)."""

    t_s: FloatArray
    theta_rad: FloatArray
    p_m: FloatArray
    sigma_rad: FloatArray
    tape_m: float = 0.0

    def since(self, t_s: float) -> Sight:
        """The part from a time on."""
        return self.where(self.t_s >= t_s)

    def where(self, keep: npt.NDArray[np.bool_]) -> Sight:
        """The measurements that are kept, ``keep`` (n,)."""
        return replace(
            self,
            t_s=self.t_s[keep],
            theta_rad=self.theta_rad[keep],
            p_m=self.p_m[keep],
            sigma_rad=self.sigma_rad[keep],
        )


def sight_from(detections: list[Detection], origin_ns: int) -> Sight:
    """Measurements as arrays; times in seconds from ``origin_ns``."""
    return Sight(
        np.array([(one.t_ns - origin_ns) / NANOSECONDS for one in detections]),
        np.unwrap([one.theta_rad for one in detections]),
        np.array([one.p_m for one in detections]),
        np.array([one.sigma_theta_rad for one in detections]),
    )


class Picture(Protocol):
    """A picture with its stamp; ``session.reader.RecordedFrame`` is one."""

    @property
    def t_ns(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    def pixels(self) -> Pixels: ...


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """One that was kept in memory."""

    t_ns: int
    sequence: int
    grey: Pixels

    def pixels(self) -> Pixels:
        """Grey levels (height, width)."""
        return self.grey


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures stamped by the settings ``camera``; times count from ``origin_ns``."""

    kept: tuple[Picture, ...]
    camera: Camera
    origin_ns: int

    def since(self, t_s: float) -> Pictures:
        """Those from a time on."""
        first_ns = self.origin_ns + round(t_s * NANOSECONDS)
        return replace(self, kept=tuple(one for one in self.kept if one.t_ns >= first_ns))

    def evenly(self, most: int) -> Pictures:
        """At most so many, spread over all of them."""
        picked = np.unique(
            np.linspace(0, len(self.kept) - 1, min(most, len(self.kept))).astype(int)
        )
        return replace(self, kept=tuple(self.kept[one] for one in picked))

    def detections(self, camera: Camera) -> list[Detection]:
        """What the tracker finds in each under these settings, stamped anew by their latency."""
        from cartpole.vision.tracker import Tracker

        tracker = Tracker(camera)
        shift_ns = round((self.camera.latency_s - camera.latency_s) * NANOSECONDS)
        return [
            tracker.detect(
                one.pixels(), one.t_ns + shift_ns, one.t_ns + shift_ns, one.sequence, None
            )
            for one in self.kept
        ]

    def sight(self, camera: Camera) -> Sight:
        """The good ones among ``detections`` as arrays."""
        found = self.detections(camera)
        good = [one for one in found if one.status is DetectionStatus.OK]
        return replace(sight_from(good, self.origin_ns), tape_m=_tape_m(good, camera))


def _tape_m(found: list[Detection], camera: Camera) -> float:
    """How long the tape looks, the median; a picture that cuts it off is one of few."""
    from cartpole.vision.geometry import CameraGeometry

    geometry = CameraGeometry.from_camera(camera)
    lengths = []
    for one in found[::TAPE_EVERY]:
        corners = np.array(one.corners_px)
        ends = [geometry.unproject(*(0.5 * (corners[k] + corners[3 - k]))) for k in (0, 1)]
        lengths.append(math.dist(*ends))
    return float(np.median(lengths)) if lengths else 0.0
