"""Real-time hygiene of the control process: what the system allows, and what it refused."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Service

MCL_CURRENT_AND_FUTURE = 3
SWITCH_INTERVAL_S = 0.0005  # Python's default of 5 ms would let a helper thread delay a tick


def enter(service: Service) -> list[str]:
    """Take priority, processor and memory as configured.

    Threads started from now on inherit the priority, until ``stop_inheriting``. Returns what the
    system refused, one line each.
    """
    refused = []
    sys.setswitchinterval(SWITCH_INTERVAL_S)
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
    if service.lock_memory:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mlockall(MCL_CURRENT_AND_FUTURE) != 0:
            refused.append(f"mlockall: {os.strerror(ctypes.get_errno())}")
    return refused


def take_priority(priority: int, *, inherit: bool = True) -> None:
    """SCHED_FIFO for the calling thread; raises OSError where it is not allowed."""
    policy = os.SCHED_FIFO if inherit else os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    os.sched_setscheduler(0, policy, os.sched_param(priority))


def stop_inheriting(service: Service) -> None:
    """Threads and processes started from now on get the ordinary scheduler."""
    if service.priority > 0:
        with contextlib.suppress(OSError):
            take_priority(service.priority, inherit=False)


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
