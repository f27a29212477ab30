"""A function of a user's own, named by the settings as ``file.py:function``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from cartpole.errors import ConfigError


def load_function(key: str, where: str) -> tuple[Callable[..., Any], ModuleType]:
    """The function and its module. Runs the file. ``key`` is the setting, for the error.

    Raises ConfigError for a name, file or function that is none, and for what the file raises.
    """
    path, colon, name = where.rpartition(":")
    file = Path(path).expanduser()
    if not colon or not file.is_file():
        raise ConfigError(f"{key} {where!r}: not an existing file.py:function")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{key} {where!r}: {file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{key} {where!r}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ConfigError(f"{key} {where!r}: no function {name} in {file}")
    return function, module
