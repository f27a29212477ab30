"""The lists of mutants can be read, and the change that one makes is seen by nobody else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SPEC = importlib.util.spec_from_file_location("mutants_run", HERE / "mutants" / "run.py")
assert SPEC is not None
assert SPEC.loader is not None
run = importlib.util.module_from_spec(SPEC)
sys.modules["mutants_run"] = run
SPEC.loader.exec_module(run)


def test_every_line_names_a_test_that_is_there() -> None:
    mutants = run.read_lists()
    assert len({mutant.line for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        assert mutant.file.is_file(), mutant.line
        assert not mutant.problem(), mutant.line
        name, *path = mutant.test.split("::")
        assert path, mutant.line
        test = path[-1]
        assert f"def {test}(" in (HERE.parent / name).read_text(), mutant.line


def test_a_line_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_text("a\tb\tc\n")
    with pytest.raises(ValueError, match=r"x\.tsv"):
        run.read_lists("", tmp_path)


def test_a_module_is_changed_while_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "thing_to_change.py"
    path.write_text("LIMIT = 3\nOTHER = 4\n")
    finder = run._Finder(path, "LIMIT = 3", "LIMIT = 9")
    spec = finder.find_spec("thing_to_change", [str(tmp_path)])
    assert spec is not None
    assert finder.find_spec("another", [str(tmp_path)]) is None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (module.LIMIT, module.OTHER) == (9, 4)
    assert path.read_text() == "LIMIT = 3\nOTHER = 4\n"
    assert not (tmp_path / "__pycache__").exists()
