"""What a row of the filter says: the estimate, the hint, who is to blame.

Pure functions of a row ``known`` (FLOATS,) and its ``stamp`` (WHOLE,) in the order of ``layout``.
"""

from __future__ import annotations

import math

from cartpole.estimation import kernels
from cartpole.estimation import layout as at
from cartpole.estimation.records import Whole
from cartpole.messages import OMEGA, THETA, DetectionHint, Estimate, FloatArray, P, V

LOST_SIGMA_RAD = 0.8  # the angle is unknown beyond this
CERTAIN_NS = 60_000_000  # after so long no late measurement changes who was to blame


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


def take_back(known: FloatArray, stamps: Whole) -> None:
    """Rows whose camera's offset was freed of late, and nobody was accused, have it as it was."""
    freed = stamps[:, at.FREED_AT]
    late = (freed >= 0) & (stamps[:, at.TIME] - freed < at.AGAIN_NS)
    late &= stamps[:, at.GUILTY_AT + at.MOVED] < freed
    line = at.COV + at.STATES * at.OFFSET
    known[late, at.X + at.OFFSET] = known[late, at.MOVED_FROM]
    for j in range(at.STATES):
        known[late, line + j] = known[late, at.COV + at.STATES * j + at.OFFSET] = 0.0
    known[late, line + at.OFFSET] = known[late, at.MOVED_FROM + 1]


def _age(now_ns: int, *accepted_ns: int) -> int:
    """Age of the older of the channels that ever spoke; -1 if none did."""
    spoken = [t_ns for t_ns in accepted_ns if t_ns >= 0]
    return max(0, now_ns - min(spoken)) if spoken else -1
