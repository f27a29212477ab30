"""Where the report's plotting library comes from: plotly.js as the page's framework ships it.

The Python package ``plotly`` would bring the same file, and a hundred megabytes besides.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from cartpole.errors import SessionError

BUNDLE = Path("elements", "plotly", "dist", "index.js")  # within nicegui
# The bundle is a module; a page that is opened from a file runs scripts only. It leaves `Plotly` in
# the window by itself, so what it exports can go.
EXPORTS = re.compile(r"export\s*\{[^{}]*\};?\s*(//# sourceMappingURL=\S*)?\s*$")


def plotting_library() -> str:
    """The text of a script that defines ``Plotly``; SessionError if this machine has none."""
    found = importlib.util.find_spec("nicegui")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        bundle = Path(folder) / BUNDLE
        if bundle.is_file():
            return as_script(bundle.read_text(encoding="utf-8"))
    if importlib.util.find_spec("plotly") is not None:
        from plotly.offline import get_plotlyjs

        return str(get_plotlyjs())
    raise SessionError("the report's plots need plotly.js: pip install plotly")


def as_script(module: str) -> str:
    """A module without imports as a script, its names kept to itself."""
    text, exports = EXPORTS.subn("", module)
    if exports != 1 or "</script" in text:
        raise SessionError("plotly.js is not as expected: pip install plotly")
    return f"(function(){{{text}\n}})();"
