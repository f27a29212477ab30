"""The bridge board as it is: its compiled firmware in a simulated chip, wired to the plant.

The same pure interface as the other emulated boards: bytes in and out, time as an argument. Encoder
edges and switches follow the plant, the drive's pins (enable, direction, PWM) command it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cartpole.messages import NANOSECONDS
from cartpole.sim.boards import RigPlant
from firmware_bridge.protocol import CEILING_DRIVE
from firmware_bridge.sabertooth_text import SabertoothText
from firmware_bridge.simulator.machine import (
    CART,
    CLOCK_HZ,
    PIN_ESTOP,
    PIN_LIMIT_HIGH,
    PIN_LIMIT_LOW,
    POLE,
    AvrMachine,
    Output,
    OutputKind,
)

if TYPE_CHECKING:
    from cartpole.config.schema import Motor

QUANTUM_NS = 1_000_000  # plant and chip exchange edges and commands this often
CRYSTAL_PPM = 40.0  # the board's clock against the host's
UNITS_PER_DUTY = 8  # PWM of 8 bits for the driver's 11


class AvrBoard:
    """See ``cartpole.sim.boards.Board``; ``motor`` is the true one behind the pins.

    Needs avr-gcc and simavr: DeviceNotFound without them.
    """

    def __init__(
        self, motor: Motor, plant: RigPlant, *, t_ns: int = 0, crystal_ppm: float = CRYSTAL_PPM
    ) -> None:
        self._plant = plant
        self._driver = SabertoothText.from_config(motor)
        self._start_ns = self._now_ns = t_ns
        self._hz = CLOCK_HZ * (1.0 + crystal_ppm * 1e-6)
        self._origin = plant.counts(t_ns)
        self._turned = [0, 0]
        self._switches = (False, False)
        self._enabled = False
        self._backward = False
        self._duty = 0
        self._asked = 0.0
        self.machine = AvrMachine()

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        """See ``Board``."""
        while self._now_ns < t_ns:
            self._step(min(self._now_ns + QUANTUM_NS, t_ns))
        if received:
            self.machine.write(received)
        return self.machine.read()

    def next_ns(self) -> int:
        """See ``Board``: it never sleeps for long."""
        return self._now_ns + 2 * QUANTUM_NS

    def press_estop(self, pressed: bool) -> None:
        """The red button."""
        self.machine.pin(PIN_ESTOP, pressed)

    def close(self) -> None:
        """Frees the chip."""
        self.machine.close()

    def _cycle(self, t_ns: int) -> int:
        return round((t_ns - self._start_ns) * self._hz / NANOSECONDS)

    def _step(self, t_ns: int) -> None:
        """Bring chip and plant to ``t_ns``; the plant leads, for its edges must be known."""
        begin, end = self._cycle(self._now_ns), self._cycle(t_ns)
        counts = self._plant.counts(t_ns)
        for axis in (CART, POLE):
            turned = counts[axis] - self._origin[axis]
            self.machine.move(axis, turned - self._turned[axis], begin, end)
            self._turned[axis] = turned
        switches = self._plant.limits(t_ns)
        if switches != self._switches:
            self._switches = switches
            self.machine.pin(PIN_LIMIT_LOW, switches[0])
            self.machine.pin(PIN_LIMIT_HIGH, switches[1])
        self.machine.run_until(end)
        for output in self.machine.outputs():
            self._obey(output)
        self._now_ns = t_ns

    def _obey(self, output: Output) -> None:
        """The motor driver's side of the pins."""
        if output.kind is OutputKind.ENABLE:
            self._enabled = bool(output.value)
        elif output.kind is OutputKind.DIRECTION:
            self._backward = bool(output.value)
        elif output.kind is OutputKind.PWM:
            self._duty = output.value
        elif output.kind is OutputKind.RESET:
            self._enabled = False  # the pin floats, its resistor pulls it down
        else:
            return
        units = min(self._duty * UNITS_PER_DUTY, CEILING_DRIVE) if self._enabled else 0
        velocity = self._driver.velocity_m_s(-units if self._backward else units)
        if velocity != self._asked:
            self._asked = velocity
            at_ns = self._start_ns + round(output.cycle / self._hz * NANOSECONDS)
            self._plant.command(at_ns, velocity)
