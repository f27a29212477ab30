"""What a row of the filter says: the estimate, the hint, who is to blame, what agrees.

Pure functions of a row ``known`` (FLOATS,) and its ``stamp`` (WHOLE,) in the order of ``layout``.
"""

from __future__ import annotations

import math

from cartpole.estimation import kernels
from cartpole.estimation import layout as at
from cartpole.estimation.records import Consistency, Whole
from cartpole.messages import OMEGA, THETA, DetectionHint, Estimate, FloatArray, P, V

LOST_SIGMA_RAD = 0.8  # the angle is unknown beyond this
CERTAIN_NS = 60_000_000  # after so long no late measurement changes who was to blame

# A delay error is called out when it is both certain and large.
DELAY_SIGMAS = 5.0
DELAY_SUSPECT_S = 0.002
# It is right within a third; counts are stamped no better than their jitter, nor is this.
DELAY_SHARE, JITTERS, LEAST_DELAY_S = 1.5, 4.0, 0.0005


def estimate_of(row: FloatArray, stamp: Whole, now_ns: int, dropped: int) -> Estimate | None:
    """The state with its uncertainty; ``None`` for a row that is not finite any more."""
    values = row.tolist()
    accepted = stamp[at.ACCEPTED : at.ACCEPTED + at.CHANNELS].tolist()
    sigma = [math.sqrt(max(values[at.COV + (at.STATES + 1) * i], 0.0)) for i in range(4)]
    if not all(map(math.isfinite, (*values[at.X : at.X + at.STATES], *sigma))):
        return None
    encoder_age_ns = _age(now_ns, accepted[at.ENCODER_P], accepted[at.ENCODER_THETA])
    camera_channels = [accepted[at.CAMERA_THETA]]
    if not 0 <= _age(now_ns, accepted[at.ENCODER_P]) <= at.FRESH_NS:
        # The camera's position counts only while no cart encoder speaks.
        camera_channels.append(accepted[at.CAMERA_P])
    return Estimate(
        t_ns=now_ns,
        state=(values[at.X + P], values[at.X + V], values[at.X + THETA], values[at.X + OMEGA]),
        sigma=(sigma[P], sigma[V], sigma[THETA], sigma[OMEGA]),
        upright_offset_rad=values[at.X + at.OFFSET],
        camera_age_ns=_age(now_ns, *camera_channels),
        encoder_age_ns=encoder_age_ns,
        nis_camera=values[at.NIS + at.CAMERA_THETA],
        nis_encoder=values[at.NIS + at.ENCODER_THETA],
        rejected=dropped + int(values[at.REJECTED]),
        valid=sigma[THETA] < LOST_SIGMA_RAD,
    )


def hint_of(row: FloatArray, t_ns: int) -> DetectionHint:
    """Where the camera should see the pole."""
    p, v, theta, omega, offset = row[at.X : at.X + at.OFFSET + 1].tolist()
    spread = kernels.variance_of(row, THETA, at.OFFSET)
    return DetectionHint(
        t_ns=t_ns,
        p_m=p,
        v_m_s=v,
        theta_rad=theta + offset,
        omega_rad_s=omega,
        sigma_p_m=math.sqrt(max(float(row[at.COV]), 0.0)),
        sigma_theta_rad=math.sqrt(max(float(spread), 0.0)),
    )


def culprits_of(row: FloatArray, stamp: Whole, now_ns: int) -> tuple[int, int, int]:
    """How often the encoder slipped and stuck and the camera was moved, where it is certain."""
    slipped, stuck, moved = (
        int(times) if since_ns <= now_ns - CERTAIN_NS else 0
        for times, since_ns in zip(
            row[at.CULPRITS : at.COUNT].tolist(),
            stamp[at.GUILTY_AT : at.GUILTY_AT + 3].tolist(),
            strict=True,
        )
    )
    return slipped, stuck, moved


def delay_bound_of(row: FloatArray, jitter_s: float) -> float:
    """By how much the stamps of camera and counts are apart at most: inf where nothing is known."""
    weight = float(row[at.WEIGHT])
    if weight <= 0.0:
        return math.inf
    spread = DELAY_SIGMAS / math.sqrt(weight) + JITTERS * jitter_s
    return DELAY_SHARE * abs(float(row[at.SCORE])) / weight + spread + LEAST_DELAY_S


def consistency_of(row: FloatArray, jitter_s: float) -> Consistency:
    """How well sensors, model and stamps agree; ``jitter_s``: the counts' stamps are off by."""
    weight = float(row[at.WEIGHT])
    error = float(row[at.SCORE]) / weight if weight > 0.0 else 0.0
    sigma = weight**-0.5 if weight > 0.0 else math.inf
    least_s = DELAY_SUSPECT_S + jitter_s  # the counts are the measure
    return Consistency(
        nis_camera=float(row[at.NIS + at.CAMERA_THETA]),
        nis_encoder=float(row[at.NIS + at.ENCODER_THETA]),
        refused_camera=float(row[at.REFUSED + at.CAMERA_THETA]),
        refused_encoder=float(row[at.REFUSED + at.ENCODER_THETA]),
        camera_delay_error_s=error,
        camera_delay_sigma_s=sigma,
        camera_delay_suspect=abs(error) > max(least_s, DELAY_SIGMAS * sigma),
    )


def _age(now_ns: int, *accepted_ns: int) -> int:
    """Age of the older of the channels that ever spoke; -1 if none did."""
    spoken = [t_ns for t_ns in accepted_ns if t_ns >= 0]
    return max(0, now_ns - min(spoken)) if spoken else -1
