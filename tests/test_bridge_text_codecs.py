"""The text codecs: what they believe, what they refuse, and that nothing upsets them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cartpole.config.schema import Config, Motor
from cartpole.errors import UsageError
from cartpole.messages import EncoderSample, LinkEvent, LinkState
from firmware_bridge.arduino_ascii import (
    LONGEST_LINE,
    SILENT_AFTER_NS,
    ArduinoAscii,
    LineSplitter,
    Plausible,
    modular_step,
)
from firmware_bridge.board_lines import CountsLine, format_line, parse_line
from firmware_bridge.latch import LatchClock
from firmware_bridge.sabertooth_text import (
    FULL_SCALE,
    Quantity,
    SabertoothReplies,
    SabertoothText,
    parse_command,
)

PERIOD_NS = 5_000_000
counts = st.integers(-(2**31), 2**31 - 1)
lines = st.builds(CountsLine, counts, counts, st.booleans(), st.booleans())


def samples(messages: list[EncoderSample | LinkEvent]) -> list[EncoderSample]:
    return [message for message in messages if isinstance(message, EncoderSample)]


def states(messages: list[EncoderSample | LinkEvent]) -> list[LinkState]:
    return [message.state for message in messages if isinstance(message, LinkEvent)]


def feed_lines(
    driver: ArduinoAscii, texts: list[bytes], start_ns: int = 0
) -> list[EncoderSample | LinkEvent]:
    """Ask every period, answer 1.6 ms later."""
    out: list[EncoderSample | LinkEvent] = []
    for index, text in enumerate(texts):
        t_ns = start_ns + index * PERIOD_NS
        driver.asked(t_ns)
        out += driver.feed(text, t_ns + 1_600_000)
    return out


class TestLines:
    @given(lines)
    def test_what_is_written_is_read(self, line: CountsLine) -> None:
        assert parse_line(format_line(line).rstrip()) == line

    @pytest.mark.parametrize(
        "text",
        [
            b"12\t-34\t0\t1",
            b" 12  -34 0 1 ",
            b"12,-34,0,1",
            b"12.0\t-34.00\t0\t1",
            b"+12\t-34\t0\t1\t",
        ],
    )
    def test_other_spellings_are_accepted(self, text: bytes) -> None:
        assert parse_line(text) == CountsLine(12, -34, False, True)

    @pytest.mark.parametrize(
        "text",
        [
            b"12\t-34\t0",
            b"12\t-34\t0\t1\t5",
            b"12\t-34\t0\t2",
            b"12.5\t-34\t0\t1",
            b"1e3\t-34\t0\t1",
            b"12\t--34\t0\t1",
            b"nan\t0\t0\t0",
            b"99999999999\t0\t0\t0",
            b"4294967296\t0\t0\t0",
            "١٢\t0\t0\t0".encode(),
        ],
    )
    def test_others_are_not(self, text: bytes) -> None:
        assert parse_line(text) is None

    @given(st.lists(lines, max_size=8), st.data())
    def test_every_split_decodes_alike(
        self, written: list[CountsLine], data: st.DataObject
    ) -> None:
        stream = b"".join(map(format_line, written))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
        splitter, got = LineSplitter(), []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            got += splitter.split(stream[start:end])
        assert [parse_line(line) for line in got] == written

    @given(st.binary(max_size=4 * LONGEST_LINE))
    def test_memory_is_bounded_and_overlong_lines_are_no_lines(self, data: bytes) -> None:
        splitter = LineSplitter()
        for _ in range(3):
            assert all(len(line) <= LONGEST_LINE + 1 for line in splitter.split(data))
        long = splitter.split(b"\n" + b"1" * 500 + b"\t2\t0\t0\n")
        assert parse_line(long[-1]) is None


class TestUnwrapping:
    @given(counts, st.integers(-300, 300), st.sampled_from([16, 32]))
    def test_a_wrap_is_seen_through(self, value: int, step: int, bits: int) -> None:
        half = 1 << (bits - 1)

        def wrap(number: int) -> int:
            return (number + half) % (2 * half) - half

        assert modular_step(wrap(value + step), wrap(value), 300.0) == step

    @given(counts, counts)
    def test_never_beyond_what_is_possible(self, raw: int, previous: int) -> None:
        step = modular_step(raw, previous, 300.0)
        assert step is None or abs(step) <= 300

    def test_unsigned_counters_wrap_too(self) -> None:
        assert modular_step(3, 65533, 10.0) == 6
        assert modular_step(2**32 - 2, 4, 10.0) == -6

    def test_a_turning_pole_counts_on_through_a_16_bit_counter(self) -> None:
        driver = ArduinoAscii(1_600_000, plausible=Plausible(slack_counts=100))
        truth = list(range(0, 200_000, 97))
        wrapped = [(n + 2**15) % 2**16 - 2**15 for n in truth]
        got = samples(feed_lines(driver, [b"0\t%d\t0\t0\n" % n for n in wrapped]))
        assert [sample.pole_counts for sample in got] == truth


class TestDriver:
    def test_a_damaged_digit_does_not_move_the_rig(self) -> None:
        driver = ArduinoAscii(0, plausible=Plausible(1e4, 1e4, 20))
        texts = [b"1000\t600\t0\t0\r\n"] * 3 + [b"100\t600\t0\t0\r\n"] + [b"1001\t601\t0\t0\r\n"]
        got = feed_lines(driver, texts)
        assert [sample.cart_counts for sample in samples(got)] == [1000, 1000, 1000, 1001]
        assert states(got) == [LinkState.UP]
        assert driver.statistics.implausible == 1

    def test_a_restarted_board_is_noticed(self) -> None:
        driver = ArduinoAscii(0, plausible=Plausible(1e4, 1e4, 20))
        got = feed_lines(driver, [b"1000\t600\t0\t0\r\n"] * 3 + [b"0\t0\t0\t0\r\n"] * 4)
        assert states(got) == [LinkState.UP, LinkState.DOWN, LinkState.UP]
        assert samples(got)[-1].cart_counts == 0
        assert driver.statistics.restarts == 1

    @pytest.mark.parametrize("spoilt", [b"10x0\t600\t0\t0\r\n", b"100\t600\t0\t0\r\n"])
    def test_on_a_bad_wire_lost_digits_that_agree_are_no_restart(self, spoilt: bytes) -> None:
        driver = ArduinoAscii(0, plausible=Plausible(1e4, 1e4, 20))
        good, lost = b"1000\t600\t0\t0\r\n", b"000\t600\t0\t0\r\n"
        got = feed_lines(driver, [good] * 3 + [spoilt, good] + [lost] * 4 + [good])
        assert driver.statistics.restarts == 0
        assert samples(got)[-1].cart_counts == 1000
        again = feed_lines(driver, [b"0\t0\t0\t0\r\n"] * 9)  # it did restart: a little later
        assert driver.statistics.restarts == 1
        assert samples(again)[-1].cart_counts == 0

    def test_a_pole_encoder_that_slips_far_is_no_restarted_board(self) -> None:
        """A quarter of a turn within a sample: who reads the counts can tell by the camera."""
        driver = ArduinoAscii(0, plausible=Plausible(1e4, 1e4, 20))
        texts = [b"1000\t600\t0\t0\r\n"] * 3 + [b"1005\t302\t0\t0\r\n"] * 4
        got = feed_lines(driver, texts)
        assert states(got) == [LinkState.UP]
        last = samples(got)[-1]
        assert (last.cart_counts, last.pole_counts) == (1005, 302)
        assert driver.statistics.restarts == 0

    def test_a_board_that_restarts_near_its_zero_is_one_though_only_the_pole_jumps(self) -> None:
        driver = ArduinoAscii(0, plausible=Plausible(1e4, 1e4, 20))
        got = feed_lines(driver, [b"12\t600\t0\t0\r\n"] * 3)
        got += feed_lines(driver, [b"0\t0\t0\t0\r\n"] * 4, start_ns=40_000_000)
        assert states(got) == [LinkState.UP, LinkState.DOWN, LinkState.UP]

    def test_nonsense_is_one_event_a_read_and_none_before_the_first_sample(self) -> None:
        driver = ArduinoAscii(0)
        assert driver.feed(b"34\t0\t0\r\nhello\r\n", 0) == []
        assert states(feed_lines(driver, [b"1\t2\t0\t0\r\n"])) == [LinkState.UP]
        assert states(driver.feed(b"x\r\n?\r\n!\r\n", 9_000_000)) == [LinkState.GARBLED]

    def test_silence_is_an_event_once(self) -> None:
        driver = ArduinoAscii(0)
        feed_lines(driver, [b"1\t2\t0\t0\r\n"])
        assert driver.silence(SILENT_AFTER_NS) == []
        assert states([*driver.silence(SILENT_AFTER_NS + 2_000_000)]) == [LinkState.DOWN]
        assert driver.silence(2 * SILENT_AFTER_NS) == []
        assert not driver.up

    def test_recorded_bytes_give_the_same_samples_again(self) -> None:
        texts = [b"%d\t%d\t0\t0\r\n" % (3 * n, -n) for n in range(50)]
        config = Config()
        runs = [
            feed_lines(
                ArduinoAscii.from_config(config.encoder, config.rig.velocity_limit_m_s), texts
            )
            for _ in range(2)
        ]
        assert runs[0] == runs[1]
        assert len(samples(runs[0])) == 50

    @settings(max_examples=300)
    @given(st.lists(st.one_of(st.binary(max_size=60), lines.map(format_line)), max_size=40))
    def test_any_bytes_at_all(self, pieces: list[bytes]) -> None:
        driver = ArduinoAscii(1_600_000)
        got = samples(feed_lines(driver, pieces))
        times = [sample.t_ns for sample in got]
        assert times == sorted(times)
        assert all(sample.t_ns <= sample.arrival_ns for sample in got)

    def test_a_hundred_thousand_mutations(self) -> None:
        """Spoilt bytes among good lines: never an exception, never a step the rig cannot make."""
        rng = random.Random(7)
        limits = Plausible(cart_counts_s=6e4, pole_counts_s=1e4, slack_counts=50)
        driver = ArduinoAscii(1_600_000, plausible=limits)
        out: list[EncoderSample | LinkEvent] = []
        for index in range(100_000):
            cart, pole = abs(index % 14000 - 7000), abs(index % 1800 - 900)
            line = bytearray(b"%d\t%d\t0\t0\r\n" % (cart, pole))
            if rng.random() < 0.3:
                line[rng.randrange(len(line))] = rng.randrange(256)
            if rng.random() < 0.05:
                del line[rng.randrange(len(line)) :]
            t_ns = index * PERIOD_NS
            driver.asked(t_ns)
            out += driver.feed(bytes(line), t_ns + 1_600_000)
        before: EncoderSample | None = None
        for message in out:
            if isinstance(message, LinkEvent):
                before = None if message.state is LinkState.DOWN else before
                continue
            if before is not None:
                span_s = min(message.t_ns - before.t_ns, SILENT_AFTER_NS) * 1e-9
                assert abs(message.cart_counts - before.cart_counts) <= 6e4 * span_s + 50
                assert abs(message.pole_counts - before.pole_counts) <= 1e4 * span_s + 50
            before = message
        assert driver.statistics.lines > 60_000


class TestLatchClock:
    def test_a_late_answer_keeps_its_time(self) -> None:
        clock = LatchClock(latency_ns=1_600_000, request_ns=95_000)
        first = clock.latch_ns(0, 2_000_000)
        late = clock.latch_ns(5_000_000, 5_000_000 + 9_000_000)
        assert first == 400_000
        assert late == 5_400_000

    def test_bounds(self) -> None:
        clock = LatchClock(latency_ns=1_600_000, request_ns=95_000)
        assert clock.latch_ns(10, 60) == 60  # not after the arrival
        assert clock.latch_ns(1_000_000, 3_000_000) == 1_095_000
        assert clock.latch_ns(-1, 9_000_000) == 7_400_000  # nobody asked

    def test_an_old_minimum_is_forgotten(self) -> None:
        clock = LatchClock(latency_ns=0, window_ns=1_000_000_000)
        clock.latch_ns(0, 100_000)
        for t_ns in range(0, 3_000_000_000, 100_000_000):
            clock.latch_ns(t_ns, t_ns + 700_000)
        assert clock.least_round_trip_ns == 700_000

    @pytest.mark.parametrize("held", [0.0, 1.0])
    def test_the_cart_tells_which_half_of_a_late_answer_was_held_back(self, held: float) -> None:
        """Questions, or answers, that wait up to 8 ms: a cart that swings shows which."""
        clock = LatchClock(latency_ns=1_600_000, request_ns=95_000)
        rng, worst_ns = random.Random(1), 0
        for k in range(400):
            asked_ns, late_ns = 10_000_000 * k, rng.randrange(8_000_000) if k else 0
            latched_ns = asked_ns + 95_000 + round(held * late_ns)
            said_ns = clock.latch_ns(asked_ns, asked_ns + 1_695_000 + late_ns)
            clock.learn(round(2000.0 * math.sin(10.0 * latched_ns * 1e-9)))
            worst_ns = max(worst_ns, abs(said_ns - latched_ns)) if k > 100 else 0
        assert worst_ns < 400_000

    def test_answers_that_are_all_held_back_are_no_measure(self) -> None:
        """A bridge whose bursts keep step with the questions: every answer comes 6 ms late."""
        clock = LatchClock(latency_ns=1_600_000, request_ns=95_000)
        said_ns = [clock.latch_ns(t_ns, t_ns + 7_695_000) - t_ns for t_ns in range(0, 10**9, 10**7)]
        assert max(said_ns) <= 1_095_000

    def test_patience_is_what_answers_took(self) -> None:
        clock = LatchClock(latency_ns=1_600_000)
        assert clock.patience_ns == 50_000_000  # nothing known
        clock.latch_ns(0, 2_000_000)
        assert clock.patience_ns == 15_000_000
        clock.latch_ns(0, 12_000_000)
        assert clock.patience_ns == 36_000_000


def test_an_answer_after_a_lost_question_is_of_no_known_time() -> None:
    """It may be the late one to the question before; the next one counts again."""
    driver = ArduinoAscii(latency_ns=1_600_000, request_ns=95_000)
    driver.asked(0)
    assert samples(driver.feed(b"10\t0\t0\t0\r\n", 2_000_000))
    driver.asked(5_000_000)
    driver.asked(20_000_000)
    assert not samples(driver.feed(b"11\t0\t0\t0\r\n", 22_000_000))
    assert not samples(driver.feed(b"11\t0\t0\t0\r\n", 23_000_000))  # nobody asked
    driver.asked(25_000_000)
    assert samples(driver.feed(b"12\t0\t0\t0\r\n", 27_000_000))[0].t_ns == 25_400_000


velocities = st.floats(-3.0, 3.0, allow_nan=False)


class TestSabertooth:
    driver = SabertoothText(channel=1, sign=1, counts_per_m_s=1500.0, dead_band_counts=100.0)

    def test_the_wire(self) -> None:
        assert self.driver.encode(0.5) == b"M1: 850\r\n"
        assert self.driver.encode(-1.0) == b"M1: -1600\r\n"
        assert self.driver.encode(9.0) == b"M1: 2047\r\n"
        assert SabertoothText(2, -1, 1500.0, 100.0).encode(0.5) == b"M2: -850\r\n"

    @pytest.mark.parametrize("zero", [0.0, -0.0])
    def test_zero_is_exactly_zero(self, zero: float) -> None:
        assert self.driver.encode(zero) == self.driver.stop() == b"M1: 0\r\n"

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_only_finite_numbers_leave(self, value: float) -> None:
        with pytest.raises(UsageError):
            self.driver.encode(value)

    @given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([-1, 1]))
    def test_range_and_sign(self, velocity: float, sign: int) -> None:
        units = SabertoothText(1, sign, 1500.0, 100.0).units(velocity)
        assert abs(units) <= FULL_SCALE
        assert units * velocity * sign >= 0.0

    @given(velocities, st.floats(100.0, 1900.0), st.floats(0.0, 300.0), st.sampled_from([-1, 1]))
    def test_the_inverse(self, velocity: float, gain: float, band: float, sign: int) -> None:
        driver = SabertoothText(1, sign, gain, band)
        command = parse_command(driver.encode(velocity).rstrip())
        assert command is not None
        back = driver.velocity_m_s(command[1])
        expected = max(-driver.largest_velocity_m_s, min(driver.largest_velocity_m_s, velocity))
        assert back == pytest.approx(expected, abs=1.0 / gain)

    @given(velocities, velocities)
    def test_more_is_never_less(self, one: float, other: float) -> None:
        low, high = sorted((one, other))
        assert self.driver.units(low) <= self.driver.units(high)

    def test_from_config(self) -> None:
        motor = Motor(channel=2, sign=-1, counts_per_m_s=1200.0, dead_band_counts=80.0)
        assert SabertoothText.from_config(motor).encode(1.0) == b"M2: -1280\r\n"

    def test_answers(self) -> None:
        replies = SabertoothReplies()
        assert replies.feed(b"M1:B12") == []
        got = replies.feed(b"2\r\nnoise\r\nM1: C-15\r\nM2:T31\r\n")
        assert [(r.channel, r.quantity, r.value) for r in got] == [
            (1, Quantity.BATTERY_V, pytest.approx(12.2)),
            (1, Quantity.CURRENT_A, pytest.approx(-1.5)),
            (2, Quantity.TEMPERATURE_C, 31.0),
        ]

    @given(st.binary(max_size=200))
    def test_any_answer_at_all(self, data: bytes) -> None:
        for reply in SabertoothReplies().feed(data):
            assert math.isfinite(reply.value)
