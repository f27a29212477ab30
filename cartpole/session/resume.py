"""The controller as it was when a recording began: fresh, or with what it remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cartpole.config.load import changed_keys, disarmed_fields, live_fields
from cartpole.errors import SessionError
from cartpole.rules.control import settings_of

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.control.memory import CoreMemory
    from cartpole.messages import DetectionHint, HomingResult, Settings, TickInput, TickRecord
    from cartpole.session.reader import Session

MADE_BY = "made_by"  # in the provenance of what another command than `run` or `simulate` recorded
# What arithmetic on a state that no controller has may end in.
FAILURES = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


class Core(Protocol):
    """What is replayed."""

    def tick(self, tick: TickInput) -> TickRecord:
        """One tick."""
        ...

    def hint(self, t_ns: int) -> DetectionHint | None:
        """Where the tracker should look."""
        ...

    def restore(self, state: CoreMemory) -> None:
        """Go on from a state."""
        ...

    def adopt(self, settings: Settings) -> None:
        """Take over settings that may change while running, whatever the mode."""
        ...


CoreFactory = Callable[["Config", "HomingResult | None"], Core]


def controller(config: Config, homed: HomingResult | None) -> Core:
    """The controller itself."""
    from cartpole.control.core import ControlCore

    return ControlCore(settings_of(config), homed=homed)


def begin(session: Session, config: Config, make_core: CoreFactory) -> tuple[Core, int]:
    """A controller ready for the recording's first tick, and that tick's index.

    ``config`` may differ from the recorded settings. In a recording that was begun in mid-run only
    in what may change while running: the state is one of the recorded settings. SessionError
    otherwise, for a continuation, for a recording of something else than a run, and for a state
    that cannot be.
    """
    made_by = session.provenance.get(MADE_BY)
    if made_by is not None:
        raise SessionError(
            f"{session.path.name} is a recording of `{made_by}`, not of a run: fit it again with "
            f"`cartpole {made_by} --session {session.path.name}`"
        )
    if session.first_number != 1:
        first = session.metadata["part"].get("first", "its first file")
        raise SessionError(f"{session.path.name} continues a recording: replay {first} instead")
    state = session.state
    if state is None:
        return make_core(config, session.homed), 0
    frozen = changed_keys(session.config, config) - live_fields() - disarmed_fields()
    if frozen:
        raise SessionError(
            f"{session.path} was begun in mid-run: {', '.join(sorted(frozen))} cannot be tried on "
            "it, only what may change while running"
        )
    core = make_core(session.config, session.homed)
    try:
        core.restore(state)
        if config != session.config:
            core.adopt(settings_of(config))
    except FAILURES as error:
        raise SessionError(f"{session.path}: its state is no controller's ({error})") from None
    return core, state.index + 1
