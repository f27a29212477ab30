"""Every setting as a page, from the schema: ``python docs/write_settings.py``."""

from __future__ import annotations

from pathlib import Path

from cartpole.config.load import allowed, dump_yaml, fields
from cartpole.config.schema import Config

PAGE = Path(__file__).resolve().parent / "settings.md"
HEAD = """# Settings
Made from the schema by `python docs/write_settings.py`. *live*: may change while the controller
runs; *disarmed*: only while it is disarmed; all others need a restart. `cartpole schema` prints a
JSON Schema for editors, `cartpole check-config FILE` checks a file.
"""


def page() -> str:
    """The page's text."""
    defaults = dict(_defaults(dump_yaml(Config())))
    lines, section = [HEAD], ""
    for key, info in fields():
        part, _, name = key.rpartition(".")
        if part != section:
            section = part
            lines.append(
                f"\n## {part}\n| setting | default | allowed | meaning |\n|---|---|---|---|"
            )
        extra = info.json_schema_extra
        marks = extra if isinstance(extra, dict) else {}
        when = "".join(f" *{mark}*" for mark in ("live", "disarmed") if marks.get(mark))
        text = (info.description or "").replace("|", "\\|")
        bounds = allowed(info).removeprefix("allowed: ").replace("|", "\\|")
        lines.append(f"| `{name}` | {defaults.get(key, '')} | {bounds} | {text}{when} |")
    return "\n".join(lines) + "\n"


def _defaults(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    path: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, value = line.strip().partition(":")
        path = [*path[:depth], name]
        if value.strip():
            found.append((".".join(path), f"`{value.strip()}`".replace("|", "\\|")))
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
