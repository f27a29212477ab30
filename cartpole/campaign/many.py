"""Many runs at once, on one machine or a cluster; what is finished is kept in a file at once.

The file holds one JSON line a run behind a line that says what was flown. A campaign that was cut
off, whatever by, goes on from it: a last line that is not whole is dropped, no seed is flown twice.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from cartpole.campaign.draw import Draw, draw
from cartpole.campaign.figures import command
from cartpole.campaign.flight import fly
from cartpole.campaign.judge import Flown
from cartpole.campaign.strikes import STRIKES, chosen
from cartpole.config.schema import Config
from cartpole.errors import SessionError, UsageError


def fly_seed(base: Config, seed: int, faults: tuple[str, ...]) -> Flown:
    """The run of a seed; what raises is a failure like any other."""
    from cartpole.kernel_cache import use_kernel_cache

    use_kernel_cache()
    return fly_drawn(base, draw(seed, faults))


def fly_drawn(base: Config, drawn: Draw) -> Flown:
    """One run; what raises is a failure like any other."""
    try:
        with collected_after():
            return fly(drawn, base)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Flown(
            drawn.seed, drawn.names, drawn.strike, why=text, end_right=False, cause_right=False
        )


@contextmanager
def collected_after() -> Iterator[None]:
    """Python's collector waits until a run is over, and then looks at what the run left only.

    Searching 20 s of flight again and again takes a twentieth of it and finds little; searching the
    program and its compiled kernels, which stay, takes as long again.
    """
    was = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if was:
            gc.enable()


def fly_many(
    base: Config,
    seeds: Sequence[int],
    faults: tuple[str, ...],
    backend: str = "joblib",
    jobs: int | None = None,
) -> Iterator[Flown]:
    """Every seed's run, in the order in which they end. UsageError: a backend not installed."""
    if backend == "dask":
        yield from _by_dask(base, seeds, faults, jobs)
    else:
        yield from _by_joblib(base, seeds, faults, jobs)


def _by_joblib(
    base: Config, seeds: Sequence[int], faults: tuple[str, ...], jobs: int | None
) -> Iterator[Flown]:
    from joblib import Parallel, delayed

    workers = jobs or len(os.sched_getaffinity(0))
    if workers == 1 or len(seeds) == 1:
        yield from (fly_seed(base, seed, faults) for seed in seeds)
        return
    pool = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    yield from pool(delayed(fly_seed)(base, seed, faults) for seed in seeds)


def _by_dask(
    base: Config, seeds: Sequence[int], faults: tuple[str, ...], jobs: int | None
) -> Iterator[Flown]:
    """On the cluster that DASK_SCHEDULER_ADDRESS names, else on one of this machine's own."""
    try:
        distributed = importlib.import_module("distributed")
    except ImportError:
        raise UsageError(
            "--backend dask needs dask and distributed: pip install 'cartpole[cluster]'"
        ) from None
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    workers = jobs or len(os.sched_getaffinity(0))
    own = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    client = distributed.Client(address) if address else distributed.Client(**own)
    try:
        work = [client.submit(fly_seed, base, seed, faults, pure=False) for seed in seeds]
        for done in distributed.as_completed(work):
            yield done.result()
            done.release()
    finally:
        client.close()


# What a campaign has flown so far.


def _what(base: Config, faults: tuple[str, ...]) -> str:
    """A fingerprint of what seeds mean: settings and faults."""
    text = json.dumps([base.model_dump(mode="json"), faults], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Kept:
    """Finished runs in a file; ``flown`` are those that were there when it was opened."""

    def __init__(self, path: Path, base: Config, faults: tuple[str, ...]) -> None:
        """SessionError: the file is another campaign's, or none at all."""
        self.flown: list[Flown] = []
        what = _what(base, faults)
        whole = self._read(path, what) if path.exists() else 0
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(whole)
        self._file.seek(whole)
        if whole == 0:
            self._write({"campaign": what})

    def _read(self, path: Path, what: str) -> int:
        """Takes the whole lines; how many bytes they are."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        if not lines:
            if data:
                raise SessionError(f"{path}: no campaign's file")
            return 0
        try:
            if json.loads(lines[0])["campaign"] != what:
                raise SessionError(f"{path}: flown with other settings or faults; name another")
            self.flown = [_flown(json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError):
            raise SessionError(f"{path}: no campaign's file") from None
        return whole

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def keep(self, flown: Flown) -> None:
        """One more is finished."""
        self._write(flown.plain())

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def _flown(line: dict[str, Any]) -> Flown:
    known = {f.name for f in fields(Flown)}
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in line.items() if k in known
    }
    return Flown(**values)


def fly_campaign(
    base: Config,
    seeds: Sequence[int],
    faults: tuple[str, ...],
    *,
    backend: str = "joblib",
    jobs: int | None = None,
    resume: Path | None = None,
    advance: Callable[[float], None] = lambda _done: None,
) -> list[Flown]:
    """All of ``seeds``, those excepted that ``resume`` holds already; ``advance`` counts them."""
    kept = None if resume is None else Kept(resume, base, faults)
    wanted = set(seeds)
    flown = [] if kept is None else [run for run in kept.flown if run.seed in wanted]
    done = {run.seed for run in flown}
    left = [seed for seed in seeds if seed not in done]
    try:
        for run in fly_many(base, left, faults, backend, jobs) if left else ():
            if kept is not None:
                kept.keep(run)
            flown.append(run)
            advance(len(flown))
    finally:
        if kept is not None:
            kept.close()
    return flown


def kept_of(drawn: Draw, names: Sequence[str]) -> Draw:
    """A draw with these ingredients only; UsageError for one that it has not."""
    for name in names:
        if name not in drawn.names:
            known = ", ".join(drawn.names)
            raise UsageError(f"--keep {name}: seed {drawn.seed} has no such ingredient ({known})")
    return drawn.keeping(names)


def faults_of(text: str | None) -> tuple[str, ...]:
    """Faults by name, commas between; all without a name. UsageError for an unknown one."""
    if text == "none":
        return ()
    try:
        return chosen(name.strip() for name in text.split(",")) if text else chosen(())
    except KeyError as error:
        known = ", ".join(STRIKES)
        raise UsageError(f"--faults {error.args[0]}: not one of none, {known}") from None


def shrink(base: Config, drawn: Draw) -> Draw:
    """The fewest ingredients of a failing draw that still fail; each is needed.

    Halves first, then one by one, as in delta debugging (Zeller and Hildebrandt, 2002).
    """
    names = list(drawn.names)
    size = max(len(names) // 2, 1)
    while names and size:
        shorter = None
        for begin in range(0, len(names), size):
            rest = [*names[:begin], *names[begin + size :]]
            if fly_drawn(base, drawn.keeping(rest)).why:
                shorter = rest
                break
        if shorter is None:
            size //= 2
        else:
            names = shorter
            size = min(size, max(len(names) // 2, 1))
    return drawn.keeping(names)


def shrink_failures(
    base: Config,
    failures: Sequence[dict[str, Any]],
    flown: Sequence[Flown],
    faults: tuple[str, ...],
    options: Sequence[str],
) -> None:
    """Adds to each failure its fewest ingredients, and the command that flies those."""
    runs = {run.seed: run for run in flown}
    for failure in failures:
        least = shrink(base, draw(failure["seed"], faults)).names
        again = command(runs[failure["seed"]], options, least)
        failure.update(ingredients=list(least), command=again)
