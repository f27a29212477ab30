"""The simulated rig under a guide, in virtual time: the bytes, counts and pictures of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from calibration.bench import Keep, Progress, quiet
from calibration.guide import Guide, led
from calibration.run import LIGHT, PARTS, WITH_PICTURES
from cartpole.config.load import with_values
from cartpole.messages import NANOSECONDS, Command, Measurement
from cartpole.rules.sim import rig_rules
from cartpole.sim.plant import Plant
from cartpole.sim.rig import VirtualRig
from cartpole.sim.shutter import State

if TYPE_CHECKING:
    from cartpole.config.schema import Config
    from cartpole.vision.frame import Frame

START_NS = NANOSECONDS
BETWEEN_PARTS_NS = NANOSECONDS // 5
MIDDLE_M = 0.02  # a hand puts the cart about so near to the middle


class SimulatedBench:
    """See ``calibration.bench.Bench``; without a ``plant`` that was there before, the pole hangs
    still at ``start`` or about the middle."""

    def __init__(
        self,
        config: Config,
        seed: int,
        *,
        pictures: bool = False,
        plant: Plant | None = None,
        start: State | None = None,
    ) -> None:
        changes: dict[str, object] = {"camera.source": "sim" if pictures else "none"}
        if pictures:
            changes["sim.pictures"] = "rendered"
        self._frames: list[Frame] = []
        place = float(np.random.default_rng(seed).uniform(-MIDDLE_M, MIDDLE_M))
        self._now_ns = START_NS if plant is None else plant.t_ns + BETWEEN_PARTS_NS
        self._rig = VirtualRig(
            rig_rules(with_values(config, changes)),
            seed,
            start=start or (place, 0.0, 0.0, 0.0),
            t_ns=self._now_ns,
            on_frame=self._frames.append,
            plant=plant,
        )
        self._period_ns = round(config.controller.period_s * NANOSECONDS)

    @property
    def plant(self) -> Plant:
        """Cart and pole."""
        return self._rig.plant

    def wait(self) -> tuple[int, tuple[Measurement, ...]]:
        """See ``Bench``."""
        self._now_ns += self._period_ns
        return self._now_ns, self._rig.advance(self._now_ns)

    def send(self, command: Command) -> None:
        """See ``Bench``."""
        self._rig.send(self._now_ns, command)

    def frames(self) -> list[Frame]:
        """See ``Bench``."""
        taken = self._frames[:]
        self._frames.clear()
        return taken


def pinned(config: Config) -> Config:
    """The same rig with its truth written out, so that new beliefs do not change it."""
    pole, motor, encoder, camera = config.pole, config.motor, config.encoder, config.camera
    beliefs = {
        "length_m": pole.length_m,
        "damping_1_s": pole.damping_1_s,
        "coulomb_rad_s2": pole.coulomb_rad_s2,
        "upright_offset_rad": 0.0,
        "tau_s": motor.tau_s,
        "delay_s": motor.delay_s,
        "acceleration_m_s2": motor.acceleration_m_s2,
        "counts_per_m_s": motor.counts_per_m_s,
        "dead_band_counts": motor.dead_band_counts,
        "motor_sign": motor.sign,
        "cart_counts_per_m": encoder.cart_counts_per_m,
        "cart_sign": encoder.cart_sign,
        "pole_counts_per_turn": encoder.pole_counts_per_turn,
        "pole_sign": encoder.pole_sign,
        "track_length_m": config.rig.track_length_m,
        "lens_k1": camera.lens_k1,
        "homography": camera.homography,
        "readout_s": camera.readout_s,
        "camera_latency_s": camera.latency_s,
    }
    values = {f"sim.{k}": v for k, v in beliefs.items() if getattr(config.sim, k) is None}
    return with_values(config, values)


class SimulatedLead:
    """See ``calibration.run.Lead``: one rig, which stays as each part leaves it.

    It is the rig of the first settings it is led with; ``start`` is where it stands at first.
    ``keep(config, part)`` opens the recording of a part.
    """

    def __init__(
        self,
        seed: int,
        progress: Progress = quiet,
        keep: Keep | None = None,
        start: State | None = None,
        bench: type[SimulatedBench] = SimulatedBench,
    ) -> None:
        self._seed, self._progress, self._keep, self._start = seed, progress, keep, start
        self._bench = bench
        self.plant: Plant | None = None

    @contextmanager
    def __call__(self, config: Config, part: str) -> Iterator[Guide]:
        """Lead a part."""
        seed = self._seed + (*PARTS, LIGHT).index(part)
        pictures = part in WITH_PICTURES
        bench = self._bench(config, seed, pictures=pictures, plant=self.plant, start=self._start)
        self.plant = bench.plant
        with led(config, bench, part, self._progress, self._keep) as guide:
            yield guide
