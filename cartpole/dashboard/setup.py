"""What the page is told at its start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cartpole.config.schema import Config


@dataclass(frozen=True, slots=True)
class PageSetup:
    """What the page is told at its start; everything else it asks the control socket."""

    socket: str
    host: str
    port: int
    commands: bool
    token: str
    rig: str
    position_limit_m: float
    velocity_limit_m_s: float
    track_m: float = 1.0
    pole_m: float = 0.5
    parent: int = 0  # ends with this process; 0: with its own

    @property
    def url(self) -> str:
        """The page's address, with the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/?token={self.token}"


def page_setup(config: Config, parent: int = 0) -> PageSetup:
    """From the settings, with a fresh token."""
    return PageSetup(
        socket=config.service.socket,
        host=config.dashboard.host,
        port=config.dashboard.port,
        commands=config.dashboard.commands,
        token=secrets.token_urlsafe(16),
        rig=config.rig.name,
        position_limit_m=config.rig.position_limit_m,
        velocity_limit_m_s=config.rig.velocity_limit_m_s,
        track_m=config.rig.track_length_m,
        pole_m=config.pole.length_m,
        parent=parent,
    )
