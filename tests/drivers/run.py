"""Real Linux drivers (gspca_ov534, cdc-acm) under the product's own code, without the hardware.

    PYTHONPATH=tests python -m drivers.run [--job FILE] [--verbose]

Boots a QEMU guest (see ``guest``), plugs in a PS Eye and an Arduino written in Python (see
``devices``), runs ``guest_job.py`` inside and obeys what it asks of the cables. Exits 0 when every
check is good, 1 when one fails; where the machine cannot run it, says why and exits 0. Nothing here
says anything about speed or optics.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.devices import Arduino, PsEye
from drivers.guest import CannotRun, boot, build_initrd, fetch_kernel
from drivers.usb_redir import UsbPort

if TYPE_CHECKING:
    from firmware_bridge.simulator.machine import AvrMachine

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
LIMIT_S = 300.0


class Rig:
    """The cables, as the guest's job orders them."""

    def __init__(self, folder: Path) -> None:
        self.eye_port, self.board_port = (
            UsbPort(folder / "eye.sock"),
            UsbPort(folder / "board.sock"),
        )
        self.eye, self.board = PsEye(), self._new_board()
        self._chip: AvrMachine | None = None
        self.results: list[tuple[str, bool, str]] = []

    def _new_board(self) -> Arduino:
        """A board that echoes lines and says so when the host's DTR resets it."""
        pending = bytearray()

        def on_bytes(data: bytes) -> None:
            pending.extend(data)
            while b"\n" in pending:
                line, _, rest = bytes(pending).partition(b"\n")
                pending[:] = rest
                board.send(b"echo " + line + b"\n")

        board = Arduino(on_bytes)
        return board

    def start(self) -> None:
        self.eye_port.plug(self.eye)
        self.board_port.plug(self.board)

    def obey(self, order: str) -> None:
        if order == "unplug eye":
            self.eye_port.unplug()
        elif order == "plug eye":
            self.eye = PsEye()
            self.eye_port.plug(self.eye)
        elif order == "unplug board":
            self.board_port.unplug()
        elif order == "plug board":
            self.board = self._new_board()
            self.board_port.plug(self.board)
        elif order in ("plug firmware", "unplug firmware", "reset firmware"):
            self._obey_firmware(order)
        elif order == "registers":
            eye = self.eye
            self.note("rate reaches the sensor", eye.rate_hz == 50.0, f"{eye.rate_hz:g} frames/s")
            self.note("exposure reaches the sensor", eye.exposure == 2 * 77, f"{eye.exposure}")
            self.note("gain reaches the sensor", eye.sensor[0x00] == 11, f"{eye.sensor[0x00]}")
        elif order == "board lines":
            board = self.board
            found = (board.baud, board.data_bits, board.parity)
            self.note("115200 baud 8E1 reaches the board", found == (115200, 8, 2), str(found))
            self.note("opening raises DTR", board.dtr)
            board.on_dtr = lambda level: board.send(b"reset\n") if level else None

    def _obey_firmware(self, order: str) -> None:
        """The Arduino with the product's own firmware in it, in a simulated chip."""
        from drivers.firmware_board import FirmwareBoard

        from firmware_bridge.simulator.machine import AvrMachine

        if order == "reset firmware":
            assert isinstance(self.board, FirmwareBoard)
            self.board.press_reset()
            return
        self.board_port.unplug()
        if isinstance(self.board, FirmwareBoard):
            self.board.ended()
        if order == "plug firmware":
            self._chip = self._chip or AvrMachine()
            self.board = FirmwareBoard(self._chip)
            self.board_port.plug(self.board)

    def note(self, name: str, good: bool, detail: str = "") -> None:
        self.results.append((name, good, detail))
        print(f"{'ok    ' if good else 'FAILED'} {name}  {detail}", flush=True)


def run(job: Path, verbose: bool) -> list[tuple[str, bool, str]]:
    """Results of the job, and of what the host saw meanwhile. Raises ``CannotRun``."""
    kernel = fetch_kernel(PROJECT / "build" / "drivers")
    # Below the project and not in /tmp: the guest mounts file systems of its own over some places.
    with tempfile.TemporaryDirectory(dir=PROJECT / "build" / "drivers") as name:
        folder = Path(name)
        command = f"PYTHONPATH={HERE.parent}:{PROJECT} {sys.executable} {job}"
        initrd = build_initrd(kernel, folder, command, PROJECT)
        rig = Rig(folder)
        guest = boot(kernel, initrd, [rig.eye_port.path, rig.board_port.path])
        threading.Thread(target=rig.start, daemon=True).start()
        timer = threading.Timer(LIMIT_S, guest.kill)
        timer.start()
        try:
            ended = follow(guest.stdout, rig, verbose)
        finally:
            timer.cancel()
            guest.kill()
            guest.wait()
        if not ended:
            rig.note("the job ends", False, f"guest gone or {LIMIT_S:g} s over")
        return rig.results


def follow(console: object, rig: Rig, verbose: bool) -> bool:
    """Read the guest's console to its end; whether the job came to its own end."""
    ended = False
    for line in console:  # type: ignore[attr-defined]
        text = line.strip()
        if text.startswith("HOST "):
            rig.obey(text.removeprefix("HOST "))
        elif text.startswith("CHECK "):
            words = text.removeprefix("CHECK ")
            mark = " ok " if " ok " in words + " " else " FAILED "
            name, _, detail = (words + " ").partition(mark)
            rig.note(name, mark == " ok ", detail.strip())
        elif text.startswith("JOB ENDED"):
            ended = True
        elif verbose:
            print("guest:", text, flush=True)
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--job", type=Path, default=HERE / "guest_job.py")
    parser.add_argument("--verbose", action="store_true", help="show the guest's console")
    options = parser.parse_args()
    begin_s = time.monotonic()
    try:
        results = run(options.job.resolve(), options.verbose)
    except CannotRun as reason:
        print(f"skipped: {reason}")
        return 0
    failed = sum(not good for _, good, _ in results)
    print(f"{len(results) - failed} of {len(results)} good, {time.monotonic() - begin_s:.0f} s")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
