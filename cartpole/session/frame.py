"""A channel of a recording as a pandas DataFrame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cartpole.errors import UsageError
from cartpole.messages import NANOSECONDS
from cartpole.session.channels import CHANNELS
from cartpole.session.recorded import DECODE

if TYPE_CHECKING:
    from pandas import DataFrame

    from cartpole.session.reader import Session

# Fields that are vectors, and what their entries are called.
PARTS = {
    "state": ("p_m", "v_m_s", "theta_rad", "omega_rad_s"),
    "sigma": ("sigma_p_m", "sigma_v_m_s", "sigma_theta_rad", "sigma_omega_rad_s"),
}


def table(session: Session, topic: str) -> DataFrame:
    """One row a message, indexed by ``t_s``, seconds of log time from the first tick.

    Columns are the message's fields, SI; vectors of a state are columns by name (``p_m``,
    ``v_m_s``, ``theta_rad``, ``omega_rad_s``); what is no number is left as it is. UsageError for
    a channel that there is none of, or without pandas.
    """
    try:
        from pandas import DataFrame, Index
    except ModuleNotFoundError:
        raise UsageError("tables of a session need pandas: pip install pandas") from None
    name = "/" + topic.removeprefix("/")
    if name not in CHANNELS or name == "/state":
        known = ", ".join(one[1:] for one in CHANNELS if one != "/state")
        raise UsageError(f"no channel {topic!r}: one of {known}")
    start_ns: int | None = None
    times: list[int] = []
    rows: list[dict[str, Any]] = []
    for found, log_time, now_ns, data in session.messages(frozenset(CHANNELS) - {name, "/tick"}):
        if found == "/tick" and start_ns is None:
            start_ns = now_ns
        if found == name:
            times.append(log_time)
            rows.append(_row(DECODE[name](data)))
    first = start_ns if start_ns is not None else min(times, default=0)
    order = sorted(range(len(times)), key=times.__getitem__)
    index = Index([(times[k] - first) / NANOSECONDS for k in order], name="t_s", dtype=float)
    return DataFrame([rows[k] for k in order], index=index)


def _row(message: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in type(message).__slots__:
        value = getattr(message, name)
        if name in PARTS and isinstance(value, tuple) and len(value) == len(PARTS[name]):
            row.update(zip(PARTS[name], value, strict=True))
        else:
            row[name] = getattr(value, "value", value)
    return row
