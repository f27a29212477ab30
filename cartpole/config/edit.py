"""Puts measured values into a settings file: comments and layout stay, a dated backup remains.

The new text is parsed and checked before anything is written; the file is replaced in one step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cartpole.config import tree
from cartpole.config.load import flatten, loads_config, read_text, yaml_scalar
from cartpole.errors import ConfigError


def write_values(
    path: Path,
    values: Mapping[str, Any],
    header_comment: str | None = None,
    now: datetime | None = None,
) -> Path:
    """Replace dotted keys in ``path`` and return the backup's path.

    ``header_comment`` becomes the file's first line (an earlier one with the same first word is
    replaced). Raises ConfigError, with nothing written, if the result would not be good settings.
    """
    path = path.resolve()
    old = read_text(path)
    new = edited(old, values, str(path))
    if header_comment:
        new = _with_header(new, header_comment)
    checked = flatten(loads_config(new, str(path)))
    for key, value in values.items():
        wanted = tuple(value) if isinstance(value, list) else value
        if checked.get(key) != wanted:
            raise ConfigError(f"{path}: {key} could not be set in this layout; edit it by hand")
    stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%S")
    try:
        return _replace(path, new, stamp)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; nothing changed") from None


def edited(text: str, values: Mapping[str, Any], source: str) -> str:
    """``text`` with dotted keys replaced or added; pure."""
    for key, value in values.items():
        root = tree.parse(text, source)
        if root is not None and root.kind != "mapping":
            raise ConfigError(f"{source}:{root.line}: settings are sections with keys")
        text = _set(text, root, key.split("."), yaml_scalar(value))
    return text


def _set(text: str, root: tree.Node | None, keys: list[str], value: str) -> str:
    node, depth = root, 0
    while node is not None and depth < len(keys) and keys[depth] in node.entries:
        node = node.entries[keys[depth]]
        depth += 1
    if depth == len(keys) and node is not None:
        if node.kind == "mapping":
            raise ConfigError(f"{'.'.join(keys)} is a section, not a value")
        lead = " " if node.start == node.end else ""  # `key:` without a value
        return text[: node.start] + lead + value + text[node.end :]
    rest = keys[depth:]
    if node is None:
        return _append(text, rest, value, 0)
    if node.kind == "scalar" and node.scalar is None:
        return _below_empty(text, root, keys[:depth], node, rest, value)
    if node.kind != "mapping":
        raise ConfigError(f"{'.'.join(keys[:depth])} is not a section")
    if node.flow:
        return _into_flow(text, node, rest, value)
    if node is root:
        return _append(text, rest, value, 0)
    return _into_block(text, node, rest, value)


def _lines(keys: list[str], value: str, indent: int) -> str:
    out = [" " * (indent + 2 * i) + f"{key}:" for i, key in enumerate(keys)]
    out[-1] += f" {value}"
    return "\n".join(out) + "\n"


def _append(text: str, keys: list[str], value: str, indent: int) -> str:
    gap = "" if not text.strip() else ("\n" if text.endswith("\n") else "\n\n")
    return text + gap + _lines(keys, value, indent)


def _into_flow(text: str, node: tree.Node, keys: list[str], value: str) -> str:
    inner = value
    for key in reversed(keys[1:]):
        inner = f"{{{key}: {inner}}}"
    close = text.rindex("}", node.start, node.end)
    body = text[node.start + 1 : close].rstrip()
    comma = ", " if body and not body.endswith(",") else ""
    return text[: node.start + 1] + body + comma + f"{keys[0]}: {inner}" + text[close:]


def _into_block(text: str, node: tree.Node, keys: list[str], value: str) -> str:
    """After the line on which the section's last value ends, so that its comment stays its own."""
    last = _last(node)
    at = text.find("\n", last.end)
    indent = next(iter(node.key_column.values()))
    if at < 0:
        return text + "\n" + _lines(keys, value, indent)
    return text[: at + 1] + _lines(keys, value, indent) + text[at + 1 :]


def _below_empty(
    text: str,
    root: tree.Node | None,
    parents: list[str],
    node: tree.Node,
    keys: list[str],
    value: str,
) -> str:
    holder = root
    for key in parents[:-1]:
        assert holder is not None
        holder = holder.entries[key]
    assert holder is not None
    if holder.flow or node.end > node.start:
        raise ConfigError(f"{'.'.join(parents)} is null; give it keys by hand first")
    indent = holder.key_column[parents[-1]] + 2
    at = text.find("\n", node.start)
    if at < 0:
        return text + "\n" + _lines(keys, value, indent)
    return text[: at + 1] + _lines(keys, value, indent) + text[at + 1 :]


def _last(node: tree.Node) -> tree.Node:
    """The node that ends a block mapping (a block's own end mark lies behind comments)."""
    while not node.flow and (node.entries or node.items):
        children = list(node.entries.values()) or node.items
        node = children[-1]
    return node


def _with_header(text: str, comment: str) -> str:
    line = "# " + " ".join(comment.split())
    word = line.split()[1] if len(line.split()) > 1 else ""
    lines = text.split("\n")
    if word and lines[0].startswith(f"# {word}"):
        lines = lines[1:]
    return "\n".join([line, *lines])


def _replace(path: Path, text: str, stamp: str) -> Path:
    backup = path.with_name(f"{path.name}.{stamp}.bak")
    count = 1
    while backup.exists():
        backup = path.with_name(f"{path.name}.{stamp}-{count}.bak")
        count += 1
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, temporary)
        shutil.copy2(path, backup)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return backup
