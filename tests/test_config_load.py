"""Settings are read as meant or refused with one clear line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cartpole.config import load
from cartpole.config.load import (
    changed_keys,
    config_sha256,
    dump_yaml,
    live_fields,
    load_config,
    loads_config,
    with_values,
)
from cartpole.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def refusal(text: str, overrides: list[str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        loads_config(text, "rig.yaml", overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["sim.yaml", "rig.yaml"])
def test_shipped_settings_are_good(name: str) -> None:
    config = load_config(ROOT / "config" / name)
    assert config.rig.velocity_limit_m_s == 1.0
    assert config.startup.action == ("swing_up" if name == "sim.yaml" else "disarmed")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pole:\n  length_m: 5.0", ["rig.yaml:2", "pole.length_m", "3.0"]),
        ("pole:\n  length_m: 5cm", ["rig.yaml:2", "pole.length_m", "'5cm'", "0.05 to 3.0"]),
        ('pole:\n  length_m: "0.5"', ["rig.yaml:2", "text"]),
        ("pole:\n  length_m: .nan", ["rig.yaml:2", "not a finite number"]),
        ("pole:\n  length_m: -.inf", ["rig.yaml:2", "not a finite number"]),
        ("pole:\n  length_m: true", ["rig.yaml:2", "pole.length_m"]),
        ("pole:\n  length_m:", ["rig.yaml:2", "pole.length_m", "0.05 to 3.0"]),
        ("pole:\n  lenght_m: 1", ["rig.yaml:2", "pole.lenght_m", "did you mean length_m"]),
        ("length_m: 1", ["rig.yaml:1", "did you mean pole.length_m"]),
        ("motor:\n  baud: 9600.5", ["rig.yaml:2", "whole number"]),
        ("motor:\n  sign: 2", ["rig.yaml:2", "motor.sign", "-1, 1"]),
        ("motor:\n  sign: true", ["rig.yaml:2", "motor.sign", "-1, 1"]),
        ("session:\n  record: on", ["rig.yaml:2", "session.record", "true or false"]),
        ("controller:\n  period_s: 1:30", ["rig.yaml:2", "controller.period_s", "0.002"]),
        ("pole: 3", ["rig.yaml:1", "pole", "not a section"]),
        ("pole: [1]", ["rig.yaml:1", "pole", "not a section"]),
        ("pole:\n  length_m: {a: 1}", ["rig.yaml:2", "pole.length_m"]),
        ("pole:\n  length_m: 1\n  length_m: 2", ["rig.yaml:3", "twice"]),
        ("camera:\n  homography: [1, 2]", ["rig.yaml:2", "list of 9 numbers"]),
        ("rig:\n  track_length_m: 0.5", ["rig.yaml:1", "position_limit_m"]),
        ("encoder: {protocol: none}\ncamera: {source: none}", ["rig.yaml", "nothing measures"]),
        ("a: &x 1\nb: *x", ["rig.yaml:1", "anchors"]),
        ("pole: !!python/name:os.system", ["rig.yaml:1", "tags"]),
        ("? [1]\n: 2", ["rig.yaml:1", "cannot be a key"]),
        ("pole: {unclosed", ["rig.yaml:1", "not valid YAML"]),
        ("\tpole: 1", ["rig.yaml:1", "not valid YAML"]),
        ("--- {}\n--- {}", ["rig.yaml:2", "second document"]),
        ("", ["rig.yaml:1", "no settings"]),
        ("# nothing", ["rig.yaml:1", "no settings"]),
        ("[1, 2]", ["rig.yaml:1", "list"]),
        ("just text", ["rig.yaml:1", "single value"]),
        ("[" * 5000, ["rig.yaml:1", "16 levels"]),
        ("{a: " * 5000, ["rig.yaml:1", "16 levels"]),
        ("\n".join(" " * i + "a:" for i in range(200)), ["rig.yaml:17", "16 levels"]),
        ("- " * 5000, ["rig.yaml:1", "16 levels"]),
        ("a: " + "x" * 70000, ["rig.yaml", "64 KiB"]),
        ("a: " + "x" * 3000, ["rig.yaml:1", "2000 characters"]),
        ("motor:\n  baud: 1" + "0" * 5000, ["rig.yaml:2"]),
        ("motor:\n  baud: 1" + "0" * 1000, ["rig.yaml:2", "motor.baud"]),
    ],
)
def test_refusals_name_place_and_remedy(text: str, parts: list[str]) -> None:
    message = refusal(text)
    for part in parts:
        assert part in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-1", 0.1), ("1", 1.0), ("+.5", 0.5), ("5E-1", 0.5), ("0.50", 0.5), ("01", 1.0)],
)
def test_numbers_are_read_as_meant(text: str, value: float) -> None:
    length = loads_config(f"pole:\n  length_m: {text}", "t").pole.length_m
    assert length == value
    assert isinstance(length, float)


def test_octal_looking_numbers_are_decimal() -> None:
    assert loads_config("optimizer:\n  horizon_steps: 010", "t").optimizer.horizon_steps == 10


@pytest.mark.parametrize("bound", [0.05, 3.0])
def test_bounds_are_inclusive_to_the_last_digit(bound: float) -> None:
    outside = math.nextafter(bound, math.copysign(math.inf, bound - 1.0))
    loads_config(f"pole: {{length_m: {bound!r}}}", "t")
    assert "length_m" in refusal(f"pole: {{length_m: {outside!r}}}")


def test_empty_section_means_defaults() -> None:
    assert loads_config("pole:\n  # length_m: 0.4\n", "t") == load_config(None)


def test_overrides_win_and_name_themselves() -> None:
    config = loads_config("pole:\n  length_m: 0.4", "t", ["pole.length_m=0.6", "motor.sign=-1"])
    assert (config.pole.length_m, config.motor.sign) == (0.6, -1)
    assert "--set pole.length_m=9" in refusal("{}", ["pole.length_m=9"])
    assert "dotted.key=value" in refusal("{}", ["pole.length_m"])
    assert "unknown key" in refusal("{}", ["pole.no=1"])
    assert "not a section" in refusal("pole: {length_m: 0.4}", ["pole.length_m.x=1"])
    assert "anchors" in refusal("{}", ["pole.length_m=&a 1"])
    row = load_config(None, ["camera.homography=[1, 0, 2, 0, 1, 3, 0, 0, 1]"]).camera.homography
    assert row == (1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 0.0, 0.0, 1.0)


def test_files_that_are_none(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"pole:\n\xff\xfe\x00")
    large = tmp_path / "large.yaml"
    large.write_text("# " + "x" * 100_000)
    for path, word in ((tmp_path, "folder"), (binary, "yaml:2"), (large, "64 KiB")):
        with pytest.raises(ConfigError, match=word):
            load_config(path)
    with pytest.raises(ConfigError, match=r"did you mean .*binary\.yaml"):
        load_config(tmp_path / "binry.yaml")


def test_dump_reads_back_and_hash_ignores_layout() -> None:
    config = load_config(None, ["pole.length_m=1e-1", 'rig.name="on: # yes"', "sim.tau_s=0.07"])
    again = loads_config(dump_yaml(config), "t")
    assert again == config
    assert config_sha256(again) == config_sha256(config)
    assert config_sha256(config) != config_sha256(load_config(None))
    assert changed_keys(config, load_config(None)) == {"pole.length_m", "rig.name", "sim.tau_s"}


def test_live_fields_are_tuning_and_never_limits() -> None:
    live = live_fields()
    assert {"controller.weights.angle", "controller.target_m"} <= live
    assert not any(key.startswith(("rig.", "safety.", "motor.", "pole.")) for key in live)
    assert live <= {key for key, _ in load.fields()}


def test_with_values_checks_like_a_file() -> None:
    config = with_values(load_config(None), {"pole.length_m": 0.3, "controller.target_m": 0.1})
    assert (config.pole.length_m, config.controller.target_m) == (0.3, 0.1)
    with pytest.raises(ConfigError, match=r"pole.length_m: 30\.0"):
        with_values(config, {"pole.length_m": 30.0})


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="[]{}:,-?&*!|>'\"%@`# \na1", max_size=60))
def test_any_text_is_settings_or_one_line(text: str) -> None:
    message = ""
    try:
        loads_config(text, "t")
    except ConfigError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
