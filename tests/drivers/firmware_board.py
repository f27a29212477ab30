"""The virtual Arduino with the product's compiled firmware in it, in real time."""

from __future__ import annotations

import contextlib
import threading
import time

from drivers.devices import Arduino

from firmware_bridge.simulator.machine import CART, CLOCK_HZ, AvrMachine

QUANTUM_S = 0.002
COUNTS_PER_QUANTUM = 4  # the cart's encoder turns at 2000 counts/s


class FirmwareBoard(Arduino):
    """``machine`` may be handed from one plugging-in to the next: its EEPROM goes with it."""

    def __init__(self, machine: AvrMachine) -> None:
        super().__init__(self._from_host, self._on_dtr)
        self.machine = machine
        self._chip = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        machine.reset()
        self._thread.start()

    def press_reset(self) -> None:
        """The button beside the socket."""
        with self._chip:
            self.machine.reset()

    def unplugged(self) -> None:
        self._stop.set()

    def ended(self) -> None:
        """Wait for the chip to be free."""
        self._stop.set()
        self._thread.join()

    def _from_host(self, data: bytes) -> None:
        with self._chip:
            self.machine.write(data)

    def _on_dtr(self, level: bool) -> None:
        if level:  # through a capacitor to the reset pin
            self.press_reset()

    def _run(self) -> None:
        begin, base = time.monotonic(), self.machine.cycle
        while not self._stop.wait(QUANTUM_S):
            with self._chip:
                now = base + int((time.monotonic() - begin) * CLOCK_HZ)
                self.machine.move(CART, COUNTS_PER_QUANTUM, self.machine.cycle, now)
                self.machine.run_until(now)
                data = self.machine.read()
            if data:
                with contextlib.suppress(AttributeError):  # not plugged in yet
                    self.send(data)
