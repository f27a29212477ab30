"""What homing says when it refuses: what was seen, and which setting or part explains it."""

from __future__ import annotations

Words = tuple[str, str]  # (failure, advice)


def both_pressed(active: str) -> Words:
    """Both switches at once."""
    other = "low" if active == "high" else "high"
    return (
        "both switches read pressed",
        f"encoder.switch_active is {active}: set it to {other} if neither is; else check cables",
    )


def switch_stays(name: str, active: str) -> Words:
    """A switch that the cart has left long ago."""
    return (
        f"the {name} switch stays pressed",
        f"check that switch, its cable and encoder.switch_active ({active})",
    )


def wrong_switch(name: str) -> Words:
    """The switch behind the cart was pressed."""
    return (
        f"the {name} switch was pressed while the cart moved away from it",
        "the switches are swapped, or motor.sign and encoder.cart_sign are both reversed",
    )


def explain_sign(pole: int) -> Words:
    """The cart goes against its counts; ``pole`` is 1 if the pole says that it went as told."""
    what = "the cart moves against its counts"
    if pole > 0:
        return what, "encoder.cart_sign is reversed (the pole stayed behind as it should)"
    if pole < 0:
        return what, "motor.sign is reversed (the pole went the wrong way, too)"
    return what, "encoder.cart_sign or motor.sign is reversed"


def explain_gain(gain: float) -> Words:
    """A speed that is off by the factor ``gain``."""
    if abs(gain) < 0.05:
        return "the cart does not move", "check motor power, e-stop, belt and the encoder's plug"
    if gain < 0.0:
        return "the cart moves against its counts", "encoder.cart_sign or motor.sign is reversed"
    for factor in (10.0, 100.0, 1000.0):
        for wrong in (factor, 1.0 / factor):
            if 0.6 < gain / wrong < 1.6:
                return (
                    f"the cart moves {gain:.4g} times the commanded speed",
                    "a unit of motor.counts_per_m_s or encoder.cart_counts_per_m is wrong",
                )
    return (
        f"the cart moves {gain:.3f} times the commanded speed",
        "run `cartpole calibrate motor`, or correct motor.counts_per_m_s",
    )


def held_up() -> Words:
    """The cart does not follow, somewhere between the switches."""
    return (
        "the cart was held up between the switches",
        "see what is in its way; check belt, motor power and both switches",
    )


def explain_ramp(found: float, configured: float) -> Words:
    """A driver that lets its commands rise far more slowly [m/s^2] than they may."""
    return (
        f"the driver ramps its speed by {found:.1f} m/s², commands may change by {configured:.1f}",
        f"raise the driver's ramp, or set rig.acceleration_limit_m_s2 to {found:.1f}",
    )


def explain_travel(
    travel: float, configured: float, tolerance: float, limit: float, margin: float
) -> Words | None:
    """A travel [m] that is not the configured one or leaves no room for the limit; or ``None``."""
    found = f"found {travel:.3f} m between the switches"
    if abs(travel / configured - 1.0) > tolerance:
        return (
            f"{found}, configured {configured:.3f} m",
            "measure the track; then correct rig.track_length_m or encoder.cart_counts_per_m",
        )
    room = 0.5 * travel - margin
    if limit > room:
        return (
            f"{found}: rig.position_limit_m {limit:.3f} m lies outside",
            f"set rig.track_length_m to {travel:.3f} and rig.position_limit_m below {room:.3f}",
        )
    return None
