"""The first start: one compiles, the others wait and are told; a failure is one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cartpole import first_start
from cartpole.cli import progress
from cartpole.errors import CartpoleError
from cartpole.kernel_cache import ENVIRONMENT, is_warm, mark_warm


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; nothing here compiles into it."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    return tmp_path


def test_who_comes_second_waits_is_told_and_compiles_nothing(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock both would compile, and the parts named here fail."""
    monkeypatch.setattr(first_start, "PARTS", ("no such part",))
    monkeypatch.setattr(first_start, "POLL_S", 0.01)
    told = threading.Event()
    failures: list[CartpoleError] = []

    def second() -> None:
        try:
            first_start.compile_all(
                lambda _done, _total, now: told.set() if "another" in now else None
            )
        except CartpoleError as error:
            failures.append(error)

    with first_start._alone(cold, lambda: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(10.0)
        mark_warm()
    thread.join(10.0)
    assert not thread.is_alive()
    assert failures == []


def test_a_compiler_that_fails_is_one_line_and_marks_nothing(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_start, "PARTS", ("no such part",))
    with pytest.raises(CartpoleError, match=r"^compiling failed: KeyError: 'no such part'$"):
        first_start.compile_all(lambda *_: None)
    assert not is_warm()


def test_the_bar_is_measured_by_the_kernels_of_a_run() -> None:
    """What a whole start leaves in the cache lies near it (126 when this was written)."""
    assert 100 < first_start.kernel_count() < 250


def test_nobody_at_a_terminal_hears_of_it_too(
    cold: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compiles(tell: first_start.Tell) -> None:
        tell(10, 100, "compiling")
        tell(20, 100, "compiling")

    monkeypatch.setattr(first_start, "compile_all", compiles)
    monkeypatch.setattr(progress, "QUIET_LINE_S", 0.0)
    progress.announce_compilation()
    said = capsys.readouterr().err
    assert "once for this machine" in said
    assert "compiling: 20 of 100" in said


THREADS = """
import atexit, os
atexit.register(lambda: print("threads", len(os.listdir("/proc/self/task"))))
from cartpole.cli import main
main()
"""


@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor: no library starts threads")
def test_no_command_starts_threads_for_small_matrices(tmp_path: Path) -> None:
    """They would spin beside a control loop on every product."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS")}
    command = [sys.executable, "-c", THREADS, "simulate", "--duration", "0.1"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "threads 1"
