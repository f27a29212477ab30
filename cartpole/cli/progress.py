"""Progress bars and the line about compilation; quiet where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def announce_compilation() -> None:
    """Say that the first start compiles, if this is one."""
    from cartpole.kernel_cache import is_warm

    if not is_warm():
        print(
            "compiling the kernels once for this machine (a minute or two); "
            "later starts take a second",
            file=sys.stderr,
        )


@contextmanager
def progress(text: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on the terminal's error stream; call the function with how much is done."""
    if not sys.stderr.isatty():
        yield lambda _done: None
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
        yield lambda done: bar.update(task, completed=min(done, total))
