"""What a rig showed and was told since a part of its calibration began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from calibration.recording import Recording, assemble, file_sha256
from calibration.sight import KeptPicture, Picture, Pictures
from cartpole.messages import (
    Command,
    Detection,
    DetectionStatus,
    EncoderSample,
    HomingResult,
    Measurement,
    Mode,
    TickInput,
    TickRecord,
)

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.config.schema.rig import Camera
    from cartpole.session.writer import SessionWriter
    from cartpole.vision.frame import Frame

RATE_SAMPLES = 5
Zero = tuple[float, float]  # counts of cart and pole that stand for p = 0 and hanging


class Notes:
    """Kept in memory, and written where that is wanted."""

    def __init__(self, camera: Camera, open_writer: Callable[[], SessionWriter] | None) -> None:
        self.samples: list[EncoderSample] = []
        self._before: list[EncoderSample] = []  # the last ones before ``begin``
        self._commands: list[tuple[int, float]] = []
        self._detections: list[Detection] = []
        self._pictures: list[Picture] = []
        self._arrived: tuple[Measurement, ...] = ()
        self._camera, self._open_writer = camera, open_writer
        self._writer: SessionWriter | None = None
        self._named, self._ticks = "", 0

    @property
    def recent(self) -> list[EncoderSample]:
        """The last few samples, those before ``begin`` among them."""
        return [*self._before, *self.samples[-RATE_SAMPLES:]][-RATE_SAMPLES:]

    @property
    def last_told_ns(self) -> int:
        """When the last command was given; 0 if none was."""
        return self._commands[-1][0] if self._commands else 0

    def begin(self, zero: Zero) -> None:
        """Forget what was before; from now on all is kept."""
        self._before = self.samples[-RATE_SAMPLES:]
        self.samples, self._commands, self._detections, self._pictures = [], [], [], []
        self._ticks = 0
        if self._open_writer is not None:
            self._writer = self._open_writer()
            self._writer.put_start(HomingResult(*zero))

    def take(self, arrived: tuple[Measurement, ...], frames: Sequence[Frame]) -> None:
        """What was measured since the last tick."""
        self._arrived = arrived
        for one in arrived:
            if isinstance(one, EncoderSample):
                self.samples.append(one)
            elif isinstance(one, Detection) and one.status is DetectionStatus.OK:
                self._detections.append(one)
        for frame in frames:
            self._pictures.append(KeptPicture(frame.t_ns, frame.sequence, frame.data))
            if self._writer is not None:
                self._writer.put_frame(frame)

    def tell(self, command: Command, name: str) -> None:
        """A tick's command, of the motion ``name``; a guide is no estimator and has no plan."""
        self._commands.append((command.t_ns, command.velocity_m_s))
        if self._writer is None:
            return
        record = TickRecord(
            index=self._ticks,
            input=TickInput(command.t_ns, self._arrived),
            mode=Mode.HOMING if command.enable else Mode.DISARMED,
            armed=command.enable,
            homed=False,
            estimate=None,
            plan=None,
            command=command,
            events=(name,) if name and name != self._named else (),
        )
        self._named = name
        self._ticks += 1
        self._writer.put_tick(record)

    @property
    def is_written(self) -> bool:
        """Whether a file is open."""
        return self._writer is not None

    def recording(self, config: Config, zero: Zero) -> Recording:
        """What was kept since ``begin``, by these settings; named after its file."""
        name, digest = "motion", ""
        if self._writer is not None:
            name, digest = self._writer.path.name, file_sha256(self._writer.path)
        made = assemble(self.samples, self._commands, self._detections, config, name, zero, digest)
        if not self._pictures:
            return made
        origin_ns = self.samples[0].t_ns
        return replace(made, pictures=Pictures(tuple(self._pictures), self._camera, origin_ns))

    def flush(self) -> None:
        """Everything written so far is in the file, whose end is written too."""
        if self._writer is not None:
            self._writer.close()

    def close(self) -> None:
        """Write no more."""
        self.flush()
        self._writer = None
