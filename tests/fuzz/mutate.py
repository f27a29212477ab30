"""Files that something happened to: bytes, messages, cells, lines. All by a seeded generator."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from random import Random
from typing import Any

from mcap.writer import CompressionType, Writer

from cartpole.session.mcap_scan import RECORD
from cartpole.session.reader import open_session

Messages = list[tuple[str, int, int, bytes]]
NASTY_NUMBERS = (
    "nan", "inf", "-inf", "1e999", "-1e308", "1e-320", "0", "-0.0", "9" * 400, "0x10", "1_000",
    "1e", "--1", "1,5", "1.5.2", "", " ", "NaN", "None", "٣", "½", "\u202e1", "1" + "0" * 30,
)  # fmt: skip
NASTY_JSON: tuple[Any, ...] = (
    None, True, -1, 2**63, 2**64 - 1, -(2**63), 1e308, 1e-320, "nan", "inf", "x", "\x1b[2J\n", [],
    {}, [[[[[]]]]], {"a": 1}, "A" * 1000, [0.0] * 200,
)  # fmt: skip
NASTY_YAML = (
    "nan", ".inf", "-1", "0", "1e999", "1e-3", "'1'", "on", "1:30", "010", "0x1f", "~", "[]", "{}",
    "[1, 2]", "{a: 1}", "!!python/object/apply:os.system ['true']", "&a 1", "*a", "|", ">", "%",
    "\ttab", "'", '"', "# no", "sim", "/dev/zero", "../../x", "9" * 400, "é\u202e", "1_0", "true",
)  # fmt: skip


def damaged_bytes(rng: Random, data: bytes, other: bytes) -> bytes:
    """One to four things that happen to bytes."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if len(found) < 16:
            break
        at = rng.randrange(len(found))
        size = min(rng.choice((1, 2, 8, 64, 500, 5000)), len(found) - at)
        kind = rng.randrange(9)
        if kind == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            found[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del found[at : at + size]
        elif kind == 3:
            found[at:at] = found[at : at + size]
        elif kind == 4:
            found[at:at] = rng.randbytes(size)
        elif kind == 5:
            del found[at:]
        elif kind == 6:
            found[at : at + size] = bytes(size)
        elif kind == 7:
            begin = rng.randrange(len(other))
            found[at : at + size] = other[begin : begin + size]
        else:
            _lie_of_length(rng, found)
    return bytes(found)


def _lie_of_length(rng: Random, data: bytearray) -> None:
    """A record's own length becomes another one."""
    at = 8
    heads: list[tuple[int, int]] = []
    while at + RECORD.size <= len(data) and len(heads) < 5000:
        opcode, length = RECORD.unpack_from(data, at)
        heads.append((at, opcode))
        at += RECORD.size + length
    if heads:
        at, opcode = rng.choice(heads)
        size = rng.choice((0, 1, 7, 1 << 20, 1 << 31, 1 << 40, (1 << 64) - 1))
        if at + RECORD.size <= len(data):
            RECORD.pack_into(data, at, opcode, size)


def rearranged(rng: Random, path: Path, target: Path) -> bool:
    """The messages of ``path`` dropped, doubled, in another order, in other chunks; returns whether
    every message is still there, as it was."""
    messages = list(open_session(path).messages())
    unharmed = True
    for _ in range(rng.choice((1, 1, 2))):
        kind = rng.randrange(6)
        if kind == 0:
            dropped = set(rng.sample(range(len(messages)), rng.choice((1, 2, 10))))
            messages = [one for k, one in enumerate(messages) if k not in dropped]
            unharmed = False
        elif kind == 1:
            doubled = rng.sample(messages, rng.choice((1, 5, 50)))
            messages = messages + doubled
        elif kind == 2:
            messages.sort(key=lambda one: one[1])
        elif kind == 3:
            cut = rng.randrange(len(messages))
            messages = messages[cut:] + messages[:cut]
        elif kind == 4:
            rng.shuffle(messages)
        else:
            topic = rng.choice(messages)[0]
            messages = [one for one in messages if one[0] != topic]
            unharmed = unharmed and topic in ("/raw", "/timing", "/truth", "/plan_trajectory")
    write(rng, path, target, messages)
    return unharmed


def spoken_otherwise(rng: Random, path: Path, target: Path) -> None:
    """Well-formed chunks in which messages, settings or texts say something else."""
    messages = list(open_session(path).messages())
    for _ in range(rng.choice((1, 1, 3, 20))):
        k = rng.randrange(len(messages))
        topic, log_time, publish_time, data = messages[k]
        kind = rng.randrange(6)
        if kind == 0:
            log_time = rng.choice((0, 2**63, 2**64 - 1, log_time + 10**9))
        elif kind == 1:
            publish_time = rng.choice((0, 2**63, 2**64 - 1, publish_time + 10**7))
        elif kind == 2:
            topic = rng.choice(("/other", "", "/tick", "/state", "/frame", "/raw", "/request"))
        elif kind == 3:
            data = damaged_bytes(rng, data, data)
        else:
            with contextlib.suppress(ValueError):  # damaged before: no JSON any more
                data = json.dumps(_otherwise(rng, json.loads(data))).encode()
        messages[k] = (topic, log_time, publish_time, data)
    write(rng, path, target, messages, spoil=rng.random() < 0.3)


def _otherwise(rng: Random, value: Any) -> Any:
    """A JSON value with one of its parts another one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: _otherwise(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        k = rng.randrange(len(value))
        return [*value[:k], _otherwise(rng, value[k]), *value[k + 1 :]]
    return rng.choice(NASTY_JSON)


def write(rng: Random, source: Path, target: Path, messages: Messages, spoil: bool = False) -> None:
    """As another tool would write them; ``spoil``: attachments and metadata, too, say otherwise."""
    session = open_session(source)
    compression = rng.choice((CompressionType.ZSTD, CompressionType.LZ4, CompressionType.NONE))
    with target.open("wb") as stream:
        chunk = rng.choice((500, 4000, 1 << 20))
        writer = Writer(
            stream, chunk_size=chunk, compression=compression, use_chunking=rng.random() < 0.9
        )
        writer.start()
        channels: dict[str, int] = {}
        for topic, log_time, publish_time, data in messages:
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "json", 0)
            writer.add_message(channels[topic], log_time, data, publish_time)
        for name, content in session.contents.attachments.items():
            if spoil and name == "config.json":
                content = json.dumps(_otherwise(rng, json.loads(content))).encode()
            writer.add_attachment(0, 0, name, "text/plain", content)
        for name, told in session.metadata.items():
            values = dict(told)
            if spoil and values:
                values[rng.choice(sorted(values))] = rng.choice(("", "nan", "9" * 99, "\x1b[1m"))
            writer.add_metadata(name, values)
        writer.finish()  # type: ignore[no-untyped-call]


def damaged_table(rng: Random, text: str) -> bytes:
    """Cells, rows and bytes of a table."""
    lines = text.splitlines()
    divider = ";" if ";" in lines[0] else ","
    for _ in range(rng.choice((1, 1, 2, 5))):
        k = rng.randrange(len(lines))
        kind = rng.randrange(8)
        if kind < 3:
            cells = lines[k].split(divider)
            cells[rng.randrange(len(cells))] = rng.choice(NASTY_NUMBERS)
            lines[k] = divider.join(cells)
        elif kind == 3:
            lines[k : k + rng.choice((1, 3, 30))] = []
        elif kind == 4:
            lines[k:k] = lines[k : k + rng.choice((1, 3, 30))]
        elif kind == 5:
            lines[k] = rng.choice(("", "#", divider * 5, '"', "sep=;", "x" * 9000, "\ufeff"))
        elif kind == 6:
            lines[k] = lines[k] + divider + rng.choice(NASTY_NUMBERS)
        else:
            lines[k] = lines[k][: rng.randrange(len(lines[k]) + 1)]
        lines = lines or [""]
    data = (
        rng.choice(("\n", "\n", "\r\n", "\r"))
        .join(lines)
        .encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16")), "replace")
    )
    return damaged_bytes(rng, data, data) if rng.random() < 0.2 else data


def damaged_settings(rng: Random, text: str) -> bytes:
    """Lines, values and bytes of a settings file."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        k = rng.randrange(len(lines))
        kind = rng.randrange(7)
        name, colon, _ = lines[k].partition(":")
        if kind < 3 and colon:
            lines[k] = f"{name}: {rng.choice(NASTY_YAML)}"
        elif kind == 3:
            lines[k:k] = lines[k : k + rng.choice((1, 5))]
        elif kind == 4:
            lines[k : k + rng.choice((1, 5))] = []
        elif kind == 5:
            lines[k] = " " * rng.randrange(5) + lines[k].strip()
        else:
            lines[k:k] = [
                rng.choice(("new: 1", "  new: 1", "---", "...", "- a", "? b", "a: " * 20))
            ]
        lines = lines or [""]
    data = "\n".join(lines).encode("utf-8", "replace")
    return damaged_bytes(rng, data, data) if rng.random() < 0.1 else data
