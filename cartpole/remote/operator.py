"""What the page may ask of the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cartpole.errors import CartpoleError

SLOW_WORDS = frozenset({"record", "stop-record"})  # answered when a file is open, or whole
SLOW_S = 15.0
ALWAYS = frozenset({"stop", "status", "fields"})


class Operator:
    """Asks on behalf of a browser; without ``commands`` it may look, and stop."""

    def __init__(self, socket: Path, commands: bool) -> None:
        self._socket, self._commands = socket, commands

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """One request over a connection of its own; failures are answers too."""
        from cartpole.remote.socket import call

        if not self._commands and message.get("do") not in ALWAYS:
            return {"ok": False, "error": "commands are off: set dashboard.commands to true"}
        try:
            if message.get("do") in SLOW_WORDS:
                return call(self._socket, message, SLOW_S)
            return call(self._socket, message)
        except (CartpoleError, ValueError) as error:
            return {"ok": False, "error": str(error)}
