"""What a recorder is given, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cartpole.vision.frame import Pixels


class FrameLike(Protocol):
    """What the recorder needs of a frame."""

    @property
    def data(self) -> Pixels: ...
    @property
    def t_ns(self) -> int: ...
    @property
    def sequence(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """How the recording goes; ``error`` is empty while it goes well."""

    recording: bool
    path: Path
    bytes: int
    queued: int
    dropped: int
    error: str = ""
