"""The kernels' folder: a changed constant in any module that a kernel reads is a new folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cartpole.kernel_cache import PACKAGES, importers, kernel_fingerprint, kernel_sources

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of all Python sources."""
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package,
            tmp_path / package,
            ignore=lambda folder, names: {
                n for n in names if not (Path(folder, n).is_dir() or n.endswith(".py"))
            },
        )
    return tmp_path


def test_every_source_that_reaches_a_kernel_counts(tree: Path) -> None:
    """Constants of the layout, of the records, of a module that a kernel's module imports."""
    before = kernel_fingerprint(tree)
    sources = kernel_sources(tree)
    names = {str(path.relative_to(tree)) for path in sources}
    assert names >= {"cartpole/optimizer/compiled/layout.py", "cartpole/messages.py"}
    for path in sources:
        text = path.read_text()
        path.write_text(text + "\nANOTHER = 1\n")
        assert kernel_fingerprint(tree) != before, path
        path.write_text(text)
    assert kernel_fingerprint(tree) == before


def test_two_rows_swapped_are_another_folder(tree: Path) -> None:
    before = kernel_fingerprint(tree)
    layout = tree / "cartpole/optimizer/compiled/layout.py"
    text = layout.read_text()
    assert "(CTH, COM)" in text
    layout.write_text(text.replace("(CTH, COM)", "(COM, CTH)"))
    assert kernel_fingerprint(tree) != before


def test_a_new_file_with_constants_counts_as_soon_as_a_kernel_reads_it(tree: Path) -> None:
    before = kernel_fingerprint(tree)
    new = tree / "cartpole/model/numbers_of_mine.py"
    new.write_text("ONE = 1.0\n")
    assert kernel_fingerprint(tree) == before
    user = tree / "cartpole/model/dynamics.py"
    user.write_text(
        user.read_text().replace(
            "import math\n", "import math\nfrom cartpole.model.numbers_of_mine import ONE\n", 1
        )
    )
    read = kernel_fingerprint(tree)
    new.write_text("ONE = 2.0\n")
    assert len({before, read, kernel_fingerprint(tree)}) == 3


def test_the_command_line_is_no_kernel_source() -> None:
    """What only speaks may change without compiling anew."""
    assert not any("cli" in path.parts for path in kernel_sources(ROOT))


def test_who_imports_a_file_by_way_of_others() -> None:
    """A changed gate is compiled into the filter's kernels, and into nothing of the tracker's."""
    names = {path.name for path in importers(ROOT / "cartpole/estimation/gate.py", ROOT)}
    assert {"gate.py", "kernels.py", "filter.py"} <= names
    assert "strip.py" not in names
