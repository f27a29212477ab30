"""Boards with lines of their own: ten shapes read by a pattern, and recognised by listening."""

from __future__ import annotations

import math
import os
import threading
import time
import tty
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cartpole.config.load import loads_config
from cartpole.doctor.listening import hear, printable, propose
from cartpole.errors import ConfigError, UsageError
from cartpole.messages import EncoderSample, LinkState
from firmware_bridge.arduino_ascii import ArduinoAscii
from firmware_bridge.line_pattern import LinePattern, Reading
from firmware_bridge.motor_lines import LinesMotor
from firmware_bridge.ports import SerialPort

TURN = 1200


@dataclass(frozen=True, slots=True)
class Shape:
    """A board: what it writes for a state, and the settings that read it."""

    name: str
    line: str  # over cart, pole (counts), low, high, us, and fractions of them
    settings: str
    asked: bool = False


SHAPES = (
    Shape("tabs", "{c}\t{p}\t{l}\t{h}\r\n", r"pattern: '{cart}\t{pole}\t{low}\t{high}'", True),
    Shape("commas", "{c},{p},{l},{h}\n", "pattern: '{cart},{pole},{low},{high}'"),
    Shape("stamp first", "{us},{c},{p},{l},{h}\n",
          "pattern: '{time_us},{cart},{pole},{low},{high}'"),
    Shape("names", "cart:{c} pole:{p} low:{l} high:{h}\n",
          "pattern: 'cart:{cart} pole:{pole} low:{low} high:{high}'"),
    Shape("json", '{{"x": {c}, "theta": {p}, "l": {l}, "r": {h}}}\n',
          "pattern: '{\"x\": {cart}, \"theta\": {pole}, \"l\": {low}, \"r\": {high}}'"),
    Shape("a value a line", ">cart:{c}\r\n>pole:{p}\r\n>left:{l}\r\n>right:{h}\r\n",
          r"pattern: '>cart:{cart}\n>pole:{pole}\n>left:{low}\n>right:{high}'"),
    Shape("degrees and mm", "{mm:.3f};{deg:.4f};{l};{h}\n",
          "pattern: '{cart};{pole};{low};{high}', cart_unit: mm, pole_unit: deg"),
    Shape("radians and metres", "{m:.6f} {rad:.6f} {l} {h} ok\n",
          "pattern: '{cart} {pole} {low} {high} {_}', cart_unit: m, pole_unit: rad"),
    Shape("one-turn pole", "{c},{turn},{l},{h}\n",
          "pattern: '{cart},{pole},{low},{high}', pole_modulus: 1200"),
    Shape("words and milliseconds", "E {ms} {c} {p} {lw} {hw}\n",
          "pattern: 'E {time_ms} {cart} {pole} {low} {high}'"),
    Shape("a sentence with a sum", "$ENC,{c},{p},{l},{h}*{sum:02X}\r\n",
          "pattern: '$ENC,{cart},{pole},{low},{high}*{_}'"),
    Shape("switches as words", "{c}|{p}|{lo}|{ho}\n", "pattern: '{cart}|{pole}|{low}|{high}'"),
    Shape("switches glued", "POS={c};ANG={p};SW={l}{h}\n",
          "pattern: 'POS={cart};ANG={pole};SW={low}{high}'"),
    Shape("switches as bits", "{c},{p},{bits}\n", "pattern: '{cart},{pole},{switches}'"),
    Shape("rates between", '{{"pos":{m!r},"vel":{rate},"angle":{rad!r},"omega":{rate},"low":{l},'
          '"high":{h}}}\n',
          "pattern: '{\"pos\":{cart},\"vel\":{_},\"angle\":{pole},\"omega\":{_},\"low\":{low},"
          "\"high\":{high}}', cart_unit: m, pole_unit: rad"),
    Shape("units behind, lines counted", "{n} x={mm:.2f}mm th={deg:.3f}deg {l} {h}\n",
          "pattern: '{_} x={cart}mm th={pole}deg {low} {high}', cart_unit: mm, pole_unit: deg"),
)  # fmt: skip


def written(shape: Shape, t_s: float) -> bytes:
    """What the board says at a time: the cart swings by 2000 counts, the pole turns over."""
    cart, pole = round(2000 * math.sin(3 * t_s)), round(1500 * math.sin(2 * t_s))
    low, high = int(cart < -1900), int(cart > 1900)
    return shape.line.format(
        c=cart, p=pole, l=low, h=high, us=round(t_s * 1e6), ms=round(t_s * 1e3),
        mm=cart / 20.0, m=cart / 20000.0, deg=pole * 360 / TURN, rad=pole * 2 * math.pi / TURN,
        lo="closed" if low else "open", ho="closed" if high else "open", bits=low + 2 * high,
        sum=(31 * cart + pole) % 256, rate=round(0.1 * math.sin(t_s), 3), n=round(t_s * 1e3) // 5,
        turn=pole % TURN, lw="on" if low else "off", hw="on" if high else "off",
    ).encode()  # fmt: skip


def driver(shape: Shape) -> ArduinoAscii:
    question = "a" if shape.asked else ""
    text = (
        f"encoder: {{protocol: lines, port: /dev/null, lines: {{{shape.settings}, "
        f"question: '{question}'}}}}\nmotor: {{port: /dev/null}}\ncamera: {{source: none}}\n"
    )
    config = loads_config(text, "test")
    return ArduinoAscii.from_config(config.encoder, config.rig.velocity_limit_m_s)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_shape_of_board_is_read(shape: Shape) -> None:
    board = driver(shape)
    samples: list[EncoderSample] = []
    for k in range(400):
        t_s = 1.0 + 0.005 * k
        arrival_ns = round(1e9 * t_s) + 2_000_000
        if shape.asked:
            board.asked(round(1e9 * t_s))
        data = written(shape, t_s)
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):  # split anywhere
            samples += [m for m in board.feed(piece, arrival_ns) if isinstance(m, EncoderSample)]
    assert len(samples) == 400
    for k, sample in enumerate(samples):
        t_s = 1.0 + 0.005 * k
        cart, pole = round(2000 * math.sin(3 * t_s)), round(1500 * math.sin(2 * t_s))
        begun = round(1500 * math.sin(2.0)) - round(1500 * math.sin(2.0)) % TURN
        offset = begun if shape.name == "one-turn pole" else 0
        assert abs(sample.cart_counts - cart) <= 1
        assert abs(sample.pole_counts + offset - pole) <= 1
        assert (sample.limit_low, sample.limit_high) == (cart < -1900, cart > 1900)
        assert abs(sample.t_ns - 1e9 * t_s) < 3e6


def test_a_line_in_between_is_told_and_costs_nothing_else() -> None:
    board = driver(SHAPES[1])
    board.feed(b"1,2,0,0\n", 1_000_000_000)
    found = board.feed(b"hello world\n2,3,0,0\n", 1_005_000_000)
    assert [m.state for m in found if not isinstance(m, EncoderSample)] == [LinkState.GARBLED]
    assert sum(isinstance(m, EncoderSample) for m in found) == 1
    assert board.last_unread == b"hello world"


@pytest.mark.parametrize(
    ("pattern", "named"),
    [("{cart},{pole}", "low"), ("{cart},{cart},{low},{high},{pole}", "twice"), ("", "cart")],
)
def test_a_pattern_that_cannot_serve_is_refused(pattern: str, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        LinePattern(pattern)


def test_a_record_of_several_lines_begins_again_after_a_lost_line() -> None:
    pattern = LinePattern("c{cart}\\np{pole}\\nl{low}\\nh{high}")
    assert [pattern.feed(line) for line in (b"c1", b"l0", b"c1", b"p2", b"l0")] == [
        True, False, True, True, True,
    ]  # fmt: skip
    assert pattern.feed(b"h1") == Reading(1.0, 2.0, False, True)


# A counter of one turn cannot be told from a few lines.
TOLD_BY_LISTENING = [shape for shape in SHAPES if "turn" not in shape.name]


@pytest.mark.parametrize("shape", TOLD_BY_LISTENING, ids=lambda shape: shape.name)
def test_listening_proposes_settings_that_read_the_board(shape: Shape) -> None:
    lines = [
        line
        for k in range(200)
        for line in written(shape, 0.02 * k).replace(b"\r", b"").split(b"\n")
        if line
    ]
    proposal, remark = propose(lines)
    assert proposal, remark
    pattern = LinePattern(str(proposal["pattern"]))
    readings = [found for line in lines if isinstance(found := pattern.feed(line), Reading)]
    assert len(readings) >= 199
    assert readings[50].low == (math.sin(3.0) < -0.95)
    units = {"mm": "cart_unit", "deg": "pole_unit"} if "behind" in shape.name else {}
    assert {word: proposal.get(key) for word, key in units.items()} == {w: w for w in units}
    ratio = readings[20].cart / round(2000 * math.sin(1.2))
    assert any(ratio == pytest.approx(unit, rel=1e-2) for unit in (1.0, 1 / 20, 1 / 20000))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("-3,85;383,70;0;0", "commas"),
        ("FF{k:02X} 04AF 0 0", "decimal"),
        ("{k} 5", "switches"),
        ("{k}", "fewer"),
    ],
)
def test_what_cannot_be_read_is_not_proposed(line: str, word: str) -> None:
    proposal, remark = propose([line.format(k=k).encode() for k in range(100, 200, 3)])
    assert not proposal
    assert word in remark


def test_a_number_that_counts_lines_is_no_clock() -> None:
    proposal, _ = propose([b"%d 7 8 0 0" % k for k in range(50)])
    assert proposal["pattern"] == "{_} {cart} {pole} {low} {high}"
    proposal, _ = propose([b"%d 7 8 0 0" % (5 * k) for k in range(50)])
    assert proposal["pattern"] == "{time_ms} {cart} {pole} {low} {high}"


def test_a_rig_that_stands_still_is_recognised() -> None:
    proposal, _ = propose([b"0,0;0,0"] * 50)
    assert proposal["pattern"] == "{cart},{pole};{low},{high}"


def test_both_switches_come_in_one_number_or_in_two_fields() -> None:
    pattern = LinePattern("{cart} {pole} {switches}")
    found = [pattern.feed(b"1 2 %d" % bits) for bits in range(4)]
    assert found == [Reading(1.0, 2.0, bool(b & 1), bool(b & 2)) for b in range(4)]
    assert pattern.feed(b"1 2 4") is False
    with pytest.raises(UsageError, match="switches"):
        LinePattern("{cart} {pole} {switches} {low}")


def test_what_comes_from_a_wire_is_shown_escaped() -> None:
    assert printable(b"\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert len(printable(b"x" * 1000)) < 200


@pytest.fixture
def speaking(tmp_path: Path) -> Iterator[Path]:
    """A board behind a pseudo-terminal that writes 100 lines a second unasked."""
    near, far = os.openpty()
    tty.setraw(far)
    over = threading.Event()

    def speak() -> None:
        begin = time.monotonic()
        while not over.wait(0.01):
            os.write(near, written(SHAPES[3], time.monotonic() - begin))

    thread = threading.Thread(target=speak)
    thread.start()
    yield Path(os.ttyname(far))
    over.set()
    thread.join()
    os.close(near)
    os.close(far)


def test_a_real_port_is_listened_to(speaking: Path) -> None:
    heard = hear(lambda baud: SerialPort(str(speaking), baud))
    assert heard is not None
    assert heard.question == ""
    assert heard.proposal["pattern"] == SHAPES[3].settings.split("'")[1]


def motor(**lines: object) -> LinesMotor:
    from cartpole.config.schema import Motor

    return LinesMotor.from_config(Motor.model_validate({"protocol": "lines", "lines": lines}))


@pytest.mark.parametrize(
    ("template", "velocity", "line"),
    [
        ("V{mm_s:.0f}\\n", 0.25, b"V250\n"),
        ("V{mm_s:.0f}\\n", -0.25, b"V-250\n"),
        ("v 0 {m_s:.3f} 0\\n", -0.5, b"v 0 -0.500 0\n"),
        ("M{rad_s:.2f}\\r\\n", 0.1, b"M10.00\r\n"),
        ("S{units}\\n", 0.1, b"S250\n"),
    ],
)
def test_motor_boards_hear_their_own_words(template: str, velocity: float, line: bytes) -> None:
    assert motor(command=template).encode(velocity) == line


def test_zero_is_exactly_zero_whatever_the_template() -> None:
    board = motor(command="V{mm_s:.0f}\\n")
    assert board.encode(0.0) == board.encode(-0.0) == board.encode(-1e-9) == board.stop() == b"V0\n"
    assert motor(command="V{mm_s}\\n", zero="STOP\\n").encode(0.0) == b"STOP\n"
    assert motor(command="V{mm_s}\\n", largest=400.0).encode(9.0) == b"V400\n"
    with pytest.raises(UsageError, match="nan"):
        board.encode(math.nan)


def test_a_template_without_its_field_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"motor\.lines\.command"):
        motor(command="V100\\n")


def test_lines_need_a_real_port() -> None:
    with pytest.raises(ConfigError, match=r"real encoder\.port"):
        loads_config("encoder: {protocol: lines}\n", "test")
