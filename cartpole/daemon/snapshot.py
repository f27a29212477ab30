"""What outsiders are shown of a running daemon: plain JSON values, made from the latest tick."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cartpole.messages import THETA, Detection, P, Plan, TickRecord, TickTiming, U

if TYPE_CHECKING:
    from cartpole.config.schema import Config

PLAN_EVERY = 4  # points of a plan shown


def snapshot(
    record: TickRecord | None,
    timing: TickTiming | None,
    config: Config,
    recording: dict[str, Any] | None,
    detection: Detection | None = None,
) -> dict[str, Any]:
    """Mode, state, command, plan, solver, timing, faults; SI units, angles in radians.

    ``session`` is the file being recorded, ``recording`` how that goes (see ``Recorder.status``).
    """
    shown: dict[str, Any]
    session = None if recording is None else recording["path"]
    if record is None:
        shown = {"name": config.rig.name, "mode": "STARTING"}
        return {**shown, "session": session, "recording": recording}
    shown = {
        "name": config.rig.name,
        "mode": record.mode.value,
        "armed": record.armed,
        "homed": record.homed,
        "tick": record.index,
        "t_ns": record.input.now_ns,
        "target_m": record.target_m,
        "command_m_s": record.command.velocity_m_s,
        "limited_by": record.command.limited_by,
        "faults": [
            {
                "name": fault.name,
                "severity": fault.severity.name.lower(),
                "meaning": fault.meaning,
                "next_step": fault.next_step,
            }
            for fault in record.faults
        ],
        "session": session,
        "recording": recording,
        "limits": {
            "position_m": config.rig.position_limit_m,
            "velocity_m_s": config.rig.velocity_limit_m_s,
        },
    }
    if record.estimate is not None:
        p, v, theta, omega = record.estimate.state
        shown["state"] = {"p_m": p, "v_m_s": v, "theta_rad": theta, "omega_rad_s": omega}
        shown["from_upright_rad"] = math.remainder(theta - math.pi, 2.0 * math.pi)
        shown["camera_age_ms"] = record.estimate.camera_age_ns / 1e6
        shown["encoder_age_ms"] = record.estimate.encoder_age_ns / 1e6
        shown["nis_camera"] = record.estimate.nis_camera
        shown["nis_encoder"] = record.estimate.nis_encoder
        shown["rejected"] = record.estimate.rejected
    if record.plan is not None:
        shown["solver"] = {
            "status": record.plan.status.name.lower(),
            "newton_steps": record.plan.newton_steps,
            "kkt_residual": record.plan.kkt_residual,
            "candidate": record.plan.candidate,
        }
        shown["plan"] = _thin(record.plan)
    if detection is not None:
        shown["detection"] = {
            "sequence": detection.sequence,
            "status": detection.status.name,
            "corners_px": [list(corner) for corner in detection.corners_px],
        }
    if timing is not None:
        shown["timing"] = {
            "late_us": timing.late_ns / 1e3,
            "compute_us": timing.compute_ns / 1e3,
            "solver_us": timing.solver_ns / 1e3 if timing.solver_ns >= 0 else None,
        }
    finite: dict[str, Any] = _finite(shown)
    return finite


def _thin(plan: Plan) -> dict[str, list[float]]:
    rows = plan.states[::PLAN_EVERY]
    count = len(rows)
    times = [0.0, *plan.times_s.tolist()] if len(plan.times_s) < len(plan.states) else (
        plan.times_s.tolist()
    )  # fmt: skip
    return {
        "t_s": times[::PLAN_EVERY][:count],
        "p_m": rows[:, P].tolist(),
        "theta_rad": rows[:, THETA].tolist(),
        "u_m_s": rows[:, U].tolist(),
    }


def _finite(value: Any) -> Any:
    """JSON has no inf and nan: null stands for both."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
