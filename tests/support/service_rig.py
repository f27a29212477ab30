"""A rig without a plant, for the service in its container: two boards on pseudo-terminals and a
camera that is a motion JPEG stream.

``python service_rig.py FOLDER PORT``: links ``motor`` and ``encoder`` and the file ``wire`` (every
byte the motor driver got) appear in the folder; the camera answers once ``camera`` is there too.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from cartpole.config.schema import Config
from cartpole.sim.boards import ArduinoAsciiBoard, SabertoothTextBoard
from cartpole.sim.pty_port import PtyPort, PtyServer
from firmware_bridge.sabertooth_text import SabertoothText

HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"


class Still:
    """Nothing moves, whatever is commanded."""

    def counts(self, t_ns: int) -> tuple[int, int]:
        return 0, 0

    def limits(self, t_ns: int) -> tuple[bool, bool]:
        return False, False

    def command(self, t_ns: int, velocity_m_s: float) -> None: ...


class HeardMotor(SabertoothTextBoard):
    """Keeps what it hears."""

    def __init__(self, file: Path) -> None:
        super().__init__(Still(), SabertoothText.from_config(Config().motor))
        self._file = file.open("ab", buffering=0)

    def exchange(self, t_ns: int, received: bytes) -> bytes:
        self._file.write(received)
        return super().exchange(t_ns, received)


def show(listener: socket.socket) -> None:
    """A dark picture fifty times a second, to one client after another."""
    picture = cv2.imencode(".jpg", np.zeros((240, 320), np.uint8))[1].tobytes()
    part = b"--b\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n"
    while True:
        client, _ = listener.accept()
        with client:
            try:
                client.recv(4096)
                client.sendall(HEAD)
                while True:
                    client.sendall(part)
                    time.sleep(0.02)
            except OSError:
                continue


def main(folder: Path, port: int) -> None:
    """Serve until killed."""
    ports = [
        PtyPort(HeardMotor(folder / "wire"), folder / "motor"),
        PtyPort(ArduinoAsciiBoard(Still()), folder / "encoder"),
    ]
    for one in ports:
        os.chmod(one.path, 0o666)
    PtyServer(ports).start()
    while not (folder / "camera").exists():
        time.sleep(0.05)
    threading.Thread(target=show, args=(socket.create_server(("127.0.0.1", port)),)).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
