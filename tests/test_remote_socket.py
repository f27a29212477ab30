"""The control socket: few clients, each line one answer, and nothing deleted but a socket."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cartpole.errors import DeviceBusy, UsageError
from cartpole.remote import socket as control
from cartpole.remote.socket import ControlSocket, free_path, parse_request


def answer(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("do") == "break":
        raise RuntimeError("a bug")
    request = parse_request(message)
    return {"ok": request is not None, "nan": float("nan") if message.get("do") == "nan" else 0}


def ask(path: Path, *lines: bytes) -> list[dict[str, Any]]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5.0)
        client.connect(str(path))
        reader = client.makefile("rb")
        out = []
        for line in lines:
            client.sendall(line + b"\n")
            out.append(json.loads(reader.readline()))
        return out


@pytest.mark.parametrize(
    "line",
    [
        b'{"do":[1]}',
        b'{"do":{}}',
        b"[]",
        b"7",
        b"\xff\xfe",
        b'{"do":"target","value":' + b"9" * 400 + b"}",
        b'{"do":"target","value":NaN}',
        b'{"do":"target","value":1e999}',
        b'{"do":"reference","shape":[1]}',
        b'{"do":"break"}',
        b"[" * 50_000,
    ],
)
def test_every_line_gets_one_answer(tmp_path: Path, line: bytes) -> None:
    with ControlSocket(tmp_path / "c.sock", answer):
        first, second = ask(tmp_path / "c.sock", line, b'{"do":"stop"}')
    assert first["ok"] is False
    assert first["error"]
    assert second["ok"] is True


def test_an_answer_that_is_no_json_is_told(tmp_path: Path) -> None:
    with ControlSocket(tmp_path / "c.sock", answer):
        (told,) = ask(tmp_path / "c.sock", b'{"do":"nan"}')
    assert "cannot be written" in told["error"]


def test_a_line_without_end_is_answered_once(tmp_path: Path) -> None:
    with ControlSocket(tmp_path / "c.sock", answer), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5.0)
        client.connect(str(tmp_path / "c.sock"))
        client.sendall(b"x" * (control.LONGEST_LINE + 1))
        received = b""
        try:
            while piece := client.recv(65536):
                received += piece
        except ConnectionError:
            pass
    assert received.count(b"\n") == 1


def test_clients_are_few_and_have_small_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "IDLE_S", 0.5)
    with ControlSocket(tmp_path / "c.sock", answer):
        clients = [socket.socket(socket.AF_UNIX) for _ in range(control.MOST_CLIENTS + 3)]
        try:
            for client in clients:
                client.connect(str(tmp_path / "c.sock"))
                client.settimeout(5.0)
            told = clients[-1].makefile("rb").readline()
            assert b"served already" in told
            assert threading.active_count() <= control.MOST_CLIENTS + 10
            assert threading.stack_size() == 0
            # Who asks nothing is hung up, and makes room.
            assert clients[0].recv(1) == b""
            # Its thread ends a moment after its line is cut.
            until, ok = time.monotonic() + 5.0, False
            while not ok:
                assert time.monotonic() < until
                with contextlib.suppress(ConnectionError):  # turned away before it had asked
                    ok = bool(ask(tmp_path / "c.sock", b'{"do":"stop"}')[0]["ok"])
        finally:
            for client in clients:
                client.close()


def test_what_is_no_socket_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "letter"
    path.write_text("dear")
    with pytest.raises(UsageError, match="something else"), ControlSocket(path, answer):
        pass
    assert path.read_text() == "dear"
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(UsageError):
        free_path(link)


def test_a_busy_socket_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full backlog answers nobody; the second daemon neither waits for ever nor takes it away."""
    monkeypatch.setattr(control, "PROBE_S", 0.2)
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(path))
            waiting.append(client)
        with pytest.raises(DeviceBusy):
            free_path(path)
        for client in waiting:
            client.close()
    free_path(path)
    assert not path.exists()
    with ControlSocket(path, answer):
        with pytest.raises(DeviceBusy), ControlSocket(path, answer):
            pass
        assert ask(path, b'{"do":"stop"}')[0]["ok"]
    assert not path.exists()
