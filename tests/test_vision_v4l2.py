"""V4L2 capture against a library that answers its system calls like the PS Eye's driver."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_vision_process import BrightnessTracker, collect, detections, states
from v4l2_shim.camera import ShimCamera, build, preload

from cartpole.config.schema import Camera
from cartpole.errors import DeviceNotFound
from cartpole.messages import LinkState
from cartpole.vision.process import CameraProcess
from cartpole.vision.v4l2_device import find

pytestmark = pytest.mark.realtime

CHILD = Path(__file__).parent / "v4l2_shim" / "child.py"
RATE_HZ = 75.0
AUTO_EXPOSURE, EXPOSURE, AUTO_GAIN, GAIN = 0x009A0901, 0x00980911, 0x00980912, 0x00980913


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def eye() -> Iterator[ShimCamera]:
    with ShimCamera() as camera:
        yield camera


def settings(folder: Path, **more: Any) -> Camera:
    fields: dict[str, Any] = {"source": "v4l2", "device": str(folder / "video0")}
    fields |= {"rate_hz": RATE_HZ, "exposure": 77, "gain": 11}
    return Camera(**(fields | more))


def child(
    scenario: str, camera: Camera, library: Path, folder: Path, **more: str
) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), scenario, camera.model_dump_json()]
    return subprocess.Popen(
        command,
        env=preload(library, folder, **more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(
    scenario: str, camera: Camera, library: Path, folder: Path, **more: str
) -> list[dict[str, Any]]:
    with child(scenario, camera, library, folder, **more) as process:
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("pixel_format", ["YUYV", "GRBG"])
def test_captures_with_every_setting_made_before_streaming(
    library: Path, folder: Path, eye: ShimCamera, pixel_format: str
) -> None:
    camera = settings(folder, pixel_format=pixel_format, readout_s=0.005, exposure_s=0.003)
    eye.plug(folder / "video0")
    opened, first, again = run("capture", camera, library, folder)
    assert f"320x240 {pixel_format}" in opened["opened"]
    assert "error" not in again

    sequences = [row[0] for row in first["rows"]]
    assert sequences == sorted(set(sequences))
    assert all(row[1] == row[0] for row in first["rows"]), (
        "a picture and its number belong together"
    )
    lost = sequences[-1] - sequences[0] + 1 - len(sequences)
    assert first["gaps"] + first["skipped"] >= lost

    numbers = [number for number, _ in eye.controls]
    values = dict(eye.controls)
    assert (values[AUTO_EXPOSURE], values[AUTO_GAIN]) == (1, 0)
    assert (values[EXPOSURE], values[GAIN]) == (77, 11)
    assert numbers.index(AUTO_EXPOSURE) < numbers.index(EXPOSURE)
    assert numbers.index(AUTO_GAIN) < numbers.index(GAIN)
    assert eye.controls_while_streaming == 0


@pytest.mark.parametrize(("latency_s", "odd"), [(0.0045, False), (0.012, True)])
def test_time_is_the_drivers_stamp_less_the_latency(
    library: Path, folder: Path, eye: ShimCamera, latency_s: float, odd: bool
) -> None:
    camera = settings(folder, readout_s=0.005, exposure_s=0.003, latency_s=latency_s)
    eye.plug(folder / "video0")
    opened, _, again = run("capture", camera, library, folder)
    for sequence, _, t_ns, _ in again["rows"]:
        stamp_ns = eye.stamps[sequence] // 1000 * 1000  # the kernel counts microseconds
        assert stamp_ns - t_ns == round(latency_s * 1e9)
    assert ("half of readout and exposure (0.004 s)" in opened["opened"]) == odd


def test_a_webcam_that_is_fast_only_as_jpeg(library: Path, folder: Path, eye: ShimCamera) -> None:
    """Without Huffman tables, as they come; one that is cut in two is a gap, never a picture."""
    eye.tears = True
    eye.plug(folder / "video0")
    opened, first, _ = run("capture", settings(folder, pixel_format="MJPG"), library, folder)
    assert "320x240 MJPG" in opened["opened"]
    assert all(row[1] == row[0] for row in first["rows"])
    assert all(row[0] % 5 != 4 for row in first["rows"])
    assert first["gaps"] > 0


def test_automatic_exposure_that_cannot_be_switched_off_is_lived_with_and_said(
    library: Path, folder: Path, eye: ShimCamera
) -> None:
    eye.plug(folder / "video0")
    camera = settings(folder, auto_exposure=True)
    stuck = {"V4L2_SHIM_STUCK": hex(AUTO_EXPOSURE)}
    opened, *_ = run("capture", camera, library, folder, **stuck)
    assert "exposure and gain change with the light" in opened["opened"]
    assert {AUTO_EXPOSURE, EXPOSURE, AUTO_GAIN, GAIN} & {
        number for number, _ in eye.controls
    } == set()


def test_lists_modes_and_controls(library: Path, folder: Path, eye: ShimCamera) -> None:
    eye.plug(folder / "video0")
    (found,) = run("survey", settings(folder), library, folder)
    rates = {(form, width): rates for form, width, _, rates in found["modes"]}
    assert rates["YUYV", 320][:2] == [187.0, 150.0]
    assert rates["GRBG", 640][0] == 60.0
    assert found["controls"]["Exposure"] == 120
    assert found["controls"]["Gain, Automatic"] == 1


@pytest.mark.parametrize(
    ("change", "environment", "true_rate_hz", "message"),
    [
        ({"rate_hz": 90.0}, {}, None, "offers 187, 150, 137"),
        ({}, {}, 50.0, "where camera.rate_hz asks for 75"),
        ({"width_px": 300}, {}, None, "320x240 YUYV, 640x480 YUYV"),
        ({"pixel_format": "GREY"}, {}, None, "does not give 320x240 GREY"),
        ({}, {"V4L2_SHIM_STUCK": hex(AUTO_EXPOSURE)}, None, "camera.auto_exposure: true lives"),
        ({}, {"V4L2_SHIM_STUCK": hex(EXPOSURE)}, None, "camera.exposure reads back 120"),
    ],
)
def test_a_camera_that_does_not_do_as_told_is_refused(
    library: Path,
    folder: Path,
    eye: ShimCamera,
    change: dict[str, Any],
    environment: dict[str, str],
    true_rate_hz: float | None,
    message: str,
) -> None:
    eye.true_rate_hz = true_rate_hz
    eye.plug(folder / "video0")
    (refused,) = run("capture", settings(folder, **change), library, folder, **environment)
    assert message in refused["error"]
    assert "\n" not in refused["error"]


def test_a_slow_reader_never_gets_an_old_picture(
    library: Path, folder: Path, eye: ShimCamera
) -> None:
    eye.plug(folder / "video0")
    fresh, after = run("slow", settings(folder), library, folder)
    assert fresh["age_ns"] <= 100_000_000
    assert fresh["same"]
    assert after["stale"] > fresh["before"]["stale"], "the queue was full of old pictures"
    assert after["gaps"] > fresh["before"]["gaps"]
    assert eye.lost > 0


def test_unplugged_and_back_on_another_node(library: Path, folder: Path, eye: ShimCamera) -> None:
    eye.plug(folder / "video0")
    with child("replug", settings(folder), library, folder) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def step() -> dict[str, Any]:
            assert process.stdout is not None
            record: dict[str, Any] = json.loads(process.stdout.readline())
            return record

        assert "video0" in step()["opened"]
        eye.unplug()
        lost = step()
        assert "unplugged" in lost["lost"]
        assert lost["kept"] in (16, 235), "a picture in hand stays readable"
        process.stdin.write("\n")
        process.stdin.flush()
        assert step()["kind"] == "DeviceNotFound"
        eye.plug(folder / "video1")
        process.stdin.write("\n")
        process.stdin.flush()
        assert "video1" in step()["opened"]
        assert len(step()["rows"]) == 3
    assert process.returncode == 0


def test_the_camera_process_lives_through_an_unplugged_cable(
    library: Path, folder: Path, eye: ShimCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    eye.plug(folder / "video0")
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(library))
        patch.setenv("V4L2_SHIM_DIR", str(folder))
        process = CameraProcess(settings(folder), tracker=BrightnessTracker)
        process.start()
    try:
        process.wait_ready(60.0)
        news = collect(process, lambda news: len(detections(news)) >= 5)
        assert states(news) == [LinkState.UP]
        eye.unplug()
        news = collect(process, lambda news: LinkState.DOWN in states(news))
        last = max((item.sequence for item in detections(news)), default=0)
        time.sleep(0.2)
        eye.plug(folder / "video0")
        news = collect(process, lambda news: bool(detections(news)))
        assert states(news) == [LinkState.UP]
        assert detections(news)[0].sequence > last
    finally:
        process.close()


def test_a_usb_id_nobody_has_is_not_found() -> None:
    with pytest.raises(DeviceNotFound, match="usb:dead:beef"):
        find("usb:dead:beef:no serial")
