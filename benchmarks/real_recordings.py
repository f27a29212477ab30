"""The pole's numbers from recordings of a real rig, whole and cut into halves, without its truth.

Nobody knows the truth to a millimetre: a fit agrees if its interval holds what most recordings say
(``--length``, its owners measured .395 m), and *misses* if it lies further away than twice its half
width. A part that says too little is refused, which is right; nothing is written here.

    python benchmarks/real_recordings.py FOLDER [--length M] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.pop(0)  # a file here has the name of the package that is measured

from calibration.pole_report import calibrate_pole
from calibration.tables import load_table
from cartpole.errors import IdentificationError

LENGTH, DAMPING = "pole.length_m", "pole.damping_1_s"
LENGTH_M = 0.393
PARTS = ("whole", "first half", "second half")


def cut(path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """The recording, and its two halves as files of their own with the same head."""
    yield PARTS[0], path
    lines = path.read_text().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if not line.startswith("#")) + 1
    middle = (first + len(lines)) // 2
    for name, rows in ((PARTS[1], lines[first:middle]), (PARTS[2], lines[middle:])):
        half = folder / f"{path.stem} {name}.csv"
        half.write_text("".join([*lines[:first], *rows]))
        yield name, half


def fitted(path: Path) -> dict[str, Any]:
    """What a part of a recording gives: value and half width of each number, or why it does not."""
    try:
        result = calibrate_pole(load_table(path))
    except IdentificationError as error:
        return {"refused": str(error)}
    found = {
        name: [one.value, one.ci95[1] - one.value, *one.ci95]
        for name, one in result.estimates.items()
    }
    return {"found": found, "refused": result.refused.get(LENGTH, ""), "flags": result.flags}


def table(lines: list[dict[str, Any]], length_m: float) -> dict[str, dict[str, float]]:
    """Print what the parts agree on; the figures by part."""
    figures = {}
    for part in PARTS:
        those = [one for one in lines if one["part"] == part]
        given = [(one["name"], *one["found"][LENGTH]) for one in those if LENGTH in one["found"]]
        holds = [low <= length_m <= high for _, _, _, low, high in given]
        missed = [name for name, value, half, *_ in given if abs(value - length_m) > 2.0 * half]
        negative = [one["name"] for one in those if one["found"].get(DAMPING, [0.0])[0] < 0.0]
        lengths = [value for _, value, *_ in given] or [float("nan")]
        figures[part] = {
            "recordings": len(those),
            "given": len(given),
            "median_m": statistics.median(lengths),
            "least_m": min(lengths),
            "most_m": max(lengths),
            "widest_half_m": max((half for _, _, half, *_ in given), default=float("nan")),
            "hold": sum(holds),
            "missed_by_more_than_its_size": len(missed),
            "negative_damping": len(negative),
        }
        print(
            f"{part:12s} {len(given)} of {len(those)} give a length, {min(lengths):.4f} to "
            f"{max(lengths):.4f} m, median {statistics.median(lengths):.4f}; {sum(holds)} "
            f"intervals hold {length_m}, {len(missed)} miss it by more than their size {missed}; "
            f"damping negative in {len(negative)}"
        )
    return figures


def main() -> None:
    """Fit and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--length", type=float, default=LENGTH_M)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(options.folder.glob("*.csv")):
            for part, file in cut(path, Path(folder)):
                lines.append({"name": path.stem, "part": part, "found": {}} | fitted(file))
    figures = table(lines, options.length)
    if options.json:
        options.json.write_text(json.dumps({"parts": figures, "fits": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
