"""What the page may ask of the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cartpole.errors import CartpoleError

ALWAYS = frozenset({"stop", "status", "fields"})


class Operator:
    """Asks on behalf of a browser; without ``commands`` it may look, and stop."""

    def __init__(self, socket: Path, commands: bool) -> None:
        self._socket, self._commands = socket, commands

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """One request over a connection of its own; failures are answers too."""
        from cartpole.daemon.control_socket import call

        if not self._commands and message.get("do") not in ALWAYS:
            return {"ok": False, "error": "commands are off: set dashboard.commands to true"}
        try:
            return call(self._socket, message)
        except (CartpoleError, ValueError) as error:
            return {"ok": False, "error": str(error)}
