"""How many times faster than real time a recording is replayed, bit for bit, whoever made the file.

``python benchmarks/replay.py [--quick] --json FILE``: one simulated run, as recorded and as other
tools would copy it (sorted by log time; split in two and merged in the wrong order; LZ4; without
compression), each replayed in turns with the others, with all processors and with one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mcap.writer import CompressionType, Writer

from cartpole.config.schema import Config
from cartpole.daemon.virtual import run_virtual
from cartpole.realtime import freeze_garbage, thaw_garbage
from cartpole.session.mcap_stream import Message
from cartpole.session.parallel import processors, timed_replay
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.summary import SummaryBuilder


def copy(
    source: Path,
    path: Path,
    order: Callable[[list[Message]], list[Message]],
    compression: CompressionType = CompressionType.ZSTD,
) -> Path:
    """The recording's messages in another order and another compression, chunks of 1 MB."""
    session = open_session(source)
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=1 << 20, compression=compression)
        writer.start()
        channels: dict[str, int] = {}
        for topic, log_time, publish_time, data in order(list(session.messages())):
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "json", 0)
            writer.add_message(channels[topic], log_time, data, publish_time)
        for name, content in session.contents.attachments.items():
            writer.add_attachment(0, 0, name, "text/plain", content)
        for name, told in session.metadata.items():
            writer.add_metadata(name, dict(told))
        writer.finish()
    return path


def copies(folder: Path, seconds: float) -> dict[str, Path]:
    config = Config()
    whole = folder / "recorded.mcap"
    run_virtual(config, seconds, SummaryBuilder(config), whole)

    def by_time(found: list[Message]) -> list[Message]:
        return sorted(found, key=lambda message: message[1])

    def merged(found: list[Message]) -> list[Message]:
        return found[len(found) // 2 :] + found[: len(found) // 2]

    return {
        "recorded": whole,
        "sorted": copy(whole, folder / "sorted.mcap", by_time),
        "split_merged": copy(whole, folder / "merged.mcap", merged),
        "lz4": copy(whole, folder / "lz4.mcap", list, CompressionType.LZ4),
        "uncompressed": copy(whole, folder / "plain.mcap", list, CompressionType.NONE),
    }


def one_process(path: Path) -> tuple[float, bool]:
    session = open_session(path)
    begin = time.perf_counter()
    freeze_garbage()
    result = replay(session)
    thaw_garbage()
    return result.duration_s / (time.perf_counter() - begin), result.bitwise_equal


def measure(paths: dict[str, Path], rounds: int) -> dict[str, dict[str, object]]:
    """Medians over the rounds; each round replays every file once each way."""
    fast: dict[str, list[float]] = {name: [] for name in paths}
    slow: dict[str, list[float]] = {name: [] for name in paths}
    equal = dict.fromkeys(paths, True)
    for _ in range(rounds):
        for name, path in paths.items():
            result, speed = timed_replay(open_session(path))
            alone, same = one_process(path)
            fast[name].append(speed)
            slow[name].append(alone)
            equal[name] = equal[name] and same and result.bitwise_equal and not result.told
    return {
        name: {
            "times_real_time": round(statistics.median(fast[name]), 1),
            "least": round(min(fast[name]), 1),
            "one_process": round(statistics.median(slow[name]), 1),
            "bitwise_equal": equal[name],
        }
        for name in paths
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, rounds = (60.0, 1) if options.quick else (120.0, 3)
        found = measure(copies(Path(folder), seconds), rounds)
    figures = {"recorded_s": seconds, "processors": processors(), "copies": found}
    for name, row in found.items():
        print(f"{name:13} {row}")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
