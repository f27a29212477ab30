"""Boards that speak lines of their own, described by patterns."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cartpole.config.schema.fields import Section, number


class EncoderLines(Section):
    """What an encoder board writes, with ``encoder.protocol: lines``."""

    pattern: str = Field(
        default="{cart}\\t{pole}\\t{low}\\t{high}",
        max_length=200,
        description="a line with named fields: {cart} {pole} {low} {high} {time_us|time_ms|time_s} "
        "{switches} {_}; several lines if the board writes one value a line",
    )
    question: str = Field(
        default="a", max_length=40, description="what makes it answer; empty: it speaks unasked"
    )
    cart_unit: Literal["counts", "mm", "m"] = Field(default="counts", description="unit of {cart}")
    pole_unit: Literal["counts", "deg", "rad", "turns"] = Field(
        default="counts", description="unit of {pole}"
    )
    cart_modulus: float = number(
        0.0, 0.0, 1e9, "{cart} begins anew after so many units (a one-turn counter); 0: never"
    )
    pole_modulus: float = number(
        0.0, 0.0, 1e9, "{pole} begins anew after so many units (a one-turn counter); 0: never"
    )
    parity: Literal["none", "even", "odd"] = Field(default="none", description="of its serial line")


class MotorLines(Section):
    """What a motor board hears, with ``motor.protocol: lines``."""

    command: str = Field(
        default="V{mm_s:.0f}\\n",
        max_length=80,
        description="a command with one of {m_s} {mm_s} {rad_s} {units}, digits as in {m_s:.3f}",
    )
    zero: str = Field(
        default="", max_length=80, description="the word for standing still, if other"
    )
    hello: str = Field(default="", max_length=200, description="said when the port is opened")
    largest: float = number(1e6, 1e-3, 1e9, "the largest number the board takes")
    wheel_radius_m: float = number(0.01, 1e-3, 1.0, "of the pulley, for {rad_s}")
