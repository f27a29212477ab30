"""What the page says of a status, in words and figures. Pure."""

from __future__ import annotations

import math

from cartpole.dashboard.feed import Status


def is_recording(status: Status) -> bool:
    """Whether a recording grows."""
    recording = status.get("recording")
    return recording is not None and not recording["error"]


def recording_text(status: Status) -> str:
    """Name, time and size of the recording in force, or why there is none."""
    recording = status.get("recording")
    if recording is None:
        return "not recording" if status else ""
    if recording["error"]:
        return f"recording {recording['name']} ended: {recording['error']}"
    minutes, seconds = divmod(int(recording["seconds"]), 60)
    lost = f", {recording['dropped']} lost" if recording["dropped"] else ""
    return (
        f"recording {recording['name']}  {minutes}:{seconds:02d}  "
        f"{recording['bytes'] / 1e6:.1f} MB{lost}"
    )


def values(status: Status) -> dict[str, str]:
    """Cart, pole, command, target, age of the measurements, solver."""
    shown: dict[str, str] = {}
    state = status.get("state")
    if state is None:
        unknown = "–" if status.get("homed", True) else "unknown before homing"
        shown |= {"cart": unknown, "pole": unknown, "measured": "–"}
    if state is not None:
        angle = math.degrees(status["from_upright_rad"])
        shown["cart"] = f"{state['p_m']:+.3f} m   {state['v_m_s']:+.2f} m/s"
        shown["pole"] = f"{angle:+.1f}°   {state['omega_rad_s']:+.2f} rad/s"
        ages = status["camera_age_ms"], status["encoder_age_ms"]
        camera, encoder = ("–" if age is None or age < 0 else f"{age:.0f} ms" for age in ages)
        shown["measured"] = f"camera {camera}, encoders {encoder} ago"
    if "command_m_s" in status:
        limited = f"   limited by {status['limited_by']}" if status["limited_by"] else ""
        shown["command"] = f"{status['command_m_s']:+.3f} m/s{limited}"
        shown["target"] = f"{status['target_m']:+.3f} m"
    solver = status.get("solver")
    shown["solver"] = (
        f"{solver['status']}, {solver['newton_steps']} steps, {solver['candidate']}"
        if solver is not None
        else "–"
    )
    return shown
