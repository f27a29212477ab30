"""A recording as one HTML page: figures, zoomable plots, faults, settings, provenance.

Nothing is fetched when it is opened: the plotting library is inside. Lines are thinned to what a
screen can show (least and greatest value of each stretch stay), so that a long run stays small.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole.session.code import code_told
from cartpole.session.plot import MODE_COLOURS
from cartpole.session.plotly_js import plotting_library
from cartpole.session.report_data import Gathered, gather
from cartpole.session.report_plots import plots
from cartpole.shown import shown

if TYPE_CHECKING:
    from cartpole.session.reader import Session

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1200px;padding:0 20px 40px;
color:#222;background:#fff}
h1{font-size:24px;margin:24px 0 4px} h2{font-size:18px;margin:32px 0 8px}
.sub{color:#666} table{border-collapse:collapse;font-size:14px}
td,th{padding:3px 14px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid #eee}
td.n{font-variant-numeric:tabular-nums} .plot{width:100%}
.tiles{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0}
.tile{border:1px solid #ddd;border-radius:6px;padding:8px 14px;min-width:120px}
.tile b{display:block;font-size:19px} .tile span{color:#666;font-size:13px}
.bad{color:#b3261e}
"""

Drawn = tuple[str, str, dict[str, Any]]  # title, note, figure


PAGE_BEGINS = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="generator" '
    'content="cartpole report">'
)


def write_report(session: Session, output: Path) -> None:
    """Write the page; raises SessionError if the recording holds no whole tick."""
    found = gather(session)
    drawn = plots(found)
    body = [
        _head(session, found),
        _tiles(found),
        _faults(found),
        *_figures(drawn),
        _sensors(found),
        _settings(session),
        _provenance(session),
    ]
    title = html.escape(session.path.name)
    library, draw = _scripts(drawn)
    page = (
        f"{PAGE_BEGINS}<title>{title}</title>"
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style>{library}</head><body>{''.join(body)}{draw}</body></html>"
    )
    output.write_text(page, encoding="utf-8")


def _scripts(drawn: list[Drawn]) -> tuple[str, str]:
    """(the plotting library, the calls that draw)."""
    calls = []
    for number, (_, _, figure) in enumerate(drawn):
        data = json.dumps(figure, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        calls.append(f"draw('plot{number}',{data});")
    function = (
        "function draw(id,f){Plotly.newPlot(id,f.data,f.layout,"
        "{responsive:true,displaylogo:false})}"
    )
    library = f"<script>{plotting_library()}</script>"
    return library, f"<script>{function}{''.join(calls)}</script>"


def _head(session: Session, found: Gathered) -> str:
    created = html.escape(shown(session.provenance.get("created", "unknown date")))
    name = html.escape(shown(session.path.name))
    told = "".join(f'<div class="bad">{html.escape(shown(line))}</div>' for line in session.told())
    told += "".join(
        f"<div class=sub>{html.escape(shown(line))}</div>"
        for line in code_told(session, session.config)
    )
    rig = html.escape(shown(session.config.rig.name))
    return (
        f"<h1>{name}</h1>{told}<div class=sub>{rig} &middot; {created} &middot; "
        f"{found.columns.t[-1]:.1f} s, {found.ticks} ticks</div>"
    )


def _tiles(found: Gathered) -> str:
    summary = found.summary
    solver, timing = summary["solver"], summary["timing"]
    entries = [
        ("upright after", summary["upright_at_s"], "s", 2),
        ("largest |p|", summary["max_abs_p_m"], "m", 3),
        ("largest |u|", summary["max_abs_u_m_s"], "m/s", 3),
        ("angle, last 5 s RMS", summary["theta_rms_rad_tail"], "rad", 4),
        ("swing-ups", summary["swing_ups"], "", 0),
        ("solver median", solver["median_us"], "µs", 0),
        ("solver p99", solver["p99_us"], "µs", 0),
        ("late ticks", timing["late_ticks"], "", 0),
        ("fallback ticks", summary["fallback_ticks"], "", 0),
        ("faults", len(summary["faults"]), "", 0),
    ]
    tiles = []
    for label, value, unit, digits in entries:
        text = "–" if value is None else f"{value:.{digits}f} {unit}"
        tiles.append(f"<div class=tile><b>{text}</b><span>{label}</span></div>")
    return f"<div class=tiles>{''.join(tiles)}</div>"


def _faults(found: Gathered) -> str:
    rows = [
        (f"{t_s:.3f}", name, severity, meaning, advice)
        for t_s, name, severity, meaning, advice in found.faults
    ]
    table = _table(("time [s]", "fault", "ends in", "what it means", "next step"), rows)
    events = [(f"{t_s:.3f}", text) for t_s, text in found.events]
    return (
        f"<h2>Faults</h2>{table if rows else '<p>none</p>'}"
        f"<details><summary>{len(events)} events</summary>{_table(('time [s]', 'event'), events)}"
        "</details>"
    )


def _figures(drawn: list[Drawn]) -> list[str]:
    parts = []
    for number, (title, note, figure) in enumerate(drawn):
        height = figure["layout"].get("height", 420)
        caption = f"<div class=sub>{html.escape(note)}</div>" if note else ""
        if number == 0:
            caption += _mode_legend()
        parts.append(
            f"<h2>{html.escape(title)}</h2>{caption}"
            f'<div class=plot id="plot{number}" style="height:{height}px"></div>'
        )
    return parts


def _mode_legend() -> str:
    marks = "".join(
        f'<span style="background:{colour};padding:1px 8px;margin-right:8px">{mode.value}</span>'
        for mode, colour in MODE_COLOURS.items()
    )
    return f"<div class=sub>{marks}</div>"


def _sensors(found: Gathered) -> str:
    rows = [
        (
            name,
            str(sensor.count),
            f"{sensor.rate_hz:.1f}",
            f"{sensor.longest_gap_s * 1e3:.1f}",
            f"{sensor.age_ms:.1f}",
            ", ".join(f"{why} {n}" for why, n in sorted(sensor.refused.items())) or "none",
        )
        for name, sensor in found.sensors.items()
    ]
    heads = ("sensor", "samples", "rate [Hz]", "longest gap [ms]", "median age [ms]", "not usable")
    nis = "".join(
        f"<p>Innovations squared over their variance, {name}: {value:.2f} (1 is consistent)</p>"
        for name, value in found.consistency.items()
    )
    rejected = f"<p>Measurements the estimator rejected: {found.rejected}</p>"
    return f"<h2>Sensors</h2>{_table(heads, rows)}{nis}{rejected}"


def _settings(session: Session) -> str:
    from cartpole.config.load import flatten
    from cartpole.config.schema import Config

    standard = flatten(Config())
    rows = [
        (name, _show(value), _show(standard.get(name)))
        for name, value in flatten(session.config).items()
        if value != standard.get(name)
    ]
    table = _table(("setting", "here", "default"), rows) if rows else "<p>all defaults</p>"
    return f"<h2>Settings that are not defaults</h2>{table}"


def _provenance(session: Session) -> str:
    rows = [(name, value) for name, value in session.provenance.items()]
    return f"<h2>Provenance</h2>{_table(('', ''), rows)}"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    lines = "".join(
        "<tr>" + "".join(f"<td class=n>{html.escape(shown(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _show(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.6g}"
    return str(value)
