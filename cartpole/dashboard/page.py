"""The page's layout and what its controls do."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi.responses import PlainTextResponse
from nicegui import run, ui
from starlette.requests import Request

from cartpole.control.reference import ROOM_SHARE
from cartpole.dashboard.browser import BROWSER, RIG
from cartpole.dashboard.charts import charts, options, series
from cartpole.dashboard.feed import Feed, Status
from cartpole.dashboard.look import CSS, MODE_COLOURS, STOP_COLOUR
from cartpole.dashboard.picture import Pictures
from cartpole.dashboard.possible import impossible
from cartpole.dashboard.setup import PageSetup
from cartpole.dashboard.sliders import STEPS, Scale, unit_of
from cartpole.dashboard.words import is_recording, recording_text, values
from cartpole.remote.operator import Operator

if TYPE_CHECKING:
    from cartpole.vision.ring import FrameRing

SHOW_EVERY_S = 0.12
DRAWN_WITHIN_S = 5.0
TOLD_S = 8.0  # what an action led to is shown for so long
PUSH_RAD_S = 1.5  # a push that a balanced pole of half a metre bears
COMMANDS_OFF = "off: run with --commands, or set dashboard.commands: true"
WORDS = {"arm": "Arm", "swing-up": "Swing up", "home": "Home", "disarm": "Disarm", "reset": "Reset"}


def add_page(setup: PageSetup, feed: Feed, ring: FrameRing | None) -> None:
    """Register the page; every browser that opens it gets one of its own."""
    pictures = Pictures(ring) if ring is not None else None

    @ui.page("/")
    def index(request: Request) -> PlainTextResponse | None:
        token = request.query_params.get("token", "")
        if not secrets.compare_digest(token.encode(), setup.token.encode()):
            return PlainTextResponse(
                "wrong or missing token: open the address the daemon printed\n", 403
            )
        Page(setup, feed, pictures).build()
        return None


class Page:
    """One browser's page."""

    def __init__(self, setup: PageSetup, feed: Feed, pictures: Pictures | None) -> None:
        self._setup, self._feed, self._pictures = setup, feed, pictures
        self._operator = Operator(Path(setup.socket), setup.commands)
        self._limits = (setup.position_limit_m, setup.velocity_limit_m_s)
        self._charts = charts(*self._limits)
        self._shown_faults = ""
        self._last_picture = -1
        self._drawing = False
        self._side = -1.0
        self._told_until_s = 0.0

    def build(self) -> None:
        """Everything, top to bottom."""
        ui.add_css(CSS)
        ui.add_head_html(f"<script>{BROWSER}{RIG}</script>")
        ui.on("cartpole_stop", self._stop)
        ui.on("cartpole_push", self._dragged)
        self._header()
        with ui.element("main").classes("cp-main"):
            self._camera()
            self._rig()
            with ui.element("div").classes("cp-side"):
                self._faults()
                self._numbers()
                self._target()
            with ui.element("div").classes("cp-plots"):
                self._plots = [
                    ui.echart(options(chart), theme=None).classes("cp-card cp-plot")
                    for chart in self._charts
                ]
            self._settings()
        ui.timer(SHOW_EVERY_S, self._show)

    # Parts

    def _header(self) -> None:
        with ui.element("header").classes("cp-header"):
            with ui.element("div").classes("cp-name"):
                ui.label(self._setup.rig).classes("cp-title")
                with ui.element("div").classes("cp-recording"):
                    self._dot = ui.element("span").classes("cp-dot")
                    self._session = ui.label("").classes("cp-faint")
                    self._session.props('data-testid="recording"')
            # Beside what it is about, and far from Stop.
            self._record = ui.button("Record", on_click=self._toggle_recording)
            self._record.props("outline no-caps").classes("cp-button cp-record")
            self._only_with_commands(self._record)
            self._mode = ui.label("…").classes("cp-mode").props('data-testid="mode"')
            self._age = ui.label("").classes("cp-faint")
            ui.element("div").classes("cp-space")
            self._told = ui.label("").classes("cp-told").props('role=status data-testid="told"')
            self._buttons: dict[str, tuple[ui.button, ui.tooltip]] = {}
            with ui.element("div").classes("cp-actions"):
                for word, text in WORDS.items():
                    self._buttons[word] = self._button(text, word)
            self._push = ui.button("Push", on_click=self._pushed)
            self._push.props('outline no-caps data-testid="push"').classes("cp-button")
            self._only_with_commands(self._push)
            stop = ui.button("Stop", on_click=self._stop, color=STOP_COLOUR)
            stop.props("unelevated no-caps")
            stop.classes("cp-stop").tooltip("space bar")

    def _button(self, text: str, word: str) -> tuple[ui.button, ui.tooltip]:
        # A disabled button shows no tooltip: what is around it does.
        with ui.element("span"):
            button = ui.button(text, on_click=lambda: self._do({"do": word}))
            button.props(f'outline no-caps data-testid="{word}"').classes("cp-button")
            reason = ui.tooltip("")
            reason.set_visibility(False)
        return button, reason

    def _show_possible(self, mode: str) -> None:
        """Buttons that would do nothing are off, with the reason."""
        for word, (button, reason) in self._buttons.items():
            why = impossible(word, mode) if self._setup.commands else COMMANDS_OFF
            if button.enabled != (not why):
                button.set_enabled(not why)
            if reason.text != why:
                reason.set_text(why)
                reason.set_visibility(bool(why))

    def _only_with_commands(self, element: Any) -> None:
        if not self._setup.commands:
            element.disable()
            element.tooltip(COMMANDS_OFF)

    def _camera(self) -> None:
        with ui.element("section").classes("cp-card cp-camera"):
            if self._pictures is None:
                ui.label("no pictures on this page").classes("cp-faint cp-none")
            else:
                ui.html('<img id="cp-picture" alt="camera">', sanitize=False)

    def _rig(self) -> None:
        with ui.element("section").classes("cp-card cp-rig"):
            ui.html('<canvas id="cp-rig" data-testid="rig"></canvas>', sanitize=False)
            self._hint = ui.label("drag the pole or the cart to push it").classes("cp-faint")

    def _faults(self) -> None:
        self._fault_box = ui.element("section").classes("cp-card cp-faults")
        self._fault_box.set_visibility(False)

    def _numbers(self) -> None:
        self._values: dict[str, ui.label] = {}
        with ui.element("section").classes("cp-card cp-numbers"):
            for name in ("cart", "pole", "command", "target", "measured", "solver"):
                ui.label(name).classes("cp-faint")
                self._values[name] = ui.label("–").classes("cp-value")

    def _target(self) -> None:
        room = ROOM_SHARE * self._limits[0]
        with ui.element("section").classes("cp-card cp-target"):
            ui.label("Target").classes("cp-heading")
            shape = ui.select(["hold", "square", "sine"], value="hold", label="shape")
            centre = ui.number("position, m", value=0.0, min=-room, max=room, step=0.05)
            amplitude = ui.number("amplitude, m", value=0.1, min=0.0, max=room, step=0.05)
            period = ui.number("period, s", value=8.0, min=0.5, max=60.0, step=0.5)
            self._places = (centre, amplitude)
            for field in (amplitude, period):
                field.bind_visibility_from(shape, "value", lambda value: value != "hold")
            for element in (shape, centre, amplitude, period):
                element.props("dense outlined")

            async def go() -> None:
                await self._do(
                    {"do": "target", "value": centre.value}
                    if shape.value == "hold"
                    else {
                        "do": "reference",
                        "shape": shape.value,
                        "centre_m": centre.value,
                        "amplitude_m": amplitude.value,
                        "period_s": period.value,
                    }
                )

            button = ui.button("Go", on_click=go).props("outline no-caps").classes("cp-button")
            self._only_with_commands(button)

    def _settings(self) -> None:
        with ui.element("section").classes("cp-card cp-settings"):
            with ui.element("div").classes("cp-row"):
                ui.label("Settings that may change while it runs").classes("cp-heading")
                ui.element("div").classes("cp-space")
                for text, word in (("Save to YAML", "save"), ("Revert", "revert")):
                    button = ui.button(text, on_click=lambda word=word: self._keep(word))
                    button.props("outline no-caps").classes("cp-button")
                    self._only_with_commands(button)
            self._sliders = ui.element("div").classes("cp-sliders")
        ui.timer(0.1, self._fill_sliders, once=True)

    async def _fill_sliders(self) -> None:
        answer = await self._ask({"do": "fields"})
        self._sliders.clear()
        with self._sliders:
            if not answer["ok"]:
                ui.label(answer["error"]).classes("cp-faint")
                ui.button("Try again", on_click=self._fill_sliders).props("flat no-caps")
                return
            for key, field in answer["fields"].items():
                self._slider(key, field)

    def _slider(self, key: str, field: dict[str, Any]) -> None:
        room = ROOM_SHARE * self._limits[0]
        scale = Scale.of(field, room if key.endswith("target_m") else None)
        with ui.element("div").classes("cp-slider"):
            name = ui.label(key.removeprefix("controller.")).classes("cp-key")
            name.tooltip(f"{key}: {field['meaning']}")
            unit = unit_of(key)
            value = ui.label(scale.text(scale.value, unit)).classes("cp-value")
            slider = ui.slider(min=0, max=STEPS, step=1, value=scale.position(scale.value))
            slider.props(f'dense data-testid="{key}"')
            slider.on_value_change(
                lambda event: value.set_text(scale.text(scale.at(event.value), unit))
            )

            async def changed() -> None:
                await self._do({"do": "set", "values": {key: scale.at(slider.value)}})

            slider.on("change", changed)
            self._only_with_commands(slider)

    # Actions

    async def _stop(self) -> None:
        await self._do({"do": "stop"})

    async def _pushed(self) -> None:
        """A hand on the simulated pole, now from one side, now from the other."""
        self._side = -self._side
        await self._do({"do": "push", "pole_rad_s": PUSH_RAD_S * self._side})

    async def _dragged(self, event: Any) -> None:
        """A drag on the drawing of a simulated rig, already turned into a push."""
        if self._setup.commands:
            await self._do({"do": "push", **event.args})

    async def _toggle_recording(self) -> None:
        going = is_recording(self._feed.status)
        self._record.disable()  # a file is opened, or finished
        try:
            await self._do({"do": "stop-record" if going else "record"})
        finally:
            self._record.enable()

    async def _keep(self, word: str) -> None:
        await self._do({"do": word})
        await self._fill_sliders()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        answer = await run.io_bound(self._operator.ask, message)
        return answer if answer is not None else {"ok": False, "error": "the page is closing"}

    async def _do(self, message: dict[str, Any]) -> None:
        answer = await self._ask(message)
        if not answer["ok"]:
            self._tell(answer["error"], bad=True)
            return
        told = [answer["text"]] if "text" in answer else []
        if "backup" in answer:
            told.append(f"saved, before: {answer['backup']}" if answer["backup"] else "no change")
        self._tell("; ".join(told))

    def _tell(self, text: str, bad: bool = False) -> None:
        """One line with a place of its own: nothing is covered, and it goes by itself."""
        self._told.set_text(text)
        self._told.classes(add="cp-bad" if bad else None, remove=None if bad else "cp-bad")
        self._told_until_s = time.monotonic() + TOLD_S

    # Every SHOW_EVERY_S

    async def _show(self) -> None:
        """Send the next state when the browser has drawn the last: nothing piles up anywhere."""
        if self._drawing:
            return
        self._drawing = True
        try:
            await self._send()
        except TimeoutError:  # a hidden tab draws nothing; ask again
            pass
        finally:
            self._drawing = False

    async def _send(self) -> None:
        status = self._feed.status
        self._show_words(status)
        await self._follow_limits(status)
        if self._told.text and time.monotonic() > self._told_until_s:
            self._tell("")
        samples, plans = self._feed.window()
        data: dict[str, Any] = {
            "alive": bool(status),
            "charts": {
                plot.id: series(chart, samples, plans)
                for plot, chart in zip(self._plots, self._charts, strict=True)
            },
            "rig": self._drawn(status),
        }
        if self._pictures is not None:
            newest = self._pictures.newest(self._last_picture, status.get("detection"))
            if newest is not None:
                self._last_picture, data["picture"] = newest
        text = json.dumps(data, separators=(",", ":"))
        await ui.run_javascript(f"return cartpole.show({text})", timeout=DRAWN_WITHIN_S)

    def _drawn(self, status: Status) -> dict[str, Any]:
        """What the drawing of the rig shows: metres and radians."""
        state = status.get("state") or {"p_m": None, "theta_rad": 0.0}
        return {
            "track": self._setup.track_m,
            "length": self._setup.pole_m,
            "limit": self._limits[0],
            "push": self._setup.commands and status.get("simulated", False),
            "target": status.get("target_m"),
            "p": state["p_m"],
            "theta": state["theta_rad"],
            "plan": status.get("plan"),
        }

    async def _follow_limits(self, status: Status) -> None:
        """Limits may change while disarmed: plots and ranges of targets follow."""
        shown = status.get("limits")
        if shown is None or (shown["position_m"], shown["velocity_m_s"]) == self._limits:
            return
        self._limits = (shown["position_m"], shown["velocity_m_s"])
        self._charts = charts(*self._limits)
        for plot, chart in zip(self._plots, self._charts, strict=True):
            plot.options["yAxis"].update(min=chart.low, max=chart.high)
        room = ROOM_SHARE * self._limits[0]
        centre, amplitude = self._places
        centre.min, centre.max, amplitude.max = -room, room, room
        await self._fill_sliders()

    def _show_words(self, status: Status) -> None:
        mode = status.get("mode", "NO DAEMON")
        self._mode.set_text(mode.replace("_", " "))
        self._mode.style(f"background: {MODE_COLOURS.get(mode, MODE_COLOURS['NO DAEMON'])}")
        self._show_possible(mode)
        self._age.set_text(self._feed.trouble)
        pushed = status.get("simulated", False)
        self._push.set_visibility(pushed)
        self._hint.set_visibility(pushed and self._setup.commands)
        going = is_recording(status)
        self._dot.set_visibility(going)
        self._record.set_text("Stop recording" if going else "Record")
        self._session.set_text(recording_text(status))
        self._show_faults(status.get("faults", []))
        for name, text in values(status).items():
            self._values[name].set_text(text)

    def _show_faults(self, faults: list[dict[str, str]]) -> None:
        shown = json.dumps(faults)
        if shown == self._shown_faults:
            return
        self._shown_faults = shown
        self._fault_box.clear()
        self._fault_box.set_visibility(bool(faults))
        with self._fault_box:
            for fault in faults:
                ui.label(fault["name"]).classes("cp-fault")
                ui.label(fault["meaning"])
                ui.label(f"→ {fault['next_step']}").classes("cp-next")
