"""A recorded session as arrays for the fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from calibration.recording import Recording, assemble, file_sha256
from calibration.sight import Pictures
from calibration.tables import load_table, table_recording
from cartpole.errors import SessionError
from cartpole.messages import Detection, DetectionStatus, EncoderSample

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.session.columns import Layout

MCAP_MAGIC = b"\x89MCAP0\r\n"


def load_recording(
    path: Path, config: Config, layout: Layout | None = None, delimiter: str | None = None
) -> tuple[Recording, Config]:
    """A table or a session file, and the settings its numbers refer to.

    ``layout`` and ``delimiter`` say how a table is meant; None: by its columns.

    Raises SessionError on anything else.
    """
    try:
        with path.open("rb") as file:
            is_session = file.read(len(MCAP_MAGIC)) == MCAP_MAGIC
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {error.strerror}") from None
    if not is_session:
        return load_table(path, layout, delimiter), config
    return _load_session(path)


def _load_session(path: Path) -> tuple[Recording, Config]:
    from cartpole.session.columns import parse_mapping
    from cartpole.session.exchange import IMPORTED_LAYOUT, SOURCE
    from cartpole.session.reader import Session

    session = Session(path)
    table = session.contents.attachments.get(SOURCE)
    if table is not None:  # imported: its own numbers say more than counts made of them
        layout = session.provenance.get(IMPORTED_LAYOUT)
        meant = parse_mapping(layout) if layout else None
        whole = table_recording(table, str(path), meant)
        return replace(whole, sha256=file_sha256(path)), session.config
    samples: list[EncoderSample] = []
    detections: list[Detection] = []
    commands: list[tuple[int, float]] = []
    for tick in session.ticks():
        for one in tick.input.measurements:
            if isinstance(one, EncoderSample):
                samples.append(one)
            elif isinstance(one, Detection) and one.status is DetectionStatus.OK:
                detections.append(one)
        commands.append((tick.command.t_ns, tick.command.velocity_m_s))
    homed = session.homed
    zero = (0.0, 0.0)
    if homed is not None:
        zero = (homed.cart_zero_counts, homed.pole_zero_counts)
    elif samples:
        zero = (0.0, float(samples[0].pole_counts))  # homing begins with the pole hanging still
    recording = assemble(
        samples, commands, detections, session.config, path.name, zero, file_sha256(path)
    )
    frames = tuple(session.frames())
    if frames and samples and recording.sight is not None:
        made = Pictures(frames, session.config.camera, samples[0].t_ns)
        recording = replace(recording, pictures=made)
    return recording, session.config
