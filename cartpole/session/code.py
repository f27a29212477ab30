"""Code that settings name: which file, which hash, and that a recording alone never runs it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cartpole.errors import UsageError
from cartpole.rules.control import config_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.messages import TickInput
    from cartpole.session.reader import Session

    Named = Callable[[Config], str]

# Settings that lead to code: their key, and how to read it.
CODE: dict[str, Named] = {
    "optimizer.user_cost": lambda config: config.optimizer.user_cost,
    "optimizer.user_model": lambda config: config.optimizer.user_model,
}
LARGEST_FILE = 4 << 20


def code_named(config: Config) -> dict[str, str]:
    """Settings of ``config`` that name code, and what they name."""
    return {key: named for key, read in CODE.items() if (named := read(config))}


def code_provenance(config: Config) -> dict[str, str]:
    """What a recording keeps of the code that flew: the name and the file's SHA-256."""
    found = {}
    for key, named in code_named(config).items():
        found[key] = named
        found[f"{key}.sha256"] = file_hash(named)
    return found


def file_hash(named: str) -> str:
    """SHA-256 of the file in ``FILE.py:function``; ``unreadable`` if there is none to read."""
    path = Path(named.rpartition(":")[0] or named).expanduser()
    try:
        if path.is_file() and path.stat().st_size <= LARGEST_FILE:
            return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        pass
    return "unreadable"


def refuse_code(config: Config, allowed: dict[str, str], source: str) -> None:
    """UsageError if settings name code that a user did not name himself."""
    for key, named in code_named(config).items():
        if allowed.get(key) != named:
            raise UsageError(
                f"{source} names code to run: {key}={named!r}. No recording is believed in that: "
                f"look at the file, then name it again: --set {key}=FILE.py:FUNCTION"
            )


def refuse_requested_code(given: TickInput, allowed: dict[str, str], source: str) -> None:
    """The same for settings that arrive on the way."""
    for request in given.requests:
        if request.settings is not None:
            refuse_code(config_of(request.settings), allowed, source)


def code_told(session: Session, config: Config) -> list[str]:
    """A line for each file of code: which one is used, and whether it is the one that flew."""
    lines = []
    for key, named in code_named(config).items():
        now = file_hash(named)
        then = session.provenance.get(f"{key}.sha256", "")
        if not then:
            said = "the recording does not say which file flew"
        else:
            said = "as recorded" if now == then else f"CHANGED: the one that flew was {then[:16]}"
        lines.append(f"{key} {named}, sha256 {now[:16]}, {said}")
    return lines
