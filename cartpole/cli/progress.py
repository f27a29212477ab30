"""Progress bars and the line about compilation; quiet where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

QUIET_LINE_S = 5.0  # between two lines where no bar can be drawn


def announce_compilation() -> None:
    """On a first start compile everything, and say how it goes, whoever looks."""
    from cartpole.kernel_cache import is_warm

    if is_warm():
        return
    from cartpole.first_start import compile_all

    text = "compiling once for this machine; later starts take a second or two"
    if sys.stderr.isatty():
        with progress(text, 1.0) as advance:
            compile_all(lambda done, total, now: advance(done / total, f"{text}: {now}"))
        return
    print(f"{text} ...", file=sys.stderr)
    said = time.monotonic()

    def tell(done: int, total: int, now: str) -> None:
        nonlocal said
        if time.monotonic() - said >= QUIET_LINE_S:
            said = time.monotonic()
            print(f"{now}: {done} of {total}", file=sys.stderr)

    compile_all(tell)


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
