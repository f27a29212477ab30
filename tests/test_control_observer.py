"""What the observer learns from, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cartpole.config.load import with_values
from cartpole.config.schema import Config
from cartpole.control.observer import Observer
from cartpole.messages import Detection, DetectionStatus, EncoderSample
from cartpole.rules.control import settings_of

MS = 1_000_000


@pytest.mark.parametrize("protocol", ["bridge", "sabertooth_text"])
def test_where_a_board_itself_stops_the_cart_at_a_switch_nothing_is_learned(protocol: str) -> None:
    config = with_values(
        Config(),
        {"camera.source": "none", "motor.protocol": protocol}
        | ({"encoder.protocol": "bridge"} if protocol == "bridge" else {}),
    )
    rules = settings_of(config).rules.observer
    memory = Observer.fresh(rules, None)
    observer = Observer(rules, memory)
    moving = EncoderSample(5 * MS, 6 * MS, 100, 0)
    observer.add_command(1 * MS, 0.2)
    observer.take(moving)
    assert memory.learner.cart
    observer.take(replace(moving, t_ns=9 * MS, limit_high=True))
    assert memory.learner.cart is (protocol != "bridge")
    observer.take(replace(moving, t_ns=13 * MS))
    assert memory.learner.cart


def test_a_frame_of_nonsense_teaches_nothing() -> None:
    """A camera alone: what does not show the pole where it is says nothing of its length."""
    rules = settings_of(with_values(Config(), {"encoder.protocol": "none"})).rules.observer
    memory = Observer.fresh(rules, None)
    observer = Observer(rules, memory)

    def show(k: int, theta_rad: float) -> bytes:
        t_ns = k * 7 * MS
        observer.add_command(t_ns, 0.0)
        observer.take(
            Detection(t_ns, t_ns + MS, k, DetectionStatus.OK, theta_rad, 0.0, 0.0015, 0.001, 1.0)
        )
        return memory.learner.state.tobytes()

    for k in range(1, 10):
        known = show(k, 0.001 * k)
    assert memory.learner.pole
    assert show(10, 0.4) == known
    assert show(11, 0.01) != known
