"""What is done with a mutated file, and what must hold then.

Allowed is a result, or one of the program's own errors, which the command line shows as one line.
What is said to be whole is compared with the original.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import typer
from fuzz import mutate
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from support.sessions import write_session
from test_session_tables import swing
from typer.testing import CliRunner

from cartpole.cli import calibrate, exchange, replay, report, sessions, settings
from cartpole.config.load import flatten, load_config
from cartpole.config.schema import Config
from cartpole.control.core import ControlCore
from cartpole.errors import CartpoleError, ConfigError
from cartpole.session.channels import CHANNELS
from cartpole.session.reader import Session, open_session
from cartpole.session.recorded import RecordedTick
from cartpole.session.tables import read_table
from cartpole.session.writer import SessionWriter
from cartpole.sim.run import VirtualRun

ROOT = Path(__file__).resolve().parent.parent.parent
TICKS = 40
CALIBRATED = "table, calibrated"  # a fit that is searched for, not a reading


class Finding(Exception):
    """Something that must not be."""


@dataclass(frozen=True)
class Bases:
    """The files that are mutated, and the ticks of the recordings among them."""

    recordings: dict[Path, dict[int, str]]
    tables: tuple[str, ...]
    settings: tuple[str, ...]


def make_bases(folder: Path) -> Bases:
    """Recordings of both cores, with faults and with a state; tables; the shipped settings."""
    paths = [folder / f"{name}.mcap" for name in ("fake", "core", "begun")]
    write_session(paths[0], ticks=TICKS, lost_at=30)
    config = Config()
    for path, begun in ((paths[1], 0), (paths[2], 60)):
        run = VirtualRun(config, 3)
        with SessionWriter(path, config, live=False) as writer:
            if begun == 0:
                writer.put_start(run.homed)
            for tick in run.ticks():
                index = tick.record.index
                if index >= begun:
                    writer.put_tick(tick.record, tick.truth, tick.timing)
                elif index == begun - 1:
                    assert isinstance(run.core, ControlCore)
                    writer.put_state(tick.record.input.now_ns, run.core.state())
                if index >= begun + TICKS:
                    break
    found = {}
    for path in paths:
        found[path] = {tick.line.index: _said(tick) for tick in open_session(path).ticks()}
        assert len(found[path]) >= TICKS
    texts = tuple((ROOT / "config" / name).read_text() for name in ("sim.yaml", "rig.yaml"))
    return Bases(found, tuple(_tables()), texts)


def _said(tick: RecordedTick) -> str:
    return repr((tick.line, tick.input, tick.faults, tick.estimate, tick.plan, tick.command))


def _tables() -> list[str]:
    """A pole of .5 m under a moving cart, in the layouts and with the signs of several rigs."""
    t, p, theta = swing(3.0)
    plain = [f"{a:.4f},{b:.5f},{c:.5f}" for a, b, c in zip(t, p, theta, strict=True)]
    comma = [line.replace(",", ";").replace(".", ",") for line in plain]
    real = [f"{a:.4f},{c - math.pi:.5f},{b:.5f},0" for a, b, c in zip(t, p, theta, strict=True)]
    export = [f"{line},0.0" for line in plain]
    return [
        "\n".join(["t_s,p_m,theta_rad", *plain]),
        "\n".join(["t_s;p_m;theta_rad", *comma]),
        "\n".join(["# a rig", "time,angle,position,Q", *real]),
        "\n".join(["t_s,p_m,theta_rad,u_m_s", *export]),
    ]


def run(*words: str | Path) -> tuple[int, str]:
    """A command's exit code and output; the program's own errors are code 2."""
    app = typer.Typer()
    for module in (sessions, exchange, replay, report, settings):
        module.register(app)
    app.command()(calibrate.calibrate)
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, CartpoleError):
        text = str(result.exception)
        limit = 20 if isinstance(result.exception, ConfigError) else 3
        if not text.strip() or text.count("\n") > limit or "Traceback" in text:
            raise Finding(f"{words[0]} says: {text[:300]!r}")
        return 2, text
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if "\x1b[2J" in result.output or "\x1b[1m" in result.output:
        raise Finding(f"{words[0]} writes escape sequences")
    return result.exit_code, result.output


def one_case(seed: int, bases: Bases, folder: Path) -> str:
    """Mutate a file by ``seed``, use it; returns what it was. Anything raised is a finding."""
    rng = Random(seed)
    kind = seed % 10
    if kind < 5:
        return _session_case(rng, bases, folder)
    if kind < 8:
        return _table_case(rng, bases, folder)
    return _settings_case(rng, bases, folder)


def _session_case(rng: Random, bases: Bases, folder: Path) -> str:
    base = rng.choices(list(bases.recordings), (10, 10, 1))[0]
    path = folder / "case.mcap"
    how = rng.choice(("bytes", "bytes", "rearranged", "otherwise"))
    unharmed = False
    if how == "bytes":
        other = rng.choice(list(bases.recordings)).read_bytes()
        path.write_bytes(mutate.damaged_bytes(rng, base.read_bytes(), other))
    elif how == "rearranged":
        unharmed = mutate.rearranged(rng, base, path)
    else:
        mutate.spoken_otherwise(rng, base, path)
    original = bases.recordings[base]
    if how != "otherwise":
        _compare(path, original, unharmed)
    for what in rng.sample(_USES, 2):
        what(rng, path, folder, original if how != "otherwise" else None)
    return f"{base.stem} {how}"


def _compare(path: Path, original: dict[int, str], unharmed: bool) -> None:
    """What is read is as it was; what is whole is all of it."""
    try:
        session = open_session(path)
        found = {tick.line.index: _said(tick) for tick in session.ticks()}
    except CartpoleError:
        if unharmed:
            raise Finding("a recording that has all its messages cannot be read") from None
        return
    wrong = [index for index, said in found.items() if original.get(index) != said]
    if wrong:
        raise Finding(f"ticks that were never recorded: {wrong[:5]}")
    if unharmed and found != original:
        raise Finding(f"{len(found)} of {len(original)} ticks: {session.told()}")
    # The last ticks of a file, gone with every message, leave no trace.
    if session.whole and list(found) != list(original)[: len(found)]:
        raise Finding(f"said to be whole with {len(found)} of {len(original)} ticks")


def _check(_rng: Random, path: Path, _folder: Path, original: dict[int, str] | None) -> None:
    code, output = run("check", path)
    if code == 0 and "0 ticks" in output.splitlines()[-1][:7]:
        raise Finding("check passes on nothing")
    del original


def _list(_rng: Random, path: Path, folder: Path, original: dict[int, str] | None) -> None:
    code, output = run("sessions", path.parent)
    if code != 0 or path.name not in output:
        raise Finding(f"the list of a folder fails: {output[:200]}")
    del original, folder


def _report(_rng: Random, path: Path, folder: Path, original: dict[int, str] | None) -> None:
    run("report", path, "-o", folder / "case.html", "--force")
    del original


def _export(_rng: Random, path: Path, folder: Path, original: dict[int, str] | None) -> None:
    target = folder / "case-out.csv"
    code, output = run("export", path, "--csv", target, "--force")
    if code == 0:
        rows = len(target.read_text().splitlines()) - 1
        if f"{rows} rows" not in output:
            raise Finding(f"export says {output!r} of {rows} rows")
    del original


def _recover(_rng: Random, path: Path, folder: Path, original: dict[int, str] | None) -> None:
    target = folder / "case-saved.mcap"
    code, _ = run("recover", path, "-o", target, "--force")
    if code != 0:
        return
    session = open_session(target)
    found = {tick.line.index: _said(tick) for tick in session.ticks()}
    if session.damages or session.truncated:
        raise Finding("what was recovered is damaged")
    wrong = [k for k, said in found.items() if original is not None and original.get(k) != said]
    if wrong:
        raise Finding(f"recovered ticks that were never recorded: {wrong[:5]}")


def _replay(_rng: Random, path: Path, folder: Path, original: dict[int, str] | None) -> None:
    _, output = run("replay", path)
    if "bit for bit the same:" in output and original is not None:
        ticks = int(output.split("same: ")[1].split(" ")[0])
        session: Session = open_session(path)
        if ticks < len(list(session.ticks())) or session.told():
            raise Finding(f"a replay of {ticks} ticks says the whole is the same")
    del folder


def _tables_of(rng: Random, path: Path, folder: Path, original: dict[int, str] | None) -> None:
    open_session(path).table(rng.choice([name[1:] for name in CHANNELS if name != "/state"]))
    del folder, original


def _table_quietly(rng: Random, path: Path, folder: Path, said: dict[int, str] | None) -> None:
    try:
        _tables_of(rng, path, folder, said)
    except CartpoleError as error:
        if not str(error):
            raise Finding("an error without a word") from None


_USES: list[Any] = [_check, _list, _report, _export, _recover, _replay, _table_quietly]


def _table_case(rng: Random, bases: Bases, folder: Path) -> str:
    text = rng.choice(bases.tables)
    path = folder / "case.csv"
    data = mutate.damaged_table(rng, text)
    path.write_bytes(data)
    try:
        table = read_table(path, checked=False)
    except CartpoleError as error:
        if not str(error):
            raise Finding("an error without a word") from None
    else:
        _account(data, table.rows, sum(one.rows for one in table.left_out))
        for one in table.runs:
            if not np.all(np.diff(one.t_s) > 0) or not np.all(np.isfinite(one.theta_rad)):
                raise Finding("a run whose clock does not grow, or with what is no number")
    calibrated = rng.random() < 0.003
    if not calibrated:
        code, _ = run("import", path, "-o", folder / "case-in.mcap", "--force")
        if code == 0:
            session = open_session(folder / "case-in.mcap")
            if len(list(session.ticks())) == 0 or not session.whole:
                raise Finding("an import that is not whole")
    else:
        run("calibrate", "pole", "--session", path)
    return CALIBRATED if calibrated else "table"


def _account(data: bytes, used: int, left_out: int) -> None:
    """Every row with something in it is used or counted."""
    if b'"' in data or data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"#" in data or b"sep=" in data:
        return  # what a line is, is not as plain there
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    full = [line for line in lines if line.strip(b" \t\f\v\x1c\x1d\x1e\x1f\xef\xbb\xbf")]
    if not len(full) - 2 <= used + left_out <= len(full):  # one or two lines are no rows
        raise Finding(f"{len(full)} lines: {used} used, {left_out} left out")


def _settings_case(rng: Random, bases: Bases, folder: Path) -> str:
    path = folder / "case.yaml"
    path.write_bytes(mutate.damaged_settings(rng, rng.choice(bases.settings)))
    words: list[str | Path] = ["check-config", path]
    if rng.random() < 0.2:
        key = rng.choice(("pole.length_m", "sim.seed", "session.folder", "camera.source", "x.y"))
        words += ["--set", f"{key}={rng.choice(mutate.NASTY_YAML)}"]
    run(*words)
    try:
        loaded = load_config(path)
    except ConfigError as error:
        if not str(error).strip():
            raise Finding("an error without a word") from None
        return "settings"
    _as_written(path, flatten(loaded))
    return "settings"


def _as_written(path: Path, loaded: dict[str, Any]) -> None:
    """Another reader of YAML finds the same values."""
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text())
    except (YAMLError, ValueError) as error:
        raise Finding(f"taken, though it is no YAML: {error}") from None
    for key, value in _leaves(tree or {}, ""):
        known = loaded.get(key)
        both = isinstance(value, int | float) and isinstance(known, int | float)
        if both and isinstance(known, int | float) and float(known) != float(value):
            raise Finding(f"{key} is {value!r} in the file and {known!r} as loaded")
        if key not in loaded and value is not None and not isinstance(value, list | dict):
            raise Finding(f"{key} is in the file and nowhere else")


def _leaves(tree: Any, prefix: str) -> list[tuple[str, Any]]:
    found = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found
