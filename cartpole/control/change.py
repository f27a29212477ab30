"""Which settings may change now: some always, limits only while disarmed, the rest never (I9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.config.load import changed_keys, disarmed_fields, live_fields
from cartpole.messages import Mode

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def refusal(old: Config, new: Config, mode: Mode) -> str:
    """Why settings may not go from ``old`` to ``new`` in this mode, in one line; "" if they may.

    One field that may not change holds back all others: settings are wholly old or wholly new.
    """
    changed = changed_keys(old, new) - live_fields()
    frozen = changed - disarmed_fields()
    if frozen:
        return f"{', '.join(sorted(frozen))}: restart needed (nothing was changed)"
    if changed and mode is not Mode.DISARMED:
        first = "reset" if mode is Mode.FAULT else "stop and disarm"
        return (
            f"{', '.join(sorted(changed))}: only while disarmed: {first} first "
            "(nothing was changed)"
        )
    return ""


def limits_changed(old: Config, new: Config) -> bool:
    """Whether a change touches a limit, so that the drive's board must be told, too."""
    return bool(changed_keys(old, new) & disarmed_fields())
