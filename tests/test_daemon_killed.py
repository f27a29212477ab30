"""A daemon that is killed, or loses its power, leaves all but the last moment of a recording.

``python tests/kills/run.py`` is the long form.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HARNESS = Path(__file__).resolve().parent / "kills" / "run.py"

pytestmark = pytest.mark.realtime


def test_little_is_lost(tmp_path: Path) -> None:
    words = ["--kills", "3", "--cuts", "30", "--json", str(tmp_path / "x.json")]
    done = subprocess.run(
        [sys.executable, str(HARNESS), *words], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
