"""Settings as a Python program names them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cartpole.errors import UsageError

if TYPE_CHECKING:
    from cartpole.config.schema import Config


def settings(
    named: Config | str | Path | None = None, changes: Mapping[str, Any] | None = None
) -> Config:
    """A ``Config``, a YAML file's, or (``None``) the simulated rig's; with dotted keys changed.

    Raises ConfigError with one line that names file, key and what is allowed.
    """
    from cartpole.config.load import load_config, with_values
    from cartpole.config.schema import Config
    from cartpole.kernel_cache import use_kernel_cache
    from cartpole.shipped import default_settings

    use_kernel_cache()
    if isinstance(named, Config):
        config = named
    elif named is None or isinstance(named, str | Path):
        config = load_config(default_settings() if named is None else Path(named))
    else:
        raise UsageError(f"settings are a file's name or a Config, not {type(named).__name__}")
    return with_values(config, dict(changes)) if changes else config
