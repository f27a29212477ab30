"""YAML text as a tree that remembers where everything stands.

Built from the parser's events, so that limits are checked before any object exists: size, depth,
aliases, tags, duplicate keys. Plain scalars follow YAML 1.2's core schema, by which `1e-3` is a
number, `010` is ten, and `on` and `1:30` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cartpole.errors import ConfigError

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_SCALAR = 2000

Scalar = str | int | float | bool | None

_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_OTHER_BASE = re.compile(r"0(o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_MANY_OPENINGS = re.compile(rf"(?:[\[{{]\s*){{{MAX_DEPTH + 1},}}")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")


@dataclass(slots=True)
class Node:
    """A value of the document; ``start`` and ``end`` are character offsets, ``line`` counts from 1.

    ``entries`` holds a mapping's values by key, ``items`` a sequence's; a scalar has neither.
    """

    kind: str  # "mapping", "sequence" or "scalar"
    line: int
    column: int
    start: int
    end: int = 0
    flow: bool = False
    scalar: Scalar = None
    entries: dict[str, Node] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    key_column: dict[str, int] = field(default_factory=dict)

    def plain(self) -> Any:
        """Dictionaries, tuples and scalars; a sequence is a tuple because settings are frozen."""
        if self.kind == "mapping":
            return {key: node.plain() for key, node in self.entries.items()}
        if self.kind == "sequence":
            return tuple(node.plain() for node in self.items)
        return self.scalar

    def line_of(self, path: tuple[str | int, ...]) -> int:
        """Line of the deepest part of ``path`` that the document has."""
        node = self
        for part in path:
            if isinstance(part, str) and part in node.entries:
                node = node.entries[part]
            elif isinstance(part, int) and part < len(node.items):
                node = node.items[part]
            else:
                break
        return node.line


def resolve(text: str) -> Scalar:
    """A plain scalar's value by YAML 1.2's core schema."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if _INTEGER.match(text):
        return int(text) if len(text) < 400 else float("inf")
    if _OTHER_BASE.match(text):
        return int(text, 0) if len(text) < 400 else float("inf")
    if _FLOAT.match(text):
        return float(text)
    if _NOT_FINITE.match(text):
        return float(text.replace(".", ""))
    return text


def parse(text: str, source: str) -> Node | None:
    """The document's root, ``None`` if it holds nothing; raises ConfigError naming the line."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ConfigError(f"{source}: larger than the {MAX_BYTES // 1024} KiB allowed for settings")
    deep = _MANY_OPENINGS.search(text)  # the parser looks far ahead through such a run
    if deep:
        line = text.count("\n", 0, deep.start()) + 1
        raise ConfigError(f"{source}:{line}: nested deeper than the {MAX_DEPTH} levels allowed")
    try:
        return _Builder(source, text).build(_events(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"{where}: not valid YAML: {problem}") from None
    except YAMLError as error:
        problem = " ".join(str(error).split())[:120]
        raise ConfigError(f"{source}: not valid YAML: {problem}") from None
    except ConfigError:
        raise
    except Exception as error:
        # The parser lets a few of its own slips through on hostile bytes; they mean the same.
        raise ConfigError(f"{source}: not valid YAML: {type(error).__name__}") from None


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    yield from yaml.parse(text)


class _Builder:
    """Turns events into nodes with an explicit stack."""

    def __init__(self, source: str, text: str) -> None:
        self.source = source
        self.text = text
        self.stack: list[Node] = []
        self.keys: list[tuple[str, Any] | None] = []
        self.root: Node | None = None
        self.documents = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            self._take(type(event).__name__, event)
        root = self.root
        if root is not None and root.kind == "scalar" and root.scalar is None:
            return None
        return root

    def _fail(self, line: int, message: str) -> ConfigError:
        return ConfigError(f"{self.source}:{line}: {message}")

    def _take(self, name: str, event: Any) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if name == "DocumentStartEvent":
            self.documents += 1
            if self.documents > 1:
                raise self._fail(line, "a second document; settings are one document")
        elif name == "AliasEvent" or (
            name.endswith("StartEvent") and getattr(event, "anchor", None)
        ):
            raise self._fail(line, "anchors and aliases (& and *) are not allowed here")
        elif name == "ScalarEvent":
            self._scalar(event, line)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            self._open(name, event, line)
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            self.stack.pop().end = event.end_mark.index
            self.keys.pop()

    def _open(self, name: str, event: Any, line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._fail(line, f"nested deeper than the {MAX_DEPTH} levels allowed")
        self._no_tag(event, line)
        kind = "mapping" if name == "MappingStartEvent" else "sequence"
        mark = event.start_mark
        node = Node(kind, line, mark.column, mark.index, flow=bool(event.flow_style))
        self._place(node)
        self.stack.append(node)
        self.keys.append(None)

    def _scalar(self, event: Any, line: int) -> None:
        if event.anchor:
            raise self._fail(line, "anchors and aliases (& and *) are not allowed here")
        self._no_tag(event, line)
        text = str(event.value)
        if len(text) > MAX_SCALAR:
            raise self._fail(line, f"a value of more than {MAX_SCALAR} characters")
        parent = self.stack[-1] if self.stack else None
        if parent is not None and parent.kind == "mapping" and self.keys[-1] is None:
            if text in parent.entries:
                raise self._fail(line, f"key '{text}' appears twice; keep one of them")
            self.keys[-1] = (text, event)
            return
        value = resolve(text) if not event.style else text
        start, end = event.start_mark, event.end_mark
        self._place(Node("scalar", line, start.column, start.index, end.index, scalar=value))

    def _no_tag(self, event: Any, line: int) -> None:
        if getattr(event, "tag", None) or getattr(event, "ctag", None):
            raise self._fail(line, "tags (!) are not allowed here")

    def _place(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if parent.kind == "sequence":
            parent.items.append(node)
            return
        key = self.keys[-1]
        if key is None:
            raise self._fail(node.line, "a list or a mapping cannot be a key")
        name, event = key
        node.line = event.start_mark.line + 1  # also when the value stands below its key
        if node.kind == "scalar" and node.start == node.end:
            # The parser puts an empty value where the next token begins.
            node.start = node.end = self.text.find(":", event.end_mark.index) + 1
        parent.entries[name] = node
        parent.key_column[name] = event.start_mark.column
        self.keys[-1] = None
