"""What an operator's buttons can do in a mode, by the mode machine's own table."""

from __future__ import annotations

from cartpole.control.modes import DRIVEN, TABLE, Happening
from cartpole.messages import Mode

_LEADS_TO = {
    "arm": (Happening.ARM,),
    "home": (Happening.HOME,),
    "swing-up": (Happening.SWING_UP,),
    "reset": (Happening.RESET,),
}
_ADVICE = {
    "arm": "arm from DISARMED",
    "home": "home from DISARMED or READY",
    "swing-up": "arm first",
    "reset": "no fault is latched",
}


def impossible(word: str, mode: str) -> str:
    """Why a button does nothing now; empty if it would. ``mode`` is a mode's word, or none's."""
    if mode not in list(Mode):
        return "no daemon"
    now = Mode(mode)
    if word == "disarm":
        return "" if now in DRIVEN else f"nothing is driven in {mode}"
    if word == "swing-up" and now is Mode.HOMING:
        return ""  # taken, and done after homing
    possible = any((now, what) in TABLE for what in _LEADS_TO[word])
    if word == "home" and now is Mode.DISARMED:
        possible = True
    if possible:
        return ""
    return (
        "reset first" if now is Mode.FAULT else f"not in {mode.replace('_', ' ')}: " + _ADVICE[word]
    )
