"""Tests the tests: each line of the lists beside this file is one change that a named test notices.

A line holds file, old text, new text and test, tabs between (``\\n`` for a new line in a text).
The old text occurs once. The change is made while the module is loaded, so that nothing is copied
and no other file sees it; a C source is changed in a copy of the firmware's folder. Kernels that
may hold what is changed are compiled anew, into a folder of the mutant's own.

``run.py`` flies all; ``run.py WORD`` those whose line has the word; ``--name`` runs the whole test
file of each line and writes down the test that noticed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.abc
import importlib.machinery
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parent.parent.parent
LISTS = Path(__file__).resolve().parent
FIRMWARE = ROOT / "firmware_bridge" / "firmware"
FIRMWARE_LINE = 'FIRMWARE = ROOT / "firmware_bridge" / "firmware"'
TIMEOUT_S = 300
PASSED, FAILED = 0, 1  # pytest's exit codes


@dataclass(frozen=True)
class Mutant:
    """One changed text and the test that must notice."""

    list: Path
    line: str
    file: Path
    old: str
    new: str
    test: str

    @property
    def shown(self) -> str:
        """One line for a person."""
        old, new = self.old.strip(), self.new.strip()
        return f"{self.file.relative_to(ROOT)}: {old!r} -> {new!r} ({self.test})"

    def problem(self) -> str:
        """Why it cannot be tried; empty if it can."""
        if not self.file.exists():
            return "no such file"
        count = self.file.read_text().count(self.old)
        return "" if count == 1 else f"the old text occurs {count} times"


def read_lists(word: str = "", folder: Path = LISTS) -> list[Mutant]:
    """Every mutant of every list; ValueError for a line that is none."""
    found = []
    for path in sorted(folder.glob("*.tsv")):
        for line in path.read_text().splitlines():
            if not line or line.startswith("#") or word not in line:
                continue
            parts = line.split("\t")
            if len(parts) != 4:
                raise ValueError(f"{path.name}: not file, old, new, test: {line!r}")
            name, old, new, test = (part.replace("\\n", "\n") for part in parts)
            found.append(Mutant(path, line, ROOT / name, old, new, test))
    return found


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with one text replaced, and leaves no compiled file behind."""

    def __init__(self, name: str, path: str, old: str, new: str) -> None:
        super().__init__(name, path)
        self._old, self._new = old, new

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = Path(path).read_text().replace(self._old, self._new)
        return compile(source, path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, path: Path, old: str, new: str) -> None:
        self._path, self._old, self._new = path, old, new

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The changed module; ``None`` for all others."""
        if self._path.stem not in (fullname.rpartition(".")[2], "__init__"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != self._path:
            return None
        spec.loader = _Loader(fullname, spec.origin, self._old, self._new)
        return spec


def _change(mutant: Mutant, scratch: Path) -> None:
    """Let this process see the change."""
    path, old, new = mutant.file, mutant.old, mutant.new
    if mutant.file.suffix in (".c", ".h"):
        copy = scratch / "firmware"
        shutil.copytree(FIRMWARE, copy)
        (copy / mutant.file.name).write_text(mutant.file.read_text().replace(old, new))
        path = ROOT / "tests" / "support" / "firmware.py"
        old, new = FIRMWARE_LINE, f"FIRMWARE = Path({str(copy)!r})"
    sys.meta_path.insert(0, _Finder(path, old, new))


def _warm_kernels() -> Path:
    """The folder of compiled kernels; asked in another process, as nothing here may be loaded."""
    ask = "from cartpole.kernel_cache import use_kernel_cache; print(use_kernel_cache())"
    said = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    return Path(said.stdout.strip())


def _own_kernels(changed: Path, warm: Path, scratch: Path) -> None:
    """Kernels as they are, but for those of files that import what is changed, directly or not."""
    from cartpole.kernel_cache import ENVIRONMENT, importers

    reached = importers(changed, ROOT)
    if not any(b"import njit" in path.read_bytes() for path in reached):
        return
    folder = scratch / "kernels"
    shutil.copytree(warm, folder, copy_function=os.symlink)
    for path in reached:
        for kept in folder.rglob(f"{path.stem}.*"):
            kept.unlink()
    os.environ[ENVIRONMENT] = importlib.import_module("numba").config.CACHE_DIR = str(folder)


def _try(mutant: Mutant | None, test: str, warm: Path, output: Path) -> int:
    """In a process of its own: run the test, say how pytest ended."""
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    signal.alarm(TIMEOUT_S)
    with tempfile.TemporaryDirectory() as scratch:
        if mutant is not None:
            _own_kernels(mutant.file, warm, Path(scratch))
            _change(mutant, Path(scratch))
        import pytest

        options = ["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
        return int(pytest.main([*options, *test.split(" ")]))


class Pool:
    """Processes that are forked with everything heavy loaded but nothing of the project."""

    def __init__(self, workers: int, warm: Path) -> None:
        self._workers, self._warm = workers, warm
        self._running: dict[int, tuple[int, Path]] = {}
        self._folder = Path(tempfile.mkdtemp())
        self.ended: dict[int, tuple[int, str]] = {}  # by number: pytest's code (-1: none), output

    def start(self, number: int, mutant: Mutant | None, test: str) -> None:
        """Begin one, once there is room."""
        while len(self._running) >= self._workers:
            self._reap()
        output = self._folder / str(number)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _try(mutant, test, self._warm, output)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        self._running[child] = (number, output)

    def finish(self) -> None:
        """Wait for all."""
        while self._running:
            self._reap()
        shutil.rmtree(self._folder)

    def _reap(self) -> None:
        child, status = os.wait()
        number, output = self._running.pop(child)
        code = os.waitstatus_to_exitcode(status)
        self.ended[number] = (code, output.read_text(errors="replace"))


def _preload() -> None:
    """Load what is heavy and not the project's, once for all."""
    for name in ("numba", "pydantic", "pytest", "scipy.linalg", "yaml"):
        importlib.import_module(name)


def _name(mutants: Sequence[Mutant], ended: dict[int, tuple[int, str]]) -> None:
    """Write the tests that noticed into the lists; lines that nothing noticed go."""
    for number, mutant in enumerate(mutants):
        code, output = ended.get(number, (-1, ""))
        text = mutant.list.read_text()
        noticed = re.search(r"^FAILED (\S+?)(?:\[.*?\])?(?: - .*)?$", output, re.MULTILINE)
        if code == FAILED and noticed:
            old, _, _ = mutant.line.rpartition("\t")
            mutant.list.write_text(text.replace(mutant.line, f"{old}\t{noticed[1]}"))
        elif code == PASSED:
            mutant.list.write_text(text.replace(mutant.line + "\n", ""))


def main() -> int:
    """Exit 0 if every mutant was noticed by its test, and every test passes without it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("word", nargs="?", default="")
    parser.add_argument("--name", action="store_true")
    parser.add_argument("--lists", type=Path, default=LISTS)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.chdir(ROOT)
    mutants = read_lists(options.word, options.lists)
    stale = [(m, why) for m in mutants if (why := m.problem())]
    usable = [m for m in mutants if not m.problem()]
    warm = _warm_kernels()
    os.environ["NUMBA_CACHE_DIR"] = str(warm)
    _preload()
    pool = Pool(options.jobs, warm)
    for number, mutant in enumerate(usable):
        file = mutant.test.partition("::")[0]
        test = file if options.name else mutant.test
        pool.start(number, mutant, test)
    tests = sorted({m.test for m in usable})
    if not options.name:
        for number, test in enumerate(tests):
            pool.start(-1 - number, None, test)
    pool.finish()
    if options.name:
        _name(usable, pool.ended)
    alive = [m for k, m in enumerate(usable) if pool.ended[k][0] != FAILED]
    ill = [
        test
        for number, test in enumerate([] if options.name else tests)
        if pool.ended[-1 - number][0] != PASSED
    ]
    for mutant, why in stale:
        print(f"stale: {mutant.shown}: {why}")
    for mutant in alive:
        code, output = pool.ended[usable.index(mutant)]
        print(f"alive: {mutant.shown}" + ("" if code == PASSED else f": {code}\n{output[-600:]}"))
    for test in ill:
        print(f"fails by itself: {test}")
    print(f"{len(mutants)} mutants, {len(usable) - len(alive)} noticed")
    return 1 if stale or alive or ill else 0


if __name__ == "__main__":
    sys.exit(main())
