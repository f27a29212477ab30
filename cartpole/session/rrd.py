"""A recording for the Rerun viewer: curves, pictures, the rig in 3-D, the fan of its plans.

Rerun opens the recording itself, too, but draws of it only the pictures: its curves are JSON.
Frames: x along the track, to the right; y away from the camera; z up; metres.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.errors import SessionError, UsageError
from cartpole.messages import NANOSECONDS
from cartpole.session.codec import trajectory_arrays

if TYPE_CHECKING:
    from cartpole.messages import FloatArray
    from cartpole.session.reader import Session
    from cartpole.session.recorded import RecordedTick

RRD = b"RRF2"  # how the files begin
TIME = "time"
APPLICATION = "cartpole"
CART_M = (0.06, 0.04, 0.03)  # half sizes
FAN = 12  # plans seen at once, every fifth that was made
BATCH = 2000  # ticks kept in memory
CURVES = {
    "state/p_m": "cart [m]",
    "state/v_m_s": "cart's speed [m/s]",
    "state/theta_rad": "angle, pi upright [rad]",
    "state/omega_rad_s": "angle's rate [rad/s]",
    "command/velocity_m_s": "command [m/s]",
    "command/target_m": "target [m]",
    "plan/cost": "cost of the plan",
    "plan/newton_steps": "Newton steps",
    "truth/p_m": "true cart [m]",
    "truth/theta_rad": "true angle [rad]",
    "timing/compute_us": "computing [us]",
    "timing/late_us": "late [us]",
}
STATE = ("p_m", "v_m_s", "theta_rad", "omega_rad_s")


def export_rrd(session: Session, output: Path) -> int:
    """Write ``output`` (.rrd); returns the ticks. UsageError without the Rerun SDK.

    Times are seconds from the first tick. Raises SessionError for a recording without ticks.
    """
    try:
        import rerun
    except ModuleNotFoundError:
        raise UsageError("this needs the Rerun SDK: pip install 'cartpole[viewers]'") from None
    stream = rerun.RecordingStream(APPLICATION)
    stream.save(str(output))
    try:
        return _Exporter(rerun, stream, session).all()
    finally:
        stream.flush()
        stream.disconnect()


def tips(states: FloatArray, length_m: float) -> FloatArray:
    """Where the pole's tip is in 3-D (N, 3) for states (N, >=3) in the order P, V, THETA."""
    p, theta = states[:, 0], states[:, 2]
    x, z = p + length_m * np.sin(theta), -length_m * np.cos(theta)
    return np.column_stack([x, np.zeros(len(x)), z])


class _Exporter:
    def __init__(self, rerun: Any, stream: Any, session: Session) -> None:
        self._rr, self._stream, self._session = rerun, stream, session
        self._length_m = session.config.pole.length_m
        self._start_ns = 0
        self._fan: deque[FloatArray] = deque(maxlen=FAN)
        self._curves: dict[str, tuple[array[float], array[float]]] = defaultdict(
            lambda: (array("d"), array("d"))
        )

    def all(self) -> int:
        ticks = 0
        mode, faults = "", frozenset[str]()
        self._still()
        for tick in self._session.ticks():
            if ticks == 0:
                self._start_ns = tick.line.now_ns
            ticks += 1
            self._at(tick.line.now_ns)
            self._take(tick)
            self._draw(tick)
            if tick.line.mode.value != mode:
                mode = tick.line.mode.value
                self._stream.log("events/mode", self._rr.TextLog(mode, level="INFO"))
            now = frozenset(f"{fault.name}: {fault.meaning}" for fault in tick.faults)
            for told in sorted(now - faults):
                self._stream.log("events/fault", self._rr.TextLog(told, level="ERROR"))
            faults = now
            if ticks % BATCH == 0:
                self._flush()
        if ticks == 0:
            raise SessionError(f"{self._session.path} holds no whole tick: nothing to show")
        self._flush()
        self._pictures()
        return ticks

    def _at(self, t_ns: int) -> None:
        self._stream.set_time(TIME, duration=(t_ns - self._start_ns) / NANOSECONDS)

    def _still(self) -> None:
        """Track, names of the curves, and how it is laid out."""
        rr, rig = self._rr, self._session.config.rig
        half = rig.track_length_m / 2
        ends = [[[-half, 0, -0.04], [half, 0, -0.04]]]
        self._stream.log("rig/track", rr.LineStrips3D(ends, radii=0.004), static=True)
        limits = [
            [[x, 0, -0.08], [x, 0, 0.0]] for x in (-rig.position_limit_m, rig.position_limit_m)
        ]
        colour = [200, 80, 60]
        self._stream.log("rig/limits", rr.LineStrips3D(limits, colors=colour), static=True)
        for name, told in CURVES.items():
            self._stream.log(name, rr.SeriesLines(names=told), static=True)
        self._stream.send_blueprint(self._layout())

    def _layout(self) -> Any:
        from rerun import blueprint

        curves = blueprint.Vertical(
            *[
                blueprint.TimeSeriesView(origin=f"/{name}", name=name)
                for name in ("state", "command", "plan", "timing")
            ]
        )
        left = blueprint.Vertical(
            blueprint.Spatial3DView(origin="/rig", name="rig"),
            blueprint.Spatial2DView(origin="/picture", name="picture"),
            blueprint.TextLogView(origin="/events", name="events"),
        )
        return blueprint.Blueprint(blueprint.Horizontal(left, curves), collapse_panels=True)

    def _take(self, tick: RecordedTick) -> None:
        t_s = (tick.line.now_ns - self._start_ns) / NANOSECONDS

        def put(name: str, value: float) -> None:
            times, values = self._curves[name]
            times.append(t_s)
            values.append(value)

        if tick.estimate is not None:
            for name, value in zip(STATE, tick.estimate.state, strict=True):
                put(f"state/{name}", value)
        put("command/velocity_m_s", tick.command.velocity_m_s)
        put("command/target_m", tick.line.target_m)
        if tick.plan is not None:
            put("plan/cost", tick.plan.cost)
            put("plan/newton_steps", tick.plan.newton_steps)
        if tick.truth is not None:
            put("truth/p_m", tick.truth[0])
            put("truth/theta_rad", tick.truth[2])
        if tick.timing is not None:
            put("timing/compute_us", tick.timing.compute_ns / 1e3)
            put("timing/late_us", tick.timing.late_ns / 1e3)

    def _flush(self) -> None:
        rr = self._rr
        for name, (times, values) in self._curves.items():
            column = rr.TimeColumn(TIME, duration=np.asarray(times))
            data = rr.Scalars.columns(scalars=np.asarray(values))
            self._stream.send_columns(name, indexes=[column], columns=data)
        self._curves.clear()

    def _draw(self, tick: RecordedTick) -> None:
        """Cart and pole as estimated; where the plan that was kept lets the pole's tip go."""
        rr = self._rr
        if tick.estimate is not None and all(map(np.isfinite, tick.estimate.state)):
            state = np.asarray([tick.estimate.state], dtype=np.float64)
            tip, cart = tips(state, self._length_m)[0], [state[0, 0], 0.0, 0.0]
            self._stream.log("rig/cart", rr.Boxes3D(centers=[cart], half_sizes=[CART_M]))
            pole = rr.LineStrips3D([[cart, tip]], radii=0.008, colors=[240, 200, 60])
            self._stream.log("rig/pole", pole)
        if tick.trajectory is not None:
            _, states, _ = trajectory_arrays(tick.trajectory)
            self._fan.append(tips(states, self._length_m))
            fade = np.linspace(60, 255, len(self._fan)).astype(int).tolist()
            colours = [[90, 160, 255, alpha] for alpha in fade]  # the newest is the clearest
            fan = rr.LineStrips3D(list(self._fan), radii=0.002, colors=colours)
            self._stream.log("rig/plans", fan)

    def _pictures(self) -> None:
        for picture in self._session.frames():
            kind = "image/jpeg" if picture.data[:2] == b"\xff\xd8" else "image/png"
            self._at(picture.t_ns)
            shown = self._rr.EncodedImage(contents=picture.data, media_type=kind)
            self._stream.log("picture", shown)
