"""Putting back what a part remembered: the small check that every ``restore`` needs."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from cartpole.errors import SessionError


def refill(own: npt.NDArray[Any], kept: npt.NDArray[Any], what: str) -> None:
    """Copy ``kept`` into ``own``; SessionError unless shape and type are the same."""
    if own.shape != kept.shape or own.dtype != kept.dtype:
        raise SessionError(
            f"a recorded state has {what} of the shape {kept.shape}, {own.shape} is needed: "
            "it was made with other settings or another version"
        )
    own[...] = kept


def require(true: bool, what: str) -> None:
    """SessionError unless what a recorded state must fulfil is true."""
    if not true:
        raise SessionError(f"a recorded state contradicts itself: {what}")
