"""The first start: every kernel compiled once, on two processors side by side, with progress.

The processes that compile end before any run begins. One that compiles runs other copies of some
kernels than those that read them from the cache, and they round differently: a session recorded
there would not replay bit for bit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import CartpoleError
from cartpole.kernel_cache import is_warm, mark_warm, use_kernel_cache

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# What each process compiles (below): about as much work in each, and hardly a kernel in both.
PARTS = ("plans", "senses")
POLL_S = 0.25
BUDGET = 20  # Newton steps of the plan that compiles the optimizer
# Functions with an entry of their own in the cache; only rooms that a run needs.
ROOMS = ("model", "estimation", "control", "optimizer/compiled", "vision", "sim")
KERNEL = re.compile(r"^(?:@|\w+ = )njit\(cache=True", re.MULTILINE)

# How much is done of how much, and what is being done.
Tell = Callable[[int, int, str], None]


def compile_all(tell: Tell) -> None:
    """Return with all kernels in the cache; ``tell`` hears how it goes, often.

    Of several that start at once one compiles and the others wait. Raises CartpoleError if the
    compiler fails.
    """
    folder = use_kernel_cache()
    total = kernel_count()
    with _alone(folder, lambda: tell(_done(folder), total, "another process compiles")):
        if is_warm():
            return
        _run_parts(lambda: tell(_done(folder), total, "compiling"))
        mark_warm()


def _run_parts(waiting: Callable[[], None]) -> None:
    with contextlib.ExitStack() as stack:
        running = []
        for part in PARTS:
            said = stack.enter_context(tempfile.TemporaryFile())
            command = [sys.executable, "-m", "cartpole.first_start", part]
            process = stack.enter_context(subprocess.Popen(command, stderr=said))
            stack.callback(process.kill)
            running.append((process, said))
        while any(process.poll() is None for process, _ in running):
            waiting()
            time.sleep(POLL_S)
        for process, said in running:
            if process.returncode != 0:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise CartpoleError(
                    f"compiling failed: {lines[-1] if lines else process.returncode}"
                )


def kernel_count() -> int:
    """Kernels of a run, about: what progress is measured by."""
    here = Path(__file__).parent
    files = (path for room in ROOMS for path in (here / room).rglob("*.py"))
    return sum(len(KERNEL.findall(path.read_text())) for path in files)


def compile_part(part: str) -> None:
    """Run what one of ``PARTS`` is made of once, in this process."""
    import gc

    gc.disable()  # a compiler makes no garbage worth looking for: a tenth of its time
    use_kernel_cache()
    from cartpole.config.schema import Config

    {"plans": _plans, "senses": _senses}[part](Config())


def _plans(config: Config) -> None:
    """The optimizer, then all else of a tick, then the drawn picture."""
    import numpy as np

    from cartpole.daemon.assembly import warm_up
    from cartpole.optimizer.backends import make_planner
    from cartpole.rules.optimizer import planner_rules
    from cartpole.rules.sim import rig_rules
    from cartpole.sim.eye import Eye
    from cartpole.sim.shutter import Shot

    rules = planner_rules(config)
    make_planner(rules).plan(np.zeros(5), np.zeros(rules.horizon_steps + 1), BUDGET, 1)
    warm_up(config)
    Eye(rig_rules(config), 0).draw(Shot(0, 0, 0, 0, (0.0, 0.0, 0.0, 0.0), False, False))


def _senses(config: Config) -> None:
    """The camera's tracker."""
    from cartpole.vision.tracker import Tracker
    from cartpole.vision.warm_up import warm_up

    warm_up(Tracker(config.camera), config.camera)


def _done(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*/*.nbi"))


@contextlib.contextmanager
def _alone(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the cache folder's lock; call ``waiting`` as long as somebody else does."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:  # no cache to be had: everybody compiles for himself
        yield
        return
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waiting()
                time.sleep(POLL_S)
        yield
    finally:
        os.close(handle)


if __name__ == "__main__":
    compile_part(sys.argv[1])
