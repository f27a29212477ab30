"""The exception tree.

::

    CartpoleError                 anything this package raises on purpose
    ├── ConfigError               a config file, key or value (exit code 2)
    ├── UsageError                a command line or argument (exit code 2)
    ├── DeviceError               a port, camera or board
    │   ├── DeviceNotFound        nothing at that path or USB id
    │   ├── DeviceBusy            somebody else holds it
    │   └── DeviceLost            it was there and went away
    ├── SessionError              a recording that cannot be read or written
    ├── IdentificationError       data that cannot carry the fit asked of it
    └── GradientError             (cartpole.learning) a gradient that would be wrong

Expected failures inside the control loop are statuses, not exceptions.
"""


class CartpoleError(Exception):
    """Base of every error raised on purpose; the message is one line and says what to do next."""


class ConfigError(CartpoleError):
    """A config file, key or value is wrong: names file, line, key and what is allowed."""


class UsageError(CartpoleError):
    """A command or argument makes no sense."""


class DeviceError(CartpoleError):
    """A port, camera or board does not do what it must."""


class DeviceNotFound(DeviceError):
    """Nothing answers at the configured path or USB id."""


class DeviceBusy(DeviceError):
    """Another process holds the device."""


class DeviceLost(DeviceError):
    """The device was there and went away."""


class SessionError(CartpoleError):
    """A recording cannot be read or written."""


class IdentificationError(CartpoleError):
    """The data cannot carry the fit asked of it; the message says what to record instead."""
