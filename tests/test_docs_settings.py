"""The page of settings is the schema's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_is_the_schema_s() -> None:
    spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "write_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again = "run: python docs/write_settings.py"
    assert (ROOT / "docs" / "settings.md").read_text() == module.page(), again
