"""What is known of the pole before a picture is looked at: from the estimator's hint and from the
last pictures."""

from __future__ import annotations

import math
from typing import NamedTuple

from cartpole.messages import NANOSECONDS, DetectionHint
from cartpole.vision.history import CART_JERK, POLE_JERK, History

UNKNOWN_OMEGA = 10.0  # rad/s: sigma of the pole's rate when nothing is known
UNKNOWN_SPEED = 0.5  # m/s
UNKNOWN_P = 1.0  # m: so little that it never tells which end of a pole is its pivot
HINT_SIGMA_OMEGA = 0.05  # rad/s: a hint's rates at its own time
HINT_SIGMA_SPEED = 0.005  # m/s


class Expectation(NamedTuple):
    """The pole at the middle line's mid-exposure; sigma inf: not known."""

    p_m: float
    speed_m_s: float
    theta_rad: float
    omega_rad_s: float
    sigma_p_m: float
    sigma_speed_m_s: float
    sigma_theta_rad: float
    sigma_omega_rad_s: float


NOTHING = Expectation(0.0, 0.0, 0.0, 0.0, UNKNOWN_P, UNKNOWN_SPEED, math.inf, UNKNOWN_OMEGA)


class _Seen(NamedTuple):
    """What the last pictures say, with the accelerations of pole [rad/s^2] and cart [m/s^2]."""

    pose: Expectation
    alpha: float
    push: float


def wrap(angle: float) -> float:
    """The angle within -pi and pi."""
    return math.remainder(angle, 2.0 * math.pi)


def expect(past: History, t_ns: int, hint: DetectionHint | None) -> Expectation:
    """What is known of the pole at t_ns.

    Rates come from whichever knows them better: between two hints the motion goes on, and the
    last pictures have seen it.
    """
    own = _extrapolate(past, t_ns) if past.recent(t_ns) else None
    if hint is None:
        return own.pose if own else NOTHING
    told = _carry(t_ns, hint, own if len(past) > 2 else None)
    if own is None:
        return told
    seen = own.pose
    agree = abs(wrap(seen.theta_rad - told.theta_rad)) < 4.0 * told.sigma_theta_rad + 0.2
    if not agree or abs(seen.p_m - told.p_m) > 4.0 * told.sigma_p_m + 0.02:
        return told
    pole = seen if seen.sigma_omega_rad_s < told.sigma_omega_rad_s else told
    cart = seen if seen.sigma_speed_m_s < told.sigma_speed_m_s else told
    return Expectation(
        cart.p_m,
        cart.speed_m_s,
        pole.theta_rad,
        pole.omega_rad_s,
        cart.sigma_p_m,
        cart.sigma_speed_m_s,
        pole.sigma_theta_rad,
        pole.sigma_omega_rad_s,
    )


def _carry(t_ns: int, hint: DetectionHint, own: _Seen | None) -> Expectation:
    """The hint carried on to t_ns; accelerations come from the last pictures."""
    ahead = (t_ns - hint.t_ns) / NANOSECONDS
    late = abs(ahead)
    alpha = push = 0.0
    alpha_sigma, push_sigma = 25.0, 5.0
    if own is not None:
        alpha, push = own.alpha, own.push
        alpha_sigma = min(alpha_sigma, 5.0 + POLE_JERK * (late + 0.015))
        push_sigma = min(push_sigma, 1.0 + CART_JERK * (late + 0.015))
    return Expectation(
        hint.p_m + (hint.v_m_s + 0.5 * push * ahead) * ahead,
        hint.v_m_s + push * ahead,
        hint.theta_rad + (hint.omega_rad_s + 0.5 * alpha * ahead) * ahead,
        hint.omega_rad_s + alpha * ahead,
        hint.sigma_p_m + push_sigma * late * late,
        HINT_SIGMA_SPEED + push_sigma * late,
        hint.sigma_theta_rad + alpha_sigma * late * late,
        HINT_SIGMA_OMEGA + alpha_sigma * late,
    )


def _extrapolate(past: History, t_ns: int) -> _Seen:
    """From the last pictures alone."""
    pole, cart = past.predict(t_ns)
    theta, omega, sigma_omega, alpha = pole.tolist()
    p, speed, sigma_speed, push = cart.tolist()
    ahead = past.age_s(t_ns)
    sigma_omega, sigma_speed = min(sigma_omega, UNKNOWN_OMEGA), min(sigma_speed, UNKNOWN_SPEED)
    pose = Expectation(
        p,
        speed,
        theta,
        omega,
        0.001 + sigma_speed * ahead,
        sigma_speed,
        0.001 + sigma_omega * ahead,
        sigma_omega,
    )
    return _Seen(pose, alpha, push)
