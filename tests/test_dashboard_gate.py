"""Who has no token costs nothing; a daemon that is refused leaves the first one's address alone."""

from __future__ import annotations

import asyncio
import http.client
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.daemon.assembly import assemble
from cartpole.dashboard.gate import TOLD, TokenGate
from cartpole.dashboard.process import PageProcess
from cartpole.errors import DeviceBusy
from cartpole.remote.socket import ControlSocket

REQUESTS = 1500


def config_of(folder: Path, port: int = 8200) -> Config:
    values: dict[str, Any] = {
        "service.socket": str(folder / "x.sock"),
        "dashboard.enabled": True,
        "dashboard.port": port,
        "session.folder": str(folder / "sessions"),
    }
    return with_values(Config(), values)


def test_a_second_daemon_leaves_the_first_one_s_address(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    address = tmp_path / "x.sock.url"
    with ControlSocket(tmp_path / "x.sock", lambda _message: {"ok": True}):
        address.write_text("http://127.0.0.1:8200/?token=first\n")
        with pytest.raises(DeviceBusy), assemble(config):
            raise AssertionError("two daemons at one socket")
        assert address.read_text().endswith("first\n")
    assert not (tmp_path / "sessions").exists()


def test_a_page_removes_its_own_address_only(tmp_path: Path) -> None:
    page = PageProcess(config_of(tmp_path), None)
    page._process = Idle()  # type: ignore[assignment]
    with page:
        assert page.setup.token in (tmp_path / "x.sock.url").read_text()
        (tmp_path / "x.sock.url").write_text("another one's\n")
    assert (tmp_path / "x.sock.url").read_text() == "another one's\n"


class Idle:
    """A process that is none."""

    def start(self) -> None:
        """Nothing."""

    terminate = kill = start

    def join(self, _seconds: float = 0.0) -> None:
        """Nothing."""

    def is_alive(self) -> bool:
        return False


def scope(query: bytes) -> dict[str, Any]:
    return {"type": "http", "path": "/", "query_string": query}


@pytest.mark.parametrize(
    "query", [b"", b"token=", b"token=wrong", b"token=right2", b"x=" + b"a" * 10_000, b"token=\xff"]
)
def test_nothing_behind_the_gate_hears_of_him(query: bytes) -> None:
    sent: list[dict[str, Any]] = []

    async def app(*_: object) -> None:
        raise AssertionError("let in")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def ask() -> None:
        gate = TokenGate(app, "right")
        for _ in range(REQUESTS):
            await gate(scope(query), None, send)
            assert [sent[0]["status"], sent[1]["body"]] == [403, TOLD]
            sent.clear()

    asyncio.run(ask())
    tracemalloc.start()
    try:
        asyncio.run(ask())
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


def test_who_brings_the_token_is_let_in() -> None:
    seen = []

    async def app(given: Any, *_: object) -> None:
        seen.append(given["query_string"])

    asyncio.run(TokenGate(app, "right")(scope(b"a=1&token=right"), None, None))
    assert seen == [b"a=1&token=right"]


@pytest.mark.realtime
def test_the_page_keeps_nothing_of_strangers(tmp_path: Path) -> None:
    """The real page: 45 kB were kept of each before there was a gate."""
    import socket
    import time

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = PageProcess(config_of(tmp_path, port), None)
    with page:
        pid = page._process.pid
        assert pid is not None
        end_s = time.monotonic() + 60.0
        while not answers(port):
            assert time.monotonic() < end_s
            time.sleep(0.2)
        for _ in range(100):
            assert asked(port, "/?token=x") == 403
        before = resident(pid)
        for k in range(REQUESTS):
            assert asked(port, ("/", "/?token=wrong", f"/?token={k}")[k % 3]) == 403
        assert resident(pid) - before < 8 << 20


def answers(port: int) -> bool:
    try:
        return asked(port, "/") == 403
    except OSError:
        return False


def asked(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
