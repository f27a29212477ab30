"""The rough rig: every imperfection does what it says, and with all at zero nothing is changed."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from cartpole.config.load import load_config
from cartpole.config.schema import Config, Sim
from cartpole.messages import NANOSECONDS
from cartpole.rules.model import true_model
from cartpole.rules.sim import rig_rules
from cartpole.sim.plant import Plant

CONFIG = Path(__file__).parent / "golden" / "settings.yaml"
QUIET = ("sim.cart_disturbance=0.0", "sim.pole_disturbance=0.0")
# Too small to matter, but no longer zero: the rough kernel runs.
HARDLY_ROUGH = "sim.track_tilt_rad=1e-15"


def settings(*overrides: str) -> Config:
    return load_config(CONFIG, [*QUIET, *overrides])


def plant(*overrides: str, theta: float = 0.3) -> Plant:
    return Plant(rig_rules(settings(*overrides)), 0, (0.0, 0.0, theta, 0.0))


def driven(
    rig: Plant, velocity: float, seconds: float, begin_s: float = 0.0
) -> list[tuple[float, float, float, float]]:
    """States every millisecond while one command is held."""
    rig.command(round(begin_s * NANOSECONDS), velocity)
    first = round(begin_s * 1000) + 1
    return [rig.advance(k * 1_000_000) for k in range(first, first + round(1000 * seconds))]


def test_nothing_rough_is_the_smooth_plant() -> None:
    smooth, rough = driven(plant(), 0.5, 1.0), driven(plant(HARDLY_ROUGH), 0.5, 1.0)
    worst = [max(abs(a[k] - b[k]) for a, b in zip(smooth, rough, strict=True)) for k in range(4)]
    assert worst[0] < 2e-4
    assert worst[1] < 2e-3
    assert worst[2] < 2e-3
    assert worst[3] < 1e-2


def test_all_imperfections_are_off_by_default() -> None:
    config = load_config(CONFIG, [])
    assert Plant(rig_rules(config), 0, (0.0, 0.0, 0.0, 0.0)).is_smooth


def test_stiction_holds_a_standing_cart() -> None:
    # 0.05 m/s through a lag of 50 ms pushes with 1 m/s^2.
    held = driven(plant("sim.drive_stiction_m_s2=1.1"), 0.05, 0.5)
    freed = driven(plant("sim.drive_stiction_m_s2=0.9"), 0.05, 0.5)
    assert held[-1][0] == 0.0
    assert freed[-1][0] > 0.01


def test_cogging_swings_with_the_place() -> None:
    speeds = [
        state[1]
        for state in driven(
            plant("sim.drive_cogging_m_s2=2.0", "sim.drive_cogging_pitch_m=0.02"), 0.2, 1.5
        )[600:]
    ]
    assert max(speeds) - min(speeds) > 0.04
    crossings = sum(a < 0.2 <= b for a, b in itertools.pairwise(speeds))
    assert crossings == pytest.approx(0.2 * 0.9 / 0.02, abs=1)


def test_ripple_only_while_driven() -> None:
    rough = plant("sim.drive_ripple_m_s=0.05")
    speeds = [state[1] for state in driven(rough, 0.2, 1.0)[500:]]
    # Through the lag of 50 ms a swing of 9 Hz keeps a third of its size.
    assert 0.02 < max(speeds) - min(speeds) < 0.06
    assert abs(driven(rough, 0.0, 1.0, begin_s=1.0)[-1][1]) < 1e-6


def test_driver_ramps_by_itself() -> None:
    speeds = [state[1] for state in driven(plant("sim.drive_ramp_m_s2=2.0"), 0.8, 0.5)]
    assert speeds[260] == pytest.approx(2.0 * 0.2, abs=0.03)
    assert speeds[-1] > 0.75


def test_supply_swings_the_gain() -> None:
    rough = plant("sim.supply_sag=0.08", "sim.supply_period_s=0.5")
    speeds = [state[1] for state in driven(rough, 0.5, 1.5)[500:]]
    assert max(speeds) == pytest.approx(
        0.5 * (1.0 + 0.08 / math.hypot(1.0, 0.2 * math.pi)), abs=2e-3
    )
    assert min(speeds) < 0.47


def test_commands_are_rounded() -> None:
    assert driven(plant("sim.command_step_m_s=0.1"), 0.34, 0.6)[-1][1] == pytest.approx(
        0.3, abs=1e-3
    )
    assert driven(plant("sim.command_step_m_s=0.1"), 0.04, 0.6)[-1][1] == 0.0


def test_belt_swings_at_its_own_frequency() -> None:
    speeds = [s[1] for s in driven(plant("sim.belt_hz=6.0", "sim.belt_damping=0.05"), 0.3, 1.5)]
    late = [v - 0.3 for v in speeds[300:]]
    crossings = sum(a < 0.0 <= b for a, b in itertools.pairwise(late))
    assert crossings == pytest.approx(6.0 * 1.2, abs=1)


def test_backlash_is_a_way_without_effect() -> None:
    rough = plant("sim.belt_backlash_m=0.004")
    forward = driven(rough, 0.1, 0.5)[-1][0]
    assert forward < 0.1 * 0.45 - 0.001  # the play was taken up first
    assert driven(rough, 0.0, 0.5, begin_s=0.5)[-1][1] == pytest.approx(0.0, abs=2e-2)


def test_a_tilted_track_pulls_the_cart_down() -> None:
    states = driven(plant("sim.track_tilt_rad=0.05", theta=0.0), 0.0, 1.0)
    # The servo holds all but tau g sin(tilt) of speed.
    assert states[-1][1] == pytest.approx(-0.05 * 9.81 * math.sin(0.05), abs=1e-3)


@pytest.mark.parametrize(
    ("tip", "hub", "longer"), [(0.0, 0.0, 1.0), (1.0, 0.0, 4.0 / 3.0), (0.0, 1.0, 2.0)]
)
def test_a_pole_that_is_no_rod_moves_as_a_longer_one(tip: float, hub: float, longer: float) -> None:
    config = settings(f"sim.tip_mass={tip}", f"sim.hub_inertia={hub}")
    assert true_model(config).length_m == pytest.approx(config.pole.length_m * longer)


def test_misses_slips_and_sticks() -> None:
    missing = plant("sim.cart_misses_one_in=100")
    missing.counts(0)
    assert driven(missing, 0.3, 0.5)[-1][0] > 0.1
    seen = missing.counts(missing.t_ns)[0]
    true = math.floor(missing.state[0] * 20000.0)
    assert true - seen == pytest.approx(true / 100, abs=1)
    back = driven(missing, -0.3, 0.5, begin_s=0.5)[-1]
    assert math.floor(back[0] * 20000.0) - missing.counts(missing.t_ns)[0] >= true // 100 - 1

    slipping = plant("sim.pole_slip_counts=20", "sim.encoder_upset_at_s=0.1", HARDLY_ROUGH)
    twin = plant(HARDLY_ROUGH)
    for k in range(1, 20):
        apart = slipping.counts(k * 10_000_000)[1] - twin.counts(k * 10_000_000)[1]
        assert apart == (20 if k >= 10 else 0)


def test_a_stuck_encoder_loses_what_it_did_not_see() -> None:
    stuck = plant("sim.pole_stick_s=0.1", "sim.encoder_upset_at_s=0.1", theta=1.0)
    twin = plant(theta=1.0)
    shown, true = [], []
    for k in range(1, 30):
        shown.append(stuck.counts(k * 10_000_000)[1])
        true.append(twin.counts(k * 10_000_000)[1])
    assert len(set(shown[9:19])) == 1  # from 0.1 s on
    lost = true[19] - true[9]
    assert abs(lost) > 5
    assert all(t - s == lost for s, t in zip(shown[19:], true[19:], strict=True))


def test_a_push_moves_drive_and_cart() -> None:
    rough = plant(HARDLY_ROUGH)
    rough.push(cart_m_s=0.5)
    assert rough.state[1] == 0.5
    assert rough.advance(1_000_000)[1] > 0.45


def test_settings_are_bounded() -> None:
    for name in ("bytes_lost", "commands_lost", "supply_sag", "belt_hz", "track_tilt_rad"):
        with pytest.raises(ValueError, match=name):
            Sim.model_validate({name: 1e9})


@pytest.mark.parametrize("rough", [(), (HARDLY_ROUGH,)])
def test_where_a_silent_host_leaves_the_cart(rough: tuple[str, ...]) -> None:
    rig = plant(*rough)
    driven(rig, 0.8, 0.3)
    before = rig.state
    foreseen = rig.farthest_if_silent(0.1)
    assert rig.state == before
    # The command was told at zero, so the driver gave up long ago: the lag alone is left.
    rig.command(rig.t_ns, 0.0)
    assert foreseen == pytest.approx(rig.advance(rig.t_ns + 800_000_000)[0], abs=0.01)
    later = plant(*rough)
    later.command(0, 0.8)
    held = later.farthest_if_silent(0.2)
    assert later.farthest_if_silent(0.3) == pytest.approx(held + 0.08, abs=2e-3)
