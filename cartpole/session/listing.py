"""What a folder of recordings holds, and what sets two of them apart."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cartpole.errors import SessionError
from cartpole.session import folder
from cartpole.session.code import code_named
from cartpole.session.reader import Session, open_session
from cartpole.session.summary import SummaryBuilder
from cartpole.session.tally import adds_up

MOST_S = 1e12
SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list; ``error`` says why a file could not be read, ``code`` which files of code
    its settings name."""

    name: str
    created: str
    size_bytes: int
    whole: bool
    summary: dict[str, Any] | None
    error: str = ""
    damage: str = ""
    code: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """In a few words how it ended."""
        if self.summary is None:
            return self.error or "empty"
        if self.summary["faults"]:
            return ", ".join(sorted({fault["name"] for fault in self.summary["faults"]}))
        if self.summary["upright_at_s"] is not None:
            return f"upright after {self.summary['upright_at_s']:.2f} s"
        return "never upright" if self.summary["swing_ups"] else "no swing-up"

    def line(self) -> str:
        """For a list: name, date, length, size, outcome, and what is wrong or to be known."""
        seconds = self.summary["duration_s"] if self.summary is not None else 0.0
        state = "" if self.whole else f"  ({self.damage or 'cut off'})"
        code = "".join(f"  runs {named}" for named in self.code)
        return (
            f"{self.name:32} {self.created[:40]:25} {seconds:8.1f} s "
            f"{self.size_bytes / 1e6:8.1f} MB  {self.outcome}{state}{code}"
        )

    def figures(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**asdict(self), "code": list(self.code), "outcome": self.outcome}


def list_sessions(where: Path, quick: bool = False) -> list[Entry]:
    """The recordings of a folder, oldest first; broken ones are listed as such."""
    return [describe(path, quick) for path in folder.recordings(where)]


def describe(path: Path, quick: bool = False) -> Entry:
    """One recording's line; nothing that a file holds can make it fail.

    Every chunk is read, its checksum verified and its messages counted, unless ``quick``: a
    summary at its end says nothing of what is in the middle.
    """
    size = 0
    try:
        size = sum(part.stat().st_size for part in folder.parts(path))
        session = open_session(path)
        created = session.provenance.get("created", "")
        sound = (quick or adds_up(session)) and not session.damages and not session.truncated
        stored = stored_summary(session)
        summary = stored if sound and stored is not None else summarise(session)
        whole = session.whole  # as far as was looked at
        code = code_named(session.config)
    except (SessionError, OSError) as error:
        return Entry(path.name, "", size, False, None, str(error))
    damages = len(session.damages)
    damage = f"damaged in {damages} places" if damages > 1 else "damaged" if damages else ""
    if not damage and not whole and not session.truncated:
        damage = session.told()[0]
    return Entry(path.name, created, size, whole, summary, "", damage, tuple(code.values()))


def summarise(session: Session) -> dict[str, Any] | None:
    """The figures of a recording from its ticks; as far as it can be read. None without ticks."""
    provenance = session.provenance
    builder = SummaryBuilder(
        session.config, provenance.get("git", ""), provenance.get("config_sha256", "")
    )
    found = False
    for tick in session.ticks():
        builder.add(tick.record_without_arrays(), tick.truth, tick.timing)
        found = True
    return builder.result(str(session.path)) if found else None


def stored_summary(session: Session) -> dict[str, Any] | None:
    """The summary that a whole recording carries at its end; None if there is none that fits."""
    text = session.last_metadata.get(SUMMARY, {}).get("json", "")
    try:
        summary = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return summary if isinstance(summary, dict) and _fits(summary) else None


def _fits(summary: dict[str, Any]) -> bool:
    faults = summary.get("faults")
    return (
        isinstance(faults, list)
        and all(isinstance(f, dict) and isinstance(f.get("name"), str) for f in faults)
        and _is_number(summary.get("duration_s"))
        and _is_number(summary.get("swing_ups"))
        and "upright_at_s" in summary
        and (summary["upright_at_s"] is None or _is_number(summary["upright_at_s"]))
    )


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and abs(value) < MOST_S


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two recordings side by side; each value is (first, second)."""

    settings: dict[str, tuple[Any, Any]]
    provenance: dict[str, tuple[str, str]]
    figures: dict[str, tuple[Any, Any]]


def compare(first: Session, second: Session) -> Comparison:
    """The settings, versions and figures in which two recordings differ."""
    from cartpole.config.load import flatten

    settings = _different(flatten(first.config), flatten(second.config))
    provenance = _different(first.provenance, second.provenance)
    figures = _different(_flat_figures(first), _flat_figures(second))
    return Comparison(settings, provenance, figures)


def _different(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = [*first, *(name for name in second if name not in first)]
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat_figures(session: Session) -> dict[str, Any]:
    summary = summarise(session) or {}
    flat: dict[str, Any] = {}
    for name, value in summary.items():
        if name in ("session", "git", "config_sha256"):
            continue
        if isinstance(value, dict):
            flat.update({f"{name}.{inner}": v for inner, v in value.items()})
        elif name == "faults":
            flat[name] = ", ".join(fault["name"] for fault in value) or "none"
        else:
            flat[name] = value
    return flat
