"""Commands that talk to a running daemon: status, arm, disarm, swing-up, stop, home, reset, …"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cartpole.cli.common import ConfigOption, JsonOption, SetOption, load, write_json

WORDS = {
    "arm": "Enable the drive (homes first if need be).",
    "disarm": "Brake and disable the drive.",
    "swing-up": "Swing the pole up and balance it.",
    "stop": "Brake now.",
    "home": "Find the zero of both encoders.",
    "reset": "Clear latched faults.",
    "reload": "Read the settings file again.",
}

RECORD = {"start": "record", "stop": "stop-record"}
CLOSE_WITHIN_S = 15.0
SERVICE_SOCKET = Path("/run/cartpole/cartpole.sock")  # as `cartpole service install` sets it


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for word, text in WORDS.items():
        _register_word(app, word, text)

    @app.command(help="Show what a running daemon does.")
    def status(
        config: ConfigOption = None,
        override: SetOption = None,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="keep showing")] = False,
        json_path: JsonOption = None,
    ) -> None:
        from cartpole.remote.socket import Client

        with Client(_socket(config, override)) as client:
            if follow:
                _follow(client)
            answer = client.call({"do": "status"})["status"]
            write_json(json_path, answer)
            from rich.console import Console

            Console().print(status_table(answer))

    @app.command(help="Begin or end a recording; the rig may be doing anything.")
    def record(
        action: Annotated[str, typer.Argument(help="start or stop")],
        config: ConfigOption = None,
        override: SetOption = None,
    ) -> None:
        from cartpole.errors import UsageError

        if action not in RECORD:
            raise UsageError(f"record {action}: start or stop")
        # A recording is answered for when its file is whole.
        _tell(config, override, {"do": RECORD[action]}, timeout_s=CLOSE_WITHIN_S)

    @app.command(help="Hold the cart at a position, or follow a square or sine.")
    def target(
        position: Annotated[float, typer.Argument(help="metres from the middle")],
        config: ConfigOption = None,
        override: SetOption = None,
        shape: Annotated[str, typer.Option(help="hold, square or sine")] = "hold",
        amplitude: Annotated[float, typer.Option(help="metres")] = 0.0,
        period: Annotated[float, typer.Option(help="seconds")] = 8.0,
    ) -> None:
        message: dict[str, Any] = {"do": "target", "value": position}
        if shape != "hold":
            message = {
                "do": "reference",
                "shape": shape,
                "centre_m": position,
                "amplitude_m": amplitude,
                "period_s": period,
            }
        _tell(config, override, message)

    @app.command(help="Push the simulated rig, as a hand would.")
    def push(
        config: ConfigOption = None,
        override: SetOption = None,
        cart: Annotated[float, typer.Option(help="the cart, m/s")] = 0.0,
        pole: Annotated[float, typer.Option(help="the pole, rad/s")] = 2.0,
    ) -> None:
        _tell(config, override, {"do": "push", "cart_m_s": cart, "pole_rad_s": pole})


def _register_word(app: typer.Typer, word: str, text: str) -> None:
    @app.command(name=word, help=text)
    def command(config: ConfigOption = None, override: SetOption = None) -> None:
        _tell(config, override, {"do": word})


def _socket(config: Path | None, override: list[str] | None) -> Path:
    place = Path(load(config, override).service.socket)
    unnamed = config is None and not override
    return SERVICE_SOCKET if unnamed and not place.exists() and SERVICE_SOCKET.exists() else place


def _tell(
    config: Path | None,
    override: list[str] | None,
    message: dict[str, Any],
    timeout_s: float = 5.0,
) -> None:
    from cartpole.errors import CartpoleError
    from cartpole.remote.socket import call

    answer = call(_socket(config, override), message, timeout_s)
    if not answer["ok"]:
        raise CartpoleError(answer["error"])
    if "text" in answer:
        print(answer["text"])


def _follow(client: Any) -> None:
    from rich.live import Live

    with Live(refresh_per_second=10) as live:
        try:
            while True:
                live.update(status_table(client.call({"do": "status"})["status"]))
                time.sleep(0.1)
        except KeyboardInterrupt:
            return


def status_table(status: dict[str, Any]) -> Any:
    """A rich table of a status."""
    from rich.table import Table

    table = Table(title=f"{status['name']}: {status['mode']}", show_header=False)
    state = status.get("state")
    if state is not None:
        table.add_row("cart", f"{state['p_m']:+.3f} m  {state['v_m_s']:+.2f} m/s")
        table.add_row(
            "pole", f"{status['from_upright_rad']:+.3f} rad from upright  "
            f"{state['omega_rad_s']:+.2f} rad/s",
        )  # fmt: skip
    if "command_m_s" in status:
        limited = f" ({status['limited_by']})" if status["limited_by"] else ""
        table.add_row("command", f"{status['command_m_s']:+.3f} m/s{limited}")
    if "solver" in status:
        solver = status["solver"]
        table.add_row(
            "solver", f"{solver['status']}, {solver['newton_steps']} steps, {solver['candidate']}"
        )
    if "timing" in status:
        table.add_row("tick", f"{status['timing']['compute_us']:.0f} us")
    for fault in status.get("faults", []):
        table.add_row(f"[red]{fault['name']}[/red]", f"{fault['meaning']}; {fault['next_step']}")
    recording = status.get("recording")
    if recording is not None:
        megabytes = recording["bytes"] / 1e6
        going = f"{recording['seconds']:.0f} s, {megabytes:.1f} MB"
        table.add_row("recording", f"{recording['path']}  {recording['error'] or going}")
    return table
