"""Recording without disturbing the control thread.

``put_*`` only append to a bounded queue (microseconds, never blocking when live); one thread turns
the queue into JSON and MCAP right after each tick, when the control thread sleeps; a second one
syncs the disk. A disk that fills or fails ends the recording, never the run: look at ``status()``.
"""

from __future__ import annotations

import atexit
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cartpole.errors import SessionError
from cartpole.messages import Severity
from cartpole.session.channels import Event, Truth
from cartpole.session.codec import Line, encode, encode_tick, named_lines, picture_line, raw_line
from cartpole.session.files import Files, open_file
from cartpole.session.frames import FORMAT, FlightRecorder, compress
from cartpole.session.packing import pack
from cartpole.session.recording import FrameLike, RecorderStatus
from cartpole.session.summary import SummaryBuilder

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.control.memory import CoreMemory
    from cartpole.messages import HomingResult, TickRecord, TickTiming
    from cartpole.vision.frame import Pixels

QUEUE = 8192  # items waiting, about ten seconds
QUEUE_FRAMES = 256  # pictures are large: they are dropped long before anything else
FLUSH_S = 0.1
SYNC_S = 0.5
WHOLE_PLAN_EVERY = 5
STATE_EVERY_S = 30.0  # so far apart are the places from which a replay can go on behind a gap
ROLL_SHARE = 4  # a recording that fills this part of the folder is ended, and another begun
GRACE_BYTES = 8 << 20  # for which a new file waits to begin with a state
FRAMES_A_ROUND = 20  # a fault's pictures go out in portions, so that ticks are not kept waiting

Vector4 = tuple[float, float, float, float]
Item = tuple[Callable[..., None], tuple[Any, ...]]  # what the recorder's thread does with what


class SessionWriter:
    """A recording. Safe to call from any thread; ``close`` is called at exit if nobody does.

    ``live=False`` (virtual time) waits for the writer instead of dropping. Raises SessionError only
    when the file cannot be created.
    """

    def __init__(
        self,
        path: Path,
        config: Config,
        provenance: Mapping[str, str] | None = None,
        *,
        attachments: Mapping[str, bytes] | None = None,
        live: bool = True,
        managed: bool = False,
        opener: Callable[[Path], IO[bytes]] = open_file,
    ) -> None:
        from cartpole.config.load import dump_yaml

        self._live, self._managed = live, managed
        self.config = config
        self._session = config.session
        self._provenance = dict(provenance or {})
        self._queue: deque[Item] = deque()
        self._pictures: deque[tuple[int, int, Pixels]] = deque()
        self._frames_seen = 0
        self._wake = threading.Event()
        self._closing = False
        self._dropped = 0
        self._bytes = 0
        self._error = ""
        self._moved = False  # told that the file is no longer where it was begun
        self._flight = FlightRecorder()
        self._known_faults: set[tuple[int, str]] = set()
        self._roll_at: int | None = None  # bytes of the file at which it would be continued
        self._asked_for_state = False  # whether somebody looks after states
        self._state_at = time.monotonic()
        self._states_put = self._states_taken = 0
        self._notices: deque[str] = deque(maxlen=100)
        self._plan_count = 0
        self._summary = self._fresh_summary()
        kept = {
            "config.json": config.model_dump_json(indent=1).encode(),
            "config.yaml": dump_yaml(config).encode(),
            **(attachments or {}),
        }
        told, origin = self._notices.append, self._provenance
        try:
            self._files = Files(
                path, self._session, kept, origin, managed=managed, told=told, opener=opener
            )
        except OSError as error:
            raise SessionError(f"cannot record to {path}: {error.strerror}") from None
        self._flushed_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._syncer = threading.Thread(target=self._sync, name="recorder-sync", daemon=True)
        self._thread.start()
        self._syncer.start()
        atexit.register(self.close)

    # ---- called by the control thread ----

    @property
    def path(self) -> Path:
        """The recording's first file."""
        return self._files.first

    @property
    def paths(self) -> list[Path]:
        """The first files of all recordings written."""
        return self._files.paths

    def put_start(self, homed: HomingResult | None) -> None:
        """What the controller was started with; call before anything else is put."""
        self._put(self._take_start, homed)

    def put_state(self, t_ns: int, state: CoreMemory) -> None:
        """What the controller remembers before the next tick that is put: a replay can begin there.
        Written down in the recorder's thread."""
        self._state_at = time.monotonic()
        self._states_put += 1
        self._put(self._take_state, t_ns, state)

    @property
    def wants_state(self) -> bool:
        """Whether a state should be put now: a new file waits for it, or the last one is long ago.

        Who asks promises to put one when it is true.
        """
        self._asked_for_state = True
        long_ago = self._live and time.monotonic() - self._state_at > STATE_EVERY_S
        return (self._roll_at is not None or long_ago) and not self._error

    def notices(self) -> list[str]:
        """What a user should be told since the last question: a line each."""
        found = []
        while self._notices:
            found.append(self._notices.popleft())
        return found

    def put_tick(
        self,
        record: TickRecord,
        truth: Vector4 | None = None,
        timing: TickTiming | None = None,
    ) -> None:
        """A tick, with a simulated rig's truth and the clock's figures where there are any."""
        self._put(self._take_tick, record, truth, timing)
        self._wake.set()

    def put_raw(self, t_ns: int, link: str, direction: str, data: bytes) -> None:
        """Bytes of a serial line; ``direction`` is ``in`` or ``out``."""
        self._put(self._take_raw, t_ns, str(link), direction, data)

    def put_frame(self, frame: FrameLike) -> None:
        """A picture; copied here, compressed later, kept or forgotten as the config says."""
        if self._session.frames == "none":
            return
        self._frames_seen += 1
        if self._session.frames == "all" and self._frames_seen % self._session.frame_every:
            return
        if len(self._pictures) >= QUEUE_FRAMES and not self._live:
            self._wait(self._pictures, QUEUE_FRAMES)
        if self._error or self._closing or len(self._pictures) >= QUEUE_FRAMES:
            self._dropped += 1
            return
        self._pictures.append((frame.t_ns, frame.sequence, frame.data.copy()))

    def put_event(self, t_ns: int, name: str, detail: str = "") -> None:
        """Something that belongs to no tick."""
        self._put(self._take_event, Event(t_ns, name, detail))

    def status(self) -> RecorderStatus:
        """How it goes; cheap enough for every tick."""
        going = not self._error and not self._closing
        return RecorderStatus(
            going, self._files.path, self._bytes, len(self._queue), self._dropped, self._error
        )

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what is queued, finish the file; a live one gives up after a while."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._thread.join(timeout_s if self._live else None)
        self._syncer.join(1.0)
        atexit.unregister(self.close)

    def __enter__(self) -> SessionWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, work: Callable[..., None], *arguments: Any) -> None:
        if len(self._queue) >= QUEUE and not self._live:
            self._wait(self._queue, QUEUE)
        if self._error or self._closing or len(self._queue) >= QUEUE:
            self._dropped += 1
            return
        self._queue.append((work, arguments))

    def _wait(self, queue: deque[Any], limit: int) -> None:
        while len(queue) >= limit and not self._error:
            self._wake.set()
            time.sleep(0.001)

    # ---- the recorder's own thread ----

    def _work(self) -> None:
        try:
            while self._queue or self._pictures or not self._closing:
                self._wake.wait(FLUSH_S)
                self._wake.clear()
                self._drain()
            self._write_fault_frames(most=1 << 30)
            self._files.finish(self._figures())
            self._bytes = self._files.bytes
        except OSError as error:
            self._fail(error.strerror or str(error))
        except Exception as error:  # a recording must never take the run down with it
            self._fail(f"{type(error).__name__}: {error}")
        self._files.close()

    def _drain(self) -> None:
        while self._queue or self._pictures:
            if self._queue:
                work, arguments = self._queue.popleft()
                work(*arguments)
            if self._pictures:
                self._take_frame(*self._pictures.popleft())
            self._flush_if_due()
        self._write_fault_frames(FRAMES_A_ROUND)
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        now = time.monotonic()
        if now - self._flushed_at < FLUSH_S:
            return
        self._files.flush()
        self._bytes = self._files.flushed
        self._flushed_at = now
        if self._roll_at is None and self._files.whole > self._session.max_file_mb << 20:
            self._roll_at = self._files.whole
        patient = (
            self._states_put > self._states_taken
            or self._files.whole < (self._roll_at or 0) + GRACE_BYTES
        )
        waits = self._asked_for_state and patient
        if self._roll_at is not None and not waits:
            self._next_file()

    def _take_start(self, homed: HomingResult | None) -> None:
        values = {}
        if homed is not None:
            values = {
                "cart_zero_counts": repr(float(homed.cart_zero_counts)),
                "pole_zero_counts": repr(float(homed.pole_zero_counts)),
                "travel_m": repr(float(homed.travel_m)),
                "gain": repr(float(homed.gain)),
            }
        self._files.keep("start", values)

    def _take_state(self, t_ns: int, state: CoreMemory) -> None:
        data = pack(state)
        self._states_taken += 1
        if self._roll_at is not None:
            share = (self._session.max_folder_mb << 20) // ROLL_SHARE
            self._next_file(another=self._managed and self._files.bytes > share)
        self._files.add([("/state", t_ns, data)], t_ns)

    def _take_tick(
        self, record: TickRecord, truth: Vector4 | None, timing: TickTiming | None
    ) -> None:
        now_ns = record.input.now_ns
        whole = record.plan is not None and self._plan_count % WHOLE_PLAN_EVERY == 0
        self._plan_count += record.plan is not None
        lines: list[Line] = []
        if truth is not None:
            lines.append(("/truth", now_ns, encode(Truth(now_ns, truth))))
        if timing is not None:
            lines.append(("/timing", now_ns, encode(timing)))
        lines += named_lines(record, truth)
        lines += encode_tick(record, whole)
        self._files.add_tick(record.index, lines, now_ns)
        self._summary.add(record, truth, timing)
        for fault in record.faults:
            key = (fault.t_ns, fault.name)
            if fault.severity >= Severity.BRAKE and key not in self._known_faults:
                self._known_faults.add(key)
                self._flight.fault(now_ns)

    def _take_raw(self, t_ns: int, link: str, direction: str, data: bytes) -> None:
        self._files.add([("/raw", t_ns, raw_line(t_ns, link, direction, data))], t_ns)

    def _take_event(self, event: Event) -> None:
        self._files.add([("/event", event.t_ns, encode(event))], event.t_ns)

    def _take_frame(self, t_ns: int, sequence: int, pixels: Pixels) -> None:
        data = compress(pixels)
        if self._session.frames == "all":
            self._write_frame(t_ns, sequence, data)
        else:
            self._flight.add(t_ns, sequence, data)

    def _write_frame(self, t_ns: int, sequence: int, data: bytes) -> None:
        line = ("/frame", t_ns, picture_line(t_ns, sequence, data, FORMAT))
        self._files.add([line], t_ns)

    def _write_fault_frames(self, most: int) -> None:
        for t_ns, sequence, data in self._flight.take(most):
            self._write_frame(t_ns, sequence, data)

    def _figures(self) -> str:
        return json.dumps(self._summary.result(str(self._files.first)), allow_nan=False)

    def _fresh_summary(self) -> SummaryBuilder:
        told = self._provenance
        return SummaryBuilder(self.config, told.get("git", ""), told.get("config_sha256", ""))

    def _next_file(self, another: bool = False) -> None:
        """Go on in another file, or in ``another`` recording: this one may make room some day."""
        self._roll_at = None
        figures = self._figures()
        if another:
            self._summary = self._fresh_summary()
        self._files.follow(figures, another=another)

    def _fail(self, why: str) -> None:
        self._end_early(why)
        self._queue.clear()
        self._pictures.clear()
        self._files.truncate()

    def _end_early(self, why: str) -> None:
        if not self._error:
            self._error = why
            self._notices.append(f"{self._files.path.name} ended early: {why}")

    def _sync(self) -> None:
        while not self._closing and not self._error:
            time.sleep(SYNC_S)
            try:
                self._files.sync()
                self._look_for_file()
            except ValueError:  # closed just now
                continue
            except OSError as error:
                self._end_early(error.strerror or str(error))

    def _look_for_file(self) -> None:
        path = self._files.path
        if not self._files.is_there(path) and path == self._files.path and not self._moved:
            self._moved = True
            self._notices.append(f"{path} is written, but not there: moved, or its disk unmounted?")
