"""Which settings may change now: some always, limits only while disarmed, the rest never (I9)."""

from __future__ import annotations

from cartpole.messages import Mode, Settings


def changed(old: Settings, new: Settings) -> set[str]:
    """Dotted keys whose values differ."""
    return {key for key, value in old.values.items() if new.values.get(key) != value}


def refusal(old: Settings, new: Settings, mode: Mode) -> str:
    """Why settings may not go from ``old`` to ``new`` in this mode, in one line; "" if they may.

    One field that may not change holds back all others: settings are wholly old or wholly new.
    """
    held = changed(old, new) - old.live
    frozen = held - old.disarmed
    if frozen:
        return f"{', '.join(sorted(frozen))}: restart needed (nothing was changed)"
    if held and mode is not Mode.DISARMED:
        first = "reset" if mode is Mode.FAULT else "stop and disarm"
        return (
            f"{', '.join(sorted(held))}: only while disarmed: {first} first (nothing was changed)"
        )
    return ""


def limits_changed(old: Settings, new: Settings) -> bool:
    """Whether a change touches a limit, so that the drive's board must be told, too."""
    return bool(changed(old, new) & old.disarmed)
