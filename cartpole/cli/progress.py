"""Progress bars and the line about compilation; quiet where nobody looks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_COMPILE = """
from cartpole.kernel_cache import mark_warm, use_kernel_cache
use_kernel_cache()
from cartpole.config.schema import Config
from cartpole.daemon.assembly import warm_up
warm_up(Config())
mark_warm()
"""


def announce_compilation() -> None:
    """On a first start say so, and compile in a process of its own.

    The process that compiles runs other copies of some kernels than those that read them from the
    cache, and they round differently: a session recorded there would not replay bit for bit.
    """
    from cartpole.kernel_cache import is_warm

    if not is_warm():
        print(
            "compiling the kernels once for this machine (a minute or two); "
            "later starts take a second",
            file=sys.stderr,
        )
        subprocess.run([sys.executable, "-c", _COMPILE], check=False)


class Advance(Protocol):
    """How much is done, and what is being done."""

    def __call__(self, done: float, now: str = "", /) -> None: ...


def _nobody_looks(_done: float, _now: str = "") -> None:
    pass


@contextmanager
def progress(text: str, total: float) -> Iterator[Advance]:
    """A bar on the terminal's error stream; call the function with how much is done."""
    if not sys.stderr.isatty():
        yield _nobody_looks
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total)

        def advance(done: float, now: str = "") -> None:
            bar.update(task, completed=min(done, total), description=now or text)

        yield advance
