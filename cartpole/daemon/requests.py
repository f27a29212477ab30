"""The operator's desk: answers the control socket's messages on behalf of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cartpole.daemon.recorder import Recorder
from cartpole.daemon.settings import SettingsKeeper
from cartpole.daemon.snapshot import snapshot
from cartpole.errors import UsageError
from cartpole.messages import Answer
from cartpole.remote import socket
from cartpole.remote.socket import parse_request

if TYPE_CHECKING:
    from cartpole.daemon.daemon import Daemon


MOST_PUSH_M_S = 2.0
MOST_PUSH_RAD_S = 20.0


class Desk:
    """Stateless between messages."""

    def __init__(self, daemon: Daemon, settings: SettingsKeeper, recorder: Recorder) -> None:
        self._daemon = daemon
        self._settings = settings
        self._recorder = recorder

    def answer(self, message: dict[str, Any]) -> socket.Answer:
        """One message; raises CartpoleError with one line for the asker."""
        word = message.get("do")
        if word == "status":
            daemon = self._daemon
            shown = snapshot(
                daemon.latest,
                daemon.latest_timing,
                daemon.config,
                self._recorder.status(),
                daemon.latest_detection,
            )
            shown["simulated"] = daemon.push is not None
            return {"ok": True, "status": shown}
        if word == "fields":
            return {"ok": True, "fields": self._settings.describe()}
        if word == "set":
            values = message.get("values")
            if not isinstance(values, dict) or not values:
                raise UsageError('set needs "values": {"dotted.key": value}')
            return self._told(self._settings.set_values(values))
        if word == "save":
            return {"ok": True, "backup": self._settings.save()}
        if word in ("reload", "revert"):
            return self._told(self._settings.reload())
        if word == "record":
            return self._recorded(self._recorder.start(self._daemon))
        if word == "stop-record":
            return self._recorded(self._recorder.stop())
        if word == "push":
            return self._pushed(message)
        request = parse_request(message)
        if request is None:
            raise UsageError(f"unknown request {word!r}")
        return self._told(self._daemon.ask(request))

    def _pushed(self, message: dict[str, Any]) -> socket.Answer:
        push = self._daemon.push
        if push is None:
            raise UsageError("only a simulated rig is pushed from here: push a real one by hand")
        cart, pole = (socket.number(message, key, 0.0) for key in ("cart_m_s", "pole_rad_s"))
        if not (abs(cart) <= MOST_PUSH_M_S and abs(pole) <= MOST_PUSH_RAD_S):
            raise UsageError(f"a push is at most {MOST_PUSH_M_S} m/s and {MOST_PUSH_RAD_S} rad/s")
        push(cart, pole)
        return self._told(Answer(True, f"pushed: cart {cart:+g} m/s, pole {pole:+g} rad/s"))

    def _recorded(self, told: str) -> socket.Answer:
        self._daemon.events.put(told)
        return self._told(Answer(True, told))

    @staticmethod
    def _told(answer: Answer) -> socket.Answer:
        return {"ok": answer.ok, "text" if answer.ok else "error": answer.text}
