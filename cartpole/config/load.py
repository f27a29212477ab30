"""From a YAML file and ``--set`` overrides to a checked :class:`Config`.

Every refusal is one line: file, line, dotted key, what is wrong and what is allowed.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole.config import tree
from cartpole.errors import ConfigError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from cartpole.config.schema import Config, Section

_Path = tuple[str | int, ...]


def load_config(path: Path | None, overrides: list[str] | None = None) -> Config:
    """The effective settings: defaults, then the file, then overrides ``dotted.key=value``.

    Raises ConfigError with one line that names file, line, key and what is allowed. An empty file
    is refused (a write cut short must not become a rig with default limits); ``{}`` means defaults.
    """
    if path is None:
        return build(None, "settings", overrides)
    return loads_config(read_text(path), str(path), overrides)


def loads_config(text: str, source: str, overrides: list[str] | None = None) -> Config:
    """As :func:`load_config` for YAML text; ``source`` names it in messages."""
    root = tree.parse(text, source)
    if root is None:
        raise ConfigError(f"{source}:1: the file holds no settings; write {{}} for all defaults")
    if root.kind != "mapping":
        raise ConfigError(
            f"{source}:{root.line}: settings are sections with keys (`pole:` and below it "
            f"`  length_m: 0.5`), not a {'list' if root.kind == 'sequence' else 'single value'}"
        )
    return build(root, source, overrides)


def read_text(path: Path) -> str:
    """The file's text; refuses what is not a small UTF-8 file."""
    try:
        if path.is_dir():
            raise ConfigError(f"{path}: a folder; name a YAML file")
        with path.open("rb") as file:
            raw = file.read(tree.MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_similar_file(path)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    if len(raw) > tree.MAX_BYTES:
        raise ConfigError(f"{path}: larger than the {tree.MAX_BYTES // 1024} KiB allowed")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not a text file (UTF-8 is expected)") from None
    return text


def build(root: tree.Node | None, source: str, overrides: list[str] | None) -> Config:
    """Validates a parsed document with overrides laid over it."""
    from pydantic import ValidationError

    from cartpole.config.schema import Config

    data: dict[str, Any] = root.plain() if root is not None else {}
    _prepare(Config, data)
    from_command_line: dict[_Path, str] = {}
    for text in overrides or []:
        keys = _override(data, text)
        from_command_line[keys] = f"--set {text}"
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    first = min(details, key=lambda one: root.line_of(tuple(one["loc"])) if root else 0)
    location = tuple(first["loc"])
    where = source
    for keys, text in from_command_line.items():
        if location[: len(keys)] == keys or keys[: len(location)] == location:
            where = text
    if where == source and root is not None:
        where = f"{source}:{root.line_of(location)}"
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    raise ConfigError(f"{where}: {_explain(first)}{more}")


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A copy with dotted keys replaced; raises ConfigError as a file would."""
    from pydantic import ValidationError

    from cartpole.config.schema import Config

    data = config.model_dump()
    for key, value in values.items():
        _put(data, tuple(key.split(".")), value, f"key {key}")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error.errors(include_url=False)[0])) from None


def flatten(config: Section, prefix: str = "") -> dict[str, Any]:
    """All settings by dotted key."""
    from cartpole.config.schema import Section

    flat: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def changed_keys(old: Config, new: Config) -> set[str]:
    """Dotted keys whose values differ."""
    before, after = flatten(old), flatten(new)
    return {key for key in before if before[key] != after[key]}


def fields() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted key and its field."""
    from cartpole.config.schema import Config

    yield from _fields(Config, "")


def live_fields() -> frozenset[str]:
    """Dotted keys that may change while the controller runs."""
    return _marked("live")


def disarmed_fields() -> frozenset[str]:
    """Dotted keys that may change while the controller runs, but only disarmed: the limits."""
    return _marked("disarmed")


@functools.cache
def _marked(mark: str) -> frozenset[str]:
    found = set()
    for key, info in fields():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get(mark):
            found.add(key)
    return frozenset(found)


def config_sha256(config: Config) -> str:
    """Hash of the effective settings, independent of comments and order."""
    text = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def dump_yaml(config: Section) -> str:
    """The effective settings as YAML that :func:`loads_config` reads back to the same values."""
    return "\n".join(_dump(config, "")) + "\n"


def yaml_scalar(value: Any) -> str:
    """A value as YAML text on one line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(yaml_scalar(one) for one in value) + "]"
    if isinstance(value, str):
        plain = value.replace("_", "").replace("-", "").isalnum()
        return value if plain and tree.resolve(value) == value else json.dumps(value)
    return repr(value)


def _dump(config: Section, indent: str) -> Iterator[str]:
    from cartpole.config.schema import Section

    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _dump(value, indent + "  ")
        else:
            yield f"{indent}{name}: {yaml_scalar(value)}"


def _fields(section: type[Section], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in section.model_fields.items():
        inner = _section_type(info)
        if inner is None:
            yield prefix + name, info
        else:
            yield from _fields(inner, f"{prefix}{name}.")


def _section_type(info: FieldInfo) -> type[Section] | None:
    from cartpole.config.schema import Section

    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _prepare(section: type[Section], data: dict[str, Any]) -> None:
    """A section whose keys are all commented out parses as null and means its defaults."""
    for name, info in section.model_fields.items():
        if name not in data:
            continue
        inner = _section_type(info)
        if inner is None:
            if isinstance(data[name], bool) and info.annotation is not bool:
                data[name] = yaml_scalar(data[name])  # true equals 1 and would pass as a choice
        elif data[name] is None:
            data[name] = {}
        elif isinstance(data[name], dict):
            _prepare(inner, data[name])


def _override(data: dict[str, Any], text: str) -> _Path:
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"--set {text}: write dotted.key=value, for instance pole.length_m=0.4")
    node = tree.parse(value, f"--set {text}")
    keys = tuple(key.split("."))
    _put(data, keys, node.plain() if node is not None else None, f"--set {text}")
    return keys


def _put(data: dict[str, Any], keys: tuple[str, ...], value: Any, where: str) -> None:
    for key in keys[:-1]:
        inner = data.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{where}: {key} is not a section")
        data = inner
    data[keys[-1]] = value


def _field_at(location: _Path) -> tuple[type[Section], FieldInfo | None]:
    """The section that holds ``location`` and its field, if there is one."""
    from cartpole.config.schema import Config

    section: type[Section] = Config
    info: FieldInfo | None = None
    for part in location:
        info = section.model_fields.get(str(part))
        inner = _section_type(info) if info is not None else None
        if inner is None:
            break
        section = inner
    return section, info


def _explain(error: ErrorDetails) -> str:
    """What is wrong and what is allowed, on one line."""
    location = tuple(error["loc"])
    key = ".".join(str(part) for part in location)
    value, kind = error["input"], error["type"]
    section, info = _field_at(location)
    prefix = f"{key}: " if key else ""
    if kind == "extra_forbidden":
        return prefix + "unknown key" + _nearest(str(location[-1]), section, location)
    if kind == "value_error":
        return prefix + str(error["ctx"]["error"])
    if info is None or _section_type(info) is not None:
        keys = ", ".join(section.model_fields)
        return f"{prefix}{_show(value)} is not a section; it takes keys: {keys}"
    return f"{prefix}{_show(value)} {_complaint(kind, error)}; {allowed(info)}"


def _complaint(kind: str, error: ErrorDetails) -> str:
    limit = error.get("ctx", {})
    if kind == "greater_than_equal":
        return f"is below the smallest allowed value {limit['ge']}"
    if kind == "less_than_equal":
        return f"is above the largest allowed value {limit['le']}"
    if kind == "finite_number":
        return "is not a finite number"
    if kind == "literal_error":
        return "is not one of the choices"
    if kind == "string_too_long":
        return "is too long"
    if isinstance(error["input"], str):
        return "is text"
    return "is of the wrong kind"


def allowed(info: FieldInfo) -> str:
    """What a setting takes, in words."""
    kind = info.annotation
    options = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return "allowed: " + ", ".join(yaml_scalar(one) for one in options)
    if typing.get_origin(kind) is tuple:
        return f"allowed: a list of {len(options)} numbers"
    low, high, length = _bounds(info)
    if kind is bool:
        return "allowed: true or false"
    if kind is str:
        return f"allowed: text of at most {length} characters" if length else "allowed: text"
    word = "a whole number" if kind is int else "a number"
    span = f" from {low} to {high}" if low is not None and high is not None else ""
    null = " or null" if type(None) in options else ""
    return f"allowed: {word}{span}{null}"


def _bounds(info: FieldInfo) -> tuple[float | None, float | None, int | None]:
    low = high = length = None
    for one in info.metadata:
        low = getattr(one, "ge", low)
        high = getattr(one, "le", high)
        length = getattr(one, "max_length", length)
    return low, high, length


def _nearest(name: str, section: type[Section], location: _Path) -> str:
    close = difflib.get_close_matches(name, section.model_fields, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    elsewhere = [key for key, _ in fields() if key.rsplit(".", 1)[-1] == name]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    place = ".".join(str(part) for part in location[:-1]) or "the top level"
    return f"; allowed in {place}: " + ", ".join(section.model_fields)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a section"
    text = repr(value) if isinstance(value, str) else yaml_scalar(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _similar_file(path: Path) -> str:
    try:
        names = [one.name for one in path.parent.glob("*.yaml")]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {path.parent / close[0]}?" if close else ""
