"""Mutated recordings, tables and settings: a result or one line, and nothing is called whole that
is not. ``python tests/fuzz/run.py`` is the long form.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzz import commands
from fuzz.commands import make_bases
from fuzz.run import try_case, try_cases

CASES = int(os.environ.get("CARTPOLE_FUZZ", "120"))
FIRST = 1_000_000  # others than those of the long form


def test_mutated_files_give_a_result_or_one_line(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    bases = make_bases(tmp_path / "bases")
    found = try_cases(range(FIRST, FIRST + CASES), bases)
    assert len(found) == CASES
    assert [one for one in found if one.finding] == []


def test_what_is_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself: a memory bomb, a hang, a traceback and a lie are findings."""
    bases = make_bases(tmp_path)
    kinds = {}

    def spoiled(seed: int, _given: object, _folder: Path) -> str:
        if seed == 0:
            return str(len(bytearray(300 << 20)))
        if seed == 1:
            raise KeyError("x")
        return "fine"

    monkeypatch.setattr(commands, "one_case", spoiled)
    for seed in range(3):
        kinds[seed] = try_case(seed, bases, tmp_path).finding
    assert kinds[0].endswith("MB")
    assert kinds[1].startswith("KeyError")
    assert kinds[2] == ""
