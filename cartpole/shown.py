"""Text from a file or a wire as it may be shown: one line, and nothing that a terminal obeys."""

from __future__ import annotations

import unicodedata

MOST_CHARACTERS = 2000
# Control, format (text that runs the other way), unpaired surrogates, line and paragraph ends.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def shown(text: str, most: int = MOST_CHARACTERS) -> str:
    """``text`` with everything that is no visible character written as an escape, and cut."""
    if text.isascii() and text.isprintable():
        clean = text
    else:
        clean = "".join(_visible(one) for one in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def _visible(one: str) -> str:
    if unicodedata.category(one) not in _HIDDEN:
        return one
    return one.encode("unicode_escape").decode()
