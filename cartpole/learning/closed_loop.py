"""What settings are worth: flights of the learned rig, and the gate before anything is written.

The rig that is flown is the learned one, disturbances included; settings are only what the
controller believes and wants. The same seeds for both, so that a difference is one of the settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cartpole.config.load import with_values
from cartpole.learning.motion import Model
from cartpole.learning.residual import truth_settings
from cartpole.learning.sysid import Progress
from cartpole.messages import FloatArray, Severity
from cartpole.sim.run import QUIET_S, VirtualRun

if TYPE_CHECKING:
    from cartpole.config.schema import Config

# One unit of the index is this much of the pole's angle, the cart's place, the command's rate.
ANGLE_RAD, PLACE_M, RATE_M_S2 = 0.01, 0.01, 2.0
UP_S = 2.0  # so long a swing-up costs one unit, too
FLIGHT_S = 6.5
PATIENT_S = 9.5  # without the learner a catch may take another swing
HOLD_S = 3.0  # of its end in which the index is taken
FALLEN_RAD = 0.3
LOST = 1e6  # index of a flight that does not end upright
WORSE = 1.02  # settings may be worse by this share where they are truer
SURE = 1.7  # errors of a mean by which a difference must stay on its side: one in twenty by chance
CHANCE = 0.03  # of the index that chance may hide beyond what truer settings are allowed
HOPELESS = 3.0  # errors beyond which no further flights are asked
# Settings that the learner in flight corrects within seconds: their worth shows without it.
CORRECTED = ("pole.", "motor.")
LOOK = 4  # flights after which it is asked


def believed(config: Config) -> Model:
    """The settings as a model."""
    pole, motor = config.pole, config.motor
    return Model(
        length_m=pole.length_m,
        damping_1_s=pole.damping_1_s,
        coulomb_rad_s2=pole.coulomb_rad_s2,
        tau_s=motor.tau_s,
        delay_s=motor.delay_s,
        acceleration_m_s2=motor.acceleration_m_s2,
        cart_noise=config.estimator.cart_noise_m_s2,
        pole_noise=config.estimator.pole_noise_rad_s,
    )


def truth(config: Config, model: Model, pole_noise_sigma: float | None = None) -> Config:
    """The settings with a simulated rig that moves as the model does."""
    values: dict[str, Any] = {
        "sim.length_m": model.length_m,
        "sim.damping_1_s": model.damping_1_s,
        "sim.coulomb_rad_s2": model.coulomb_rad_s2,
        "sim.tau_s": model.tau_s,
        "sim.delay_s": model.delay_s,
        "sim.counts_per_m_s": config.motor.counts_per_m_s / model.gain,
        "sim.cart_disturbance": model.cart_noise,
        "sim.pole_disturbance": model.pole_noise if pole_noise_sigma is None else pole_noise_sigma,
        "sim.homed": True,
        "sim.pictures": "measured",
    }
    return with_values(config, values | truth_settings(model))


@dataclass(frozen=True, slots=True)
class Flown:
    """A flight: its index, when it was up [s], angle (n,) and place (n,) over time (n,) [s]."""

    index: float
    up_s: float
    t_s: tuple[float, ...]
    angle_rad: tuple[float, ...]
    place_m: tuple[float, ...]


def fly(
    config: Config,
    seed: int,
    seconds: float = FLIGHT_S,
    hold_s: float = HOLD_S,
    start: tuple[float, float, float, float] | None = None,
) -> Flown:
    """Swing up and hold on the rig of ``config.sim``, or hold only if it starts upright.

    The index is taken in the last ``hold_s``.
    """
    period = config.controller.period_s
    run = VirtualRun(config, seed, start=start)
    first = round(QUIET_S / period)
    total = first + round(seconds / period)
    angles, places, commands = [], [], []
    for index, tick in enumerate(run.ticks()):
        if index >= total:
            break
        angles.append(math.remainder(tick.truth[2] - math.pi, 2.0 * math.pi))
        places.append(tick.truth[0] - config.controller.target_m)
        commands.append(tick.record.command.velocity_m_s)
        if any(fault.severity >= Severity.BRAKE for fault in tick.record.faults):
            break
    angle, place = np.array(angles[first:]), np.array(places[first:])
    command = np.array(commands[first:])
    hold = round(hold_s / period)
    time = period * np.arange(len(angle))
    whole = len(angles) >= total
    down = np.flatnonzero(np.abs(angle) > 0.1)
    up_s = float(time[down[-1]]) if len(down) else 0.0
    if not whole or np.abs(angle[-hold:]).max() > FALLEN_RAD:
        value, up_s = LOST, math.inf
    else:
        rate = np.diff(command[-hold:]) / period
        value = (
            float(np.mean(angle[-hold:] ** 2)) / ANGLE_RAD**2
            + float(np.mean(place[-hold:] ** 2)) / PLACE_M**2
            + float(np.mean(rate**2)) / RATE_M_S2**2
            + up_s / UP_S
        )
    return Flown(value, up_s, tuple(time), tuple(angle), tuple(place))


def indices(config: Config, seeds: Sequence[int]) -> FloatArray:
    """Index of each flight (n,)."""
    seconds = FLIGHT_S if config.estimator.learn else PATIENT_S
    return np.array([fly(config, seed, seconds).index for seed in seeds])


@dataclass(frozen=True, slots=True)
class Paired:
    """Flights by two settings over the same disturbances: means, and their difference's error.

    Flights that end upright by both are compared; ``fell`` are those by the new settings alone that
    do not.
    """

    before: float
    after: float
    error: float
    fell: int

    def no_worse(self, most: float) -> bool:
        """Whether the new settings cost at most ``most`` of the old, and that is no chance."""
        more, allowed = self.after - self.before, (most - 1.0) * self.before
        chance = 0.0 if most < 1.0 else allowed + CHANCE * self.before
        return self.fell == 0 and more <= allowed and more + SURE * self.error <= chance

    def worse(self, most: float) -> bool:
        """Whether they cost more than that, and further flights would hardly show otherwise."""
        more, allowed = self.after - self.before, (most - 1.0) * self.before
        return self.fell > 0 or more - HOPELESS * self.error > allowed


def paired(before: FloatArray, after: FloatArray) -> Paired:
    """Compare indices (n,) of the same flights by two settings."""
    both = (before < LOST) & (after < LOST)
    lost = after >= LOST
    if not both.any():  # settings that never flew are worse than any that do
        flew = before[before < LOST]
        old = float(flew.mean()) if len(flew) else LOST
        return Paired(old, float(after.mean()), 0.0, int(lost.sum()))
    fell = int(np.sum((before < LOST) & lost))
    gaps = after[both] - before[both]
    error = gaps.std(ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else np.abs(gaps[0])
    return Paired(float(before[both].mean()), float(after[both].mean()), float(error), fell)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Index before and after on flights that nothing was fitted to, and why it is refused; both of
    each pair (n, 2), if pairs were flown."""

    before: float
    after: float
    why: str = ""
    pairs: tuple[tuple[float, float], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the settings may be written."""
        return not self.why


def judged_rig(config: Config, values: Mapping[str, Any], model: Model) -> Config:
    """The learned rig as the gate flies it for these new values."""
    rig = truth(config, model)
    if all(key.startswith(CORRECTED) for key in values):
        return with_values(rig, {"estimator.learn": False})
    return rig


def gate(
    config: Config,
    values: Mapping[str, Any],
    model: Model,
    seeds: Sequence[int],
    most: float,
    progress: Progress = lambda _done, _what: None,
) -> Verdict:
    """Fly the learned rig by the settings of before and after, over the same disturbances.

    The new ones must cost at most ``most`` of the old ones' index. Below one that must be more than
    chance, above it chance may hide a little more; who cannot show it in these flights is refused.
    It ends early where more would change nothing. A model alone is judged without the learner in
    flight, which would mend the wrong one as well as the true one: chance would decide.
    """
    rig = judged_rig(config, values, model)
    new = with_values(rig, values)
    before, after = np.empty(0), np.empty(0)
    for first in range(0, len(seeds), LOOK):
        progress(first / len(seeds), f"held-out flights, {first} of up to {len(seeds)} pairs")
        part = seeds[first : first + LOOK]
        before, after = np.r_[before, indices(rig, part)], np.r_[after, indices(new, part)]
        seen = paired(before, after)
        if seen.worse(most):
            break
    pairs = tuple(zip(before.tolist(), after.tolist(), strict=True))
    if seen.fell:
        why = f"{seen.fell} of {len(pairs)} flights by the new settings did not end upright"
        return Verdict(seen.before, LOST, why, pairs)
    if seen.no_worse(most):
        return Verdict(seen.before, seen.after, pairs=pairs)
    more, error = (100.0 * one / seen.before for one in (seen.after - seen.before, seen.error))
    return Verdict(
        seen.before,
        seen.after,
        f"held-out flights cost {more:+.1f} +- {error:.1f} % by the new settings: at most "
        f"{100.0 * (most - 1.0):+.0f} %, and by more than chance, is allowed",
        pairs,
    )
