"""Which fits a command asks for, in the right order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from calibration.recording import Recording, load_csv
from calibration.result import CalibrationResult
from cartpole.errors import UsageError

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def calibrate_recording(
    what: str, path: Path, config: Config
) -> tuple[list[CalibrationResult], str]:
    """Fit from a file; returns the results and what to call their source."""
    recording = load_recording(path, config)
    return [_fit(what, recording, config)], f"{recording.name} sha256 {recording.sha256[:16]}"


def load_recording(path: Path, config: Config) -> Recording:
    """A CSV or a session file."""
    return load_csv(path)


def calibrate_simulated(
    what: str, config: Config, seed: int
) -> tuple[list[CalibrationResult], str]:
    """Move the simulated rig and fit."""
    raise UsageError("not yet")


def _fit(what: str, recording: Recording, config: Config) -> CalibrationResult:
    if what == "pole":
        from calibration.pole import calibrate_pole

        return calibrate_pole(recording)
    raise UsageError(f"calibrate {what} needs a recording of the rig")
