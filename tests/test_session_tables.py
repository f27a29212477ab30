"""One reader for tables: layouts, mappings, several runs, what is left out, slips named."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from cartpole.errors import SessionError, UsageError
from cartpole.messages import FloatArray
from cartpole.session.columns import LAYOUTS, choose, parse_mapping
from cartpole.session.table_rows import CUT, NO_VALUE, NOT_FINITE, UNITS_LINE
from cartpole.session.tables import GOES_BACK, STANDS, Table, parse_table, read_table

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "physical_cartpole"
STEP_S = 0.02


def swing(seconds: float = 6.0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(t, p, theta) of a pole of .5 m, swung by a moving cart; zero hanging."""
    t = np.arange(0.0, seconds, 1e-3)
    p = 0.1 * np.sin(5.0 * t)
    push = -2.5 * np.sin(5.0 * t)
    angle, rate = 1.0, 0.0
    theta = np.empty_like(t)
    for k, acceleration in enumerate(push):
        theta[k] = angle
        rate -= 1e-3 * (
            3.0 * (9.81 * math.sin(angle) + acceleration * math.cos(angle)) + 0.05 * rate
        )
        angle += 1e-3 * rate
    keep = slice(None, None, round(STEP_S / 1e-3))
    return t[keep], p[keep], theta[keep]


def text(t: FloatArray, p: FloatArray, theta: FloatArray, header: str = "t_s,p_m,theta_rad") -> str:
    rows = (f"{a:.6f},{b:.6f},{c:.6f}" for a, b, c in zip(t, p, theta, strict=True))
    return "\n".join([header, *rows]) + "\n"


def parse(raw: str | bytes, mapping: str | None = None, **options: str) -> Table:
    data = raw.encode() if isinstance(raw, str) else raw
    layout = None if mapping is None else parse_mapping(mapping)
    return parse_table(data, "x.csv", layout, delimiter=options.get("delimiter"))


def test_layouts_are_known_by_their_columns() -> None:
    assert parse("t_s,p_m,theta_rad\n0,0,0\n.1,0,0\n").layout.name == "plain"
    assert parse("t_s,p_m,theta_rad,u_m_s\n0,0,0,1\n.1,0,0,1\n").layout.name == "export"
    other = parse("time,angle,position\n1,3.1,0\n1.02,-3.1,0\n1.04,0.0,0\n")
    assert other.layout.name == "physical_cartpole"
    assert other.zero_up
    theta = other.runs[0].theta_rad
    assert theta[0] == pytest.approx(math.pi + 3.1)
    assert theta[1] == pytest.approx(3 * math.pi - 3.1)  # unwrapped: hanging is 2 pi here


@pytest.mark.parametrize(
    "encode",
    [
        lambda s: s.encode("utf-8-sig"),
        lambda s: s.encode("utf-16"),
        lambda s: s.replace("\n", "\r\n").encode(),
        lambda s: s.replace("\n", "\r").encode(),
        lambda s: s.replace(",", "\t").encode(),
        lambda s: s.replace(",", " ").encode(),
        lambda s: s.replace(",", ";").replace(".", ",").encode(),
        lambda s: ("sep=;\n" + s.replace(",", ";")).encode(),
        lambda s: ("# made by hand\n\n" + s.replace("t_s", '"t_s"')).encode(),
        lambda s: s.replace("theta_rad", "Theta_rad", 1).encode(),
        lambda s: s.replace("\n", ",°\n", 1).replace("theta_rad", " theta_rad ").encode("cp1252"),
    ],
)
def test_the_same_table_written_in_other_ways(encode: object) -> None:
    assert callable(encode)
    written = text(*swing())
    wanted, found = parse(written).runs[0], parse(encode(written), LAYOUTS["plain"].text()).runs[0]
    assert np.array_equal(found.t_s, wanted.t_s)
    assert np.array_equal(found.p_m, wanted.p_m)
    assert np.array_equal(found.theta_rad, wanted.theta_rad)


def test_a_mapping_says_column_unit_zero_and_sign() -> None:
    t, p, theta = swing()
    made = text(
        1e3 * t + 5000.0, 500.0 - 1e3 * p, 90.0 - np.degrees(theta - math.pi), "stamp,cart,pole"
    )
    mapping = (
        "time=stamp:ms,position=cart:mm:left:zero=500,angle=pole:deg:zero=90:zero-up:clockwise"
    )
    run = parse(made, mapping).runs[0]
    assert np.allclose(run.t_s, t, atol=1e-9)
    assert np.allclose(run.p_m, p, atol=1e-8)
    assert np.allclose(run.theta_rad, theta, atol=1e-7)
    again = parse_mapping(parse_mapping(mapping).text())
    assert again.columns == parse_mapping(mapping).columns


def test_columns_by_number_without_a_header() -> None:
    made = text(*swing()).split("\n", 1)[1]
    run = parse(made, "time=#1,position=#2,angle=#3").runs[0]
    assert len(run.t_s) == 300
    with pytest.raises(SessionError, match="3 columns"):
        parse(made, "time=#1,angle=#4")


def test_a_pole_without_a_cart() -> None:
    t, _, theta = swing()
    run = parse(text(t, theta, theta, "time,position,torque"), "time=time,angle=position").runs[0]
    assert not run.p_m.any()


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        ("angle=theta", "time"),
        ("time=t,angle=a:degrees", "degrees"),
        ("time=t,time=t,angle=a", "twice"),
        ("time=t,angle=a,colour=red", "colour"),
        ("time=t,angle=a:left", "left"),
        ("time=t,angle=a:zero=up", "zero=up"),
        ("time=,angle=a", "time"),
        ("time=t,angle=a:1e999", "1e999"),
    ],
)
def test_a_wrong_mapping_says_what_is_allowed(mapping: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_mapping(mapping)


def test_choice_of_layout() -> None:
    assert choose("auto", None) is None
    assert choose("plain", None) == LAYOUTS["plain"]
    with pytest.raises(UsageError, match="physical_cartpole"):
        choose("excel", None)
    with pytest.raises(UsageError, match="one of them"):
        choose("plain", "time=t,angle=a")


# ---- several runs, strays ----


def test_a_clock_that_begins_again_is_another_run() -> None:
    t, p, theta = swing()
    header, _, rows = text(t, p, theta).partition("\n")
    table = parse(f"{header}\n{rows}{rows}")
    assert [len(run.t_s) for run in table.runs] == [300, 300]
    assert all(np.all(np.diff(run.t_s) > 0) for run in table.runs)
    assert table.left_out == ()
    assert "2 runs" in table.told()[0]


def test_a_pause_is_another_run() -> None:
    t, p, theta = swing()
    shifted = np.where(np.arange(len(t)) < 150, t, t + 30.0)
    assert [len(run.t_s) for run in parse(text(shifted, p, theta)).runs] == [150, 150]


def test_rows_out_of_order_are_left_out_and_counted() -> None:
    rows = text(*swing()).splitlines()
    rows[100], rows[101] = rows[101], rows[100]
    rows.insert(200, rows[199])
    table = parse("\n".join(rows) + "\n")
    assert {one.why: one.rows for one in table.left_out} == {GOES_BACK: 1, STANDS: 1}
    assert [len(run.t_s) for run in table.runs] == [299]


def test_what_is_missing_is_left_out_and_told() -> None:
    rows = text(*swing()).splitlines()
    rows.insert(1, "s,m,rad")
    rows[10], rows[11], rows[12] = "0.16,,1", "0.18,nan,1", "0.2,inf,1"
    table = parse("\n".join(rows) + "\n7.0")
    found = {one.why: (one.rows, one.line) for one in table.left_out}
    assert found == {
        UNITS_LINE: (1, 2),
        NO_VALUE: (2, 11),
        NOT_FINITE: (1, 13),
        CUT: (1, 303),
    }
    assert table.rows == 297
    assert len(table.told()) == 4


def test_times_written_too_coarsely() -> None:
    t, p, theta = swing()
    coarse = text(np.floor(t * 10.0) / 10.0, p, theta)
    with pytest.raises(SessionError, match="coarsely"):
        parse(coarse)
    kept = parse_table(coarse.encode(), "x.csv", coarse=True, checked=False)
    assert kept.rows == 300


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"t_s,p_m,theta_rad\n0,0,0\n0.1,zero,0\n", ":3: not a number"),
        (b"t_s,p_m,theta_rad\n0,0,0\n0.1,0\n", ":3: too few"),
        (b"t_s,p_m,theta_rad\n0,0,0\n0.1,0,0,5\n", ":3: too many"),
        (b"t_s,p_m,theta_rad\n0,0,0,0,0,0\n0,1,0,1,0,1\n", "decimal sign"),
        (b"t_s,p_m\n0,0\n", ":1:.*--map"),
        (b"t_s,p_m,theta_rad\n", "no rows"),
        (b"t_s,p_m,theta_rad\n" + b"nan,nan,nan\n" * 30, "30 left out"),
        (b"t_s,p_m,theta_rad\n0,0,0\n0,0,0\n", "coarsely"),
        (b"t_s,p_m,theta_rad\n0,0,0\n.1,1500,0\n.2,3000,0\n", "positions"),
        (b"t_s,t_s,p_m,theta_rad\n1,2,3,4\n2,3,3,4\n", "2 columns 't_s'"),
        (b"", "empty"),
        (b"\0" * 500, "not a text"),
        (b"t_s," + b"x" * 20_000, "10000 characters"),
        (bytes(range(256)) * 40, "text file"),
    ],
)
def test_bad_tables_name_the_place(raw: bytes, where: str) -> None:
    with pytest.raises(SessionError, match=where) as caught:
        parse(raw)
    assert "\n" not in str(caught.value)


def test_too_large_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SessionError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    monkeypatch.setattr("cartpole.session.tables.LARGEST_BYTES", 100)
    (tmp_path / "x.csv").write_text(text(*swing()))
    with pytest.raises(SessionError, match="larger"):
        read_table(tmp_path / "x.csv")


# ---- slips ----

SLIPS = {
    "time": ("time=t_s:ms", "time looks like seconds"),
    "degrees": ("angle=theta_rad:57.29578", "angles look like radians"),
    "turns": ("angle=theta_rad:0.1591549", "angles look like radians"),
    "zero": ("angle=theta_rad:zero-up", "zero looks like hanging"),
    "metres": ("position=p_m:1000", "positions look like metres"),
    "sign": ("position=p_m:left", "sign of angle or position looks reversed"),
}


@pytest.mark.parametrize("name", list(SLIPS))
def test_slips_are_named_and_their_remedy_works(name: str) -> None:
    wrong, said = SLIPS[name]
    made = text(*swing())
    parts = dict(part.split("=", 1) for part in LAYOUTS["plain"].text().split(","))
    parts |= dict([wrong.split("=", 1)])
    mapping = ",".join(f"{quantity}={column}" for quantity, column in parts.items())
    with pytest.raises(SessionError, match=said) as caught:
        parse(made, mapping)
    remedy = str(caught.value).split("--map ")[1].split(" ")[0]
    theta = parse(made, remedy).runs[0].theta_rad
    wanted = swing()[2]
    away = abs(float(np.mean(theta - wanted)))
    assert min(away % (2 * math.pi), -away % (2 * math.pi)) < 1e-3 or name == "sign"
    unchecked = parse_table(made.encode(), "x", parse_mapping(mapping), checked=False)
    assert unchecked.rows == 300


def test_slips_of_values_that_no_rig_has() -> None:
    t, p, theta = swing()
    for made, said in (
        (text(1e3 * t, p, theta), "milliseconds"),
        (text(1e6 * t, p, theta), "microseconds"),
        (text(t, p, np.degrees(theta) % 360.0), "degrees"),
        (text(t, p, theta * 200 / math.pi), "gradians"),
        (text(t, p, theta / (2 * math.pi)), "turns"),
        (text(t, 1e3 * p, theta), "millimetres"),
        (text(t, 1e2 * p, theta), "centimetres"),
        (text(t, p, theta + math.pi), "upright"),
        (text(t, np.where(t > 2.0, 1e300, p), theta), "no position and no angle"),
        (text(t, p, np.where(t > 2.0, -1e308, theta)), "no position and no angle"),
    ):
        with pytest.raises(SessionError, match=said):
            parse(made)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not on this machine")
def test_no_real_recording_is_taken_for_a_slip() -> None:
    for path in sorted(REAL.glob("*.csv")):
        assert len(read_table(path).runs) == 1
        for wrong in ("angle=angle", "angle=angle:zero-up:clockwise", "angle=angle:57.3:zero-up"):
            with pytest.raises(SessionError, match="look"):
                read_table(path, parse_mapping(f"time=time,position=position,{wrong}"))


def test_rows_closer_than_a_nanosecond_are_one_time(tmp_path: Path) -> None:
    rows = ["t_s,p_m,theta_rad,u_m_s"]
    rows += [f"{0.02 * k:.4f},{0.3 * math.sin(0.03 * k)},{math.cos(0.1 * k)},0" for k in range(100)]
    rows[2] = rows[2].replace("0.0200,", "1e-320,", 1)
    path = tmp_path / "t.csv"
    path.write_text("\n".join(rows))
    table = read_table(path, checked=False)
    assert (table.rows, sum(one.rows for one in table.left_out)) == (99, 1)
