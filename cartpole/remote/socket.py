"""The control socket: JSON, one object a line, over a Unix socket with file permissions.

Requests: ``{"do": "status"}``, ``{"do": "arm"}`` and the other operator words, ``{"do": "target",
"value": 0.1}``, ``{"do": "reference", "shape": "sine", ...}``, ``{"do": "fields"}``,
``{"do": "set", "values": {...}}``, ``{"do": "save"}``, ``{"do": "revert"}``, ``{"do": "reload"}``,
``{"do": "record"}`` (begin a recording, in any mode) and ``{"do": "stop-record"}`` (end it; answers
when the file is whole).
Answers: ``{"ok": true, "text": "one line"}``, or with what was asked for in place of the text, or
``{"ok": false, "error": "one line"}``. A peer must be root, the daemon's own user, or a member of
the socket's group.
"""

from __future__ import annotations

import contextlib
import grp
import json
import math
import os
import pwd
import socket
import socketserver
import stat
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cartpole.errors import CartpoleError, DeviceBusy, UsageError
from cartpole.messages import Reference, ReferenceShape, Request, RequestKind

LONGEST_LINE = 65536
MODE = 0o660
MOST_CLIENTS = 16
IDLE_S = 60.0  # a client that asks nothing for so long is hung up
STACK_BYTES = 512 << 10  # of a client's thread: memory is locked, so every byte of it is real
PROBE_S = 1.0
OPERATOR_WORDS = {
    kind.value: kind
    for kind in RequestKind
    if kind not in (RequestKind.CONFIG, RequestKind.TARGET, RequestKind.REFERENCE)
}

Answer = dict[str, Any]
Handler = Callable[[dict[str, Any]], Answer]


def parse_request(message: dict[str, Any]) -> Request | None:
    """The operator's request in a message; ``None`` if the word is none of theirs."""
    word = message.get("do")
    if not isinstance(word, str):
        raise UsageError('a request is {"do": WORD}')
    if word in OPERATOR_WORDS:
        return Request(OPERATOR_WORDS[word])
    if word == "target":
        return Request(RequestKind.TARGET, value=number(message, "value"))
    if word == "reference":
        shape = message.get("shape")
        if shape not in [item.value for item in ReferenceShape]:
            raise UsageError(f"shape {shape!r}: allowed are hold, square, sine")
        reference = Reference(
            ReferenceShape(shape),
            number(message, "centre_m", 0.0),
            number(message, "amplitude_m", 0.0),
            number(message, "period_s", 8.0),
        )
        return Request(RequestKind.REFERENCE, reference=reference)
    return None


def number(message: dict[str, Any], key: str, default: float | None = None) -> float:
    """A number of a message; UsageError if it is none."""
    value = message.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UsageError(f"{key} must be a finite number")
    return number


class ControlSocket:
    """Serves ``handler`` while entered; each client in a thread of its own."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler

    def __enter__(self) -> ControlSocket:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CartpoleError(f"{self._path}: no folder for it: {error.strerror}") from None
        free_path(self._path)
        mask = os.umask(0o117)
        try:
            self._server = _server(self, str(self._path))
        except OSError as error:
            raise CartpoleError(f"{self._path}: cannot listen there: {error}") from None
        finally:
            os.umask(mask)
        os.chmod(self._path, MODE)
        self._made = self._path.stat().st_ino
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="control", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        with contextlib.suppress(OSError):
            if self._path.lstat().st_ino == self._made:
                self._path.unlink()

    def serve(self, connection: socket.socket, reader: Any, writer: Any) -> None:
        """One client, until it hangs up."""
        refused = refuse_peer(connection, self._path)
        while line := reader.readline(LONGEST_LINE + 1):
            if not line.strip():
                continue
            if len(line) > LONGEST_LINE:
                refused = f"a line of more than {LONGEST_LINE} bytes"
            writer.write(_line(_refusal(refused) if refused else self._answer(line)))
            if refused:
                return

    def _answer(self, line: bytes) -> Answer:
        try:
            message = json.loads(line)
            if not isinstance(message, dict):
                raise UsageError("a request is a JSON object")
            return self._handler(message)
        except CartpoleError as error:
            return _refusal(str(error))
        except (ValueError, RecursionError):
            return _refusal("not a line of JSON")
        except Exception as error:  # whatever is wrong with it, who asks is told
            return _refusal(f"cannot be answered: {type(error).__name__}: {error}")


def _refusal(why: str) -> Answer:
    return {"ok": False, "error": why}


def _line(answer: Answer) -> bytes:
    try:
        return json.dumps(answer, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        return json.dumps(_refusal(f"the answer cannot be written: {error}")).encode() + b"\n"


def _server(control: ControlSocket, path: str) -> socketserver.UnixStreamServer:
    """A listener whose clients are few, hung up when idle, and have small stacks."""
    places = threading.BoundedSemaphore(MOST_CLIENTS)

    class Connection(socketserver.StreamRequestHandler):
        timeout = IDLE_S

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                control.serve(self.connection, self.rfile, self.wfile)

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = MOST_CLIENTS

        def process_request(self, request: Any, client_address: Any) -> None:
            if not places.acquire(blocking=False):
                with contextlib.suppress(OSError):
                    request.settimeout(0.0)
                    request.sendall(_line(_refusal(f"{MOST_CLIENTS} clients are served already")))
                self.shutdown_request(request)
                return
            before = threading.stack_size(STACK_BYTES)
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # no thread to be had
                places.release()
                self.shutdown_request(request)
            finally:
                threading.stack_size(before)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                places.release()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up in the middle is no news."""

    return Server(path, Connection)


def refuse_peer(connection: socket.socket, path: Path) -> str:
    """Why the process at the other end may not command; empty if it may."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, user, group = struct.unpack("3i", raw)
    if user in (0, os.getuid()):
        return ""
    allowed = path.stat().st_gid
    with contextlib.suppress(KeyError):
        name = pwd.getpwuid(user).pw_name
        if group == allowed or name in grp.getgrgid(allowed).gr_mem:
            return ""
    return f"user {user} may not command this rig: not in the group of {path}"


def _admission(path: Path) -> str:
    """What lets a user in."""
    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "its folder is closed to you; join the group that owns it, or ask with sudo"
    return f"join its group (sudo usermod -aG {group} NAME, then log in anew), or ask with sudo"


def free_path(path: Path) -> None:
    """Remove a socket nobody listens at; DeviceBusy if somebody does, UsageError if it is none."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise UsageError(f"service.socket {path}: something else than a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)  # one that is too busy to answer is alive
        try:
            probe.connect(str(path))
        except (TimeoutError, BlockingIOError):
            pass
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise DeviceBusy(f"{path}: another daemon serves this socket; stop it first")


def call(path: Path, message: dict[str, Any], timeout_s: float = 5.0) -> Answer:
    """Ask a running daemon; CartpoleError if none answers there."""
    with Client(path, timeout_s) as client:
        return client.call(message)


class Client:
    """A connection to a daemon's control socket."""

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except PermissionError:
            self._socket.close()
            raise CartpoleError(
                f"{path}: you may not command this rig: {_admission(path)}"
            ) from None
        except OSError as error:
            self._socket.close()
            raise CartpoleError(
                f"{path}: no daemon answers there ({error.strerror}); start one with "
                "`cartpole run`, or name its config with --config"
            ) from None
        self._reader = self._socket.makefile("rb")

    def call(self, message: dict[str, Any]) -> Answer:
        """One request and its answer."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            line = self._reader.readline(16 * LONGEST_LINE)
        except OSError as error:
            raise CartpoleError(f"the daemon does not answer: {error}") from None
        if not line:
            raise CartpoleError("the daemon hung up")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._socket.close()
