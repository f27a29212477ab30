"""Who asks for other settings is told at once what may not change, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from cartpole.config.load import load_config
from cartpole.config.schema import Config
from cartpole.daemon.settings import SettingsKeeper
from cartpole.errors import ConfigError
from cartpole.messages import Answer, Mode, Request
from cartpole.rules.control import config_of


class Core:
    """Takes what it is asked for; the tick may find another mode than the asker did."""

    def __init__(self, path: Path) -> None:
        path.write_text("rig: {velocity_limit_m_s: 1.0}\n")
        self.path = path
        self.config: Config = load_config(path)
        self.mode = Mode.DISARMED
        self.answer = Answer(True, "settings changed: something")
        self.keeper = SettingsKeeper(path, [], lambda: self.config, self.ask, lambda: self.mode)

    def ask(self, request: Request) -> Answer:
        assert request.settings is not None
        if self.answer.ok:
            self.config = config_of(request.settings)
        return self.answer


@pytest.fixture
def core(tmp_path: Path) -> Core:
    return Core(tmp_path / "rig.yaml")


def test_limits_are_set_while_disarmed(core: Core) -> None:
    core.keeper.set_values({"rig.velocity_limit_m_s": 0.8, "safety.stop_margin_m": 0.01})
    assert core.config.rig.velocity_limit_m_s == 0.8
    assert core.config.safety.stop_margin_m == 0.01
    core.keeper.save()
    assert load_config(core.path).rig.velocity_limit_m_s == 0.8


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode is not Mode.DISARMED])
def test_refused_in_every_other_mode(core: Core, mode: Mode) -> None:
    core.mode = mode
    before = core.config
    values = {"rig.velocity_limit_m_s": 0.8, "controller.weights.angle": 2.0}
    with pytest.raises(ConfigError, match=r"rig\.velocity_limit_m_s: only while disarmed: ") as why:
        core.keeper.set_values(values)
    assert "(nothing was changed)" in str(why.value)
    assert "\n" not in str(why.value)
    assert "weights" not in str(why.value)
    core.path.write_text("rig: {velocity_limit_m_s: 0.9}\n")
    with pytest.raises(ConfigError, match="only while disarmed"):
        core.keeper.reload()
    assert core.config is before
    core.mode = Mode.DISARMED
    core.keeper.reload()
    assert core.config.rig.velocity_limit_m_s == 0.9


def test_a_frozen_field_holds_back_the_others(core: Core) -> None:
    before = core.config
    values = {"rig.track_length_m": 1.0, "rig.velocity_limit_m_s": 0.8}
    with pytest.raises(ConfigError, match=r"^rig\.track_length_m: restart needed"):
        core.keeper.set_values(values)
    assert core.config is before


def test_the_core_has_the_last_word(core: Core) -> None:
    """Armed between the question and the tick: nothing of it is kept for a later save."""
    core.answer = Answer(False, "rig.velocity_limit_m_s: only while disarmed: stop")
    with pytest.raises(ConfigError, match=r"^rig\.velocity_limit_m_s: only while disarmed: stop$"):
        core.keeper.set_values({"rig.velocity_limit_m_s": 0.8})
    core.answer = Answer(True, "settings changed: x")
    assert core.keeper.save() == ""


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"controller.weights.angle": "2.0"}, "angle: '2.0' is a text: a number is wanted"),
        ({"controller.weights.angle": "2.0\nrig: {}"}, "a number is wanted"),
        ({"controller.weights.angle": [2.0]}, "is no value"),
        ({"controller.weights.angle": {"a": 1}}, "is no value"),
        ({"controller.weights.angle": None}, "angle"),
        ({"controller.weights.angle": float("nan")}, "angle"),
        ({"controller.weights.angle": True}, "angle"),
        ({"session.record": "no"}, "true or false is wanted"),
        ({"controller.weights.angel": 2.0}, "angel"),
    ],
)
def test_what_is_refused_leaves_the_next_save_as_it_was(
    core: Core, values: dict[str, object], why: str
) -> None:
    """A number as text was taken, and written as text: the file could not be read again."""
    with pytest.raises(ConfigError) as error:
        core.keeper.set_values(values)
    assert why in str(error.value)
    core.keeper.set_values({"controller.weights.angle": 2})
    core.keeper.save()
    assert load_config(core.path).controller.weights.angle == 2.0
