"""Settings of a running daemon: reload from the file, change some fields, save to the file.

Whole or not at all: a file is validated as a whole, and a change that touches a field which may not
change now changes nothing. The core decides that in its tick; asking it is refused here already
where the answer is known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole.config.load import fields, live_fields, load_config
from cartpole.control.change import refusal
from cartpole.errors import ConfigError
from cartpole.messages import Answer, Mode, Request
from cartpole.rules.control import change, settings_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def get_value(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def refuse_text(values: Mapping[str, Any]) -> None:
    """ConfigError for a text where a field takes a number or a switch, and for what is no value."""
    known = dict(fields())
    for key, value in values.items():
        kind = known[key].annotation if key in known else None
        if isinstance(value, str) and kind in (int, float, bool):
            wanted = "true or false" if kind is bool else "a number"
            raise ConfigError(f"{key}: {value[:40]!r} is a text: {wanted} is wanted")
        if not isinstance(value, str | int | float | bool | None):
            raise ConfigError(f"{key}: {str(value)[:40]} is no value")


class SettingsKeeper:
    """Knows the file and the overrides a daemon was started with; called from any thread."""

    def __init__(
        self,
        path: Path | None,
        overrides: list[str],
        current: Callable[[], Config],
        ask: Callable[[Request], Answer],
        mode: Callable[[], Mode] = lambda: Mode.DISARMED,
    ) -> None:
        """``current``, ``mode`` and what ``ask`` answers are the core's."""
        self._path, self._overrides = path, list(overrides)
        self._current, self._ask, self._mode = current, ask, mode
        self._changed: dict[str, Any] = {}
        self._lock = threading.Lock()

    def reload(self) -> Answer:
        """Read the file again and apply it; raises ConfigError and leaves all as it was."""
        with self._lock:
            if self._path is None:
                raise ConfigError("started without a file: there is nothing to reload")
            wanted = load_config(self._path, self._overrides)
            answer = self._apply(wanted)
            self._changed.clear()
            return answer

    def set_values(self, values: dict[str, Any]) -> Answer:
        """Change fields now; raises ConfigError naming key and what is allowed.

        Values are typed, unlike ``--set``: a number that comes as text is refused.
        """
        refuse_text(values)
        with self._lock:
            overrides = [*self._overrides]
            overrides += [f"{k}={v}" for k, v in {**self._changed, **values}.items()]
            wanted = load_config(self._path, overrides)
            answer = self._apply(wanted)
            # As the field is typed: 1 for a float is 1.0.
            self._changed.update({key: get_value(wanted, key) for key in values})
            return answer

    def save(self) -> str:
        """Write the live fields that differ from the file into it; returns the backup's name."""
        from cartpole.config.edit import write_values

        with self._lock:
            if self._path is None:
                raise ConfigError("started without a file: there is nowhere to save to")
            if not self._changed:
                return ""
            backup = write_values(self._path, self._changed)
            self._changed.clear()
            return str(backup)

    def describe(self) -> dict[str, Any]:
        """Live fields with value, bounds and meaning, for sliders."""
        from cartpole.config.schema import Config

        shown: dict[str, Any] = {}
        current = self._current()
        for key in sorted(live_fields()):
            model: Any = Config
            *sections, name = key.split(".")
            for section in sections:
                model = model.model_fields[section].annotation
            field = model.model_fields[name]
            bounds = {type(item).__name__: item for item in field.metadata}
            shown[key] = {
                "value": get_value(current, key),
                "low": getattr(bounds.get("Ge"), "ge", None),
                "high": getattr(bounds.get("Le"), "le", None),
                "meaning": field.description,
                "unsaved": key in self._changed,
            }
        return shown

    def _apply(self, wanted: Config) -> Answer:
        request = change(wanted)
        assert request.settings is not None
        why = refusal(settings_of(self._current()), request.settings, self._mode())
        if why:
            raise ConfigError(why)
        _design(wanted)
        answer = self._ask(request)
        if not answer.ok:  # armed between the question above and the core's tick
            raise ConfigError(answer.text)
        return answer


def _design(config: Config) -> None:
    """Design the feedback here, in the asker's thread: the tick then finds it done."""
    from cartpole.control import lqr
    from cartpole.optimizer.problem import rig_problem
    from cartpole.rules.control import pilot_rules

    rules = pilot_rules(config)
    lqr.design(rules.feedback)
    rig_problem(rules.planner)
