"""Real-time hygiene of the control process: what the system allows, and what it refused."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Service

# Pages stay once they were touched, and are not fetched before: the libraries map a gigabyte of
# which a tick touches a fifth, and the warm-up has touched that fifth.
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
THREAD_STACK_BYTES = 512 * 1024  # the default of 8 MB each is reserved, touched and locked in part
SWITCH_INTERVAL_S = 0.0005  # Python's default of 5 ms would let a helper thread delay a tick


def enter(service: Service) -> list[str]:
    """Take priority, processor and memory as configured.

    Threads started from now on inherit the priority. Returns what the system refused, one line
    each.
    """
    refused = []
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threading.stack_size(THREAD_STACK_BYTES)
    if service.cpu >= 0:
        try:
            os.sched_setaffinity(0, {service.cpu})
        except OSError as error:
            refused.append(f"processor {service.cpu}: {error.strerror}")
    if service.priority > 0:
        try:
            take_priority(service.priority)
        except OSError as error:
            refused.append(f"SCHED_FIFO {service.priority}: {error.strerror}")
    if service.lock_memory and (why := lock_memory()):
        refused.append(f"mlockall: {why}")
    return refused


def lock_memory() -> str:
    """What this process has touched, and will, stays in memory; returns why not, if so."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0:
        return os.strerror(ctypes.get_errno())
    return ""


def release() -> None:
    """Give memory and priority back once the rig is at rest: what follows may draw."""
    ctypes.CDLL(None).munlockall()
    leave()


def take_priority(priority: int, thread: int = 0) -> None:
    """SCHED_FIFO for a thread (0: the calling one); raises OSError where it is not allowed."""
    os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))


def lift_helpers(service: Service) -> None:
    """Half the priority for every other thread of this process, and for those they start.

    Whoever holds Python's lock must not be starved by other processes, or the control thread waits
    for it: with ordinary helpers and two busy processors ticks came 40 ms late, with these on time.
    The same holds for a library's own threads, which Python does not know of.
    """
    if service.priority == 0:
        return
    for thread in _threads() - {threading.main_thread().native_id}:
        with contextlib.suppress(OSError):  # ended meanwhile, or not allowed
            take_priority(max(service.priority // 2, 1), thread)


def _threads() -> set[int]:
    """Of this process, Python's or not."""
    with contextlib.suppress(OSError):
        return {int(name) for name in os.listdir("/proc/self/task")}
    return {thread.native_id for thread in threading.enumerate() if thread.native_id is not None}


def leave() -> None:
    """The ordinary scheduler for the calling thread (a process started from the daemon)."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def freeze_garbage() -> None:
    """No collection of old objects while running; ``collect_young`` in idle moments."""
    gc.collect()
    gc.freeze()
    gc.disable()


def collect_young() -> None:
    """Free what died young; some ten microseconds."""
    gc.collect(0)


def thaw_garbage() -> None:
    """Back to ordinary collection."""
    gc.enable()
    gc.unfreeze()
