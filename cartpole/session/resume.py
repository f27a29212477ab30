"""The controller as it was when a recording began: fresh, or with what it remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from cartpole.config.load import changed_keys, disarmed_fields, live_fields
from cartpole.errors import SessionError
from cartpole.rules.control import config_of, settings_of
from cartpole.session.code import refuse_code

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.control.memory import CoreMemory
    from cartpole.messages import DetectionHint, HomingResult, Settings, TickInput, TickRecord
    from cartpole.session.reader import Session
    from cartpole.session.recorded import RecordedTick

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


def remembering(core: Core) -> CoreMemory:
    """What the controller remembers after a tick, as a recording keeps it."""
    from cartpole.control.core import ControlCore

    assert isinstance(core, ControlCore)
    core.after_tick()
    return core.state()


class Resumption:
    """Enters a recording: at its beginning with a fresh controller, elsewhere with what the
    controller remembered there.

    ``config`` may differ from the recorded settings; where a state is restored, only in what may
    change while running: the state is one of the recorded settings. ``allowed`` names the code that
    the user named himself.
    """

    def __init__(
        self,
        session: Session,
        config: Config,
        make_core: CoreFactory = controller,
        allowed: dict[str, str] | None = None,
    ) -> None:
        made_by = session.provenance.get(MADE_BY)
        if made_by is not None:
            raise SessionError(
                f"{session.path.name} is a recording of `{made_by}`, not of a run: fit it again "
                f"with `cartpole {made_by} --session {session.path.name}`"
            )
        self.allowed = {} if allowed is None else allowed
        refuse_code(config, self.allowed, str(session.path))
        self._session, self._config, self._make_core = session, config, make_core

    def enter(self, tick: RecordedTick, in_force: Settings | None = None) -> Core | None:
        """A controller ready for ``tick``; None if what it remembered before is unknown.

        ``in_force`` are the settings that were taken over on the way, if any.

        SessionError for settings that cannot be tried there, and for a state that cannot be.
        """
        session, config = self._session, self._config
        state = session.state_before(tick)
        if state is None:
            # A continuation never begins a run, whatever its ticks call themselves.
            begins = tick.line.index == 0 and session.first_number == 1
            return self._make_core(config, session.homed) if begins else None
        frozen = changed_keys(session.config, config) - live_fields() - disarmed_fields()
        if frozen:
            raise SessionError(
                f"{session.path} is entered in mid-run: {', '.join(sorted(frozen))} cannot be "
                "tried on it, only what may change while running"
            )
        refuse_code(session.config, self.allowed, str(session.path))
        core = self._make_core(session.config, session.homed)
        try:
            core.restore(state)
            if in_force is not None and config == session.config:
                refuse_code(config_of(in_force), self.allowed, str(session.path))
                core.adopt(in_force)
            elif config != session.config:
                core.adopt(settings_of(config))
        except FAILURES as error:
            raise SessionError(f"{session.path}: its state is no controller's ({error})") from None
        return core
