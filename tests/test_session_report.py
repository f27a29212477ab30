"""Report, film and plots of a recording."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from support.sessions import HOMED, FakeCore, FakeFrame, inputs, write_session

from cartpole.config.schema import Config
from cartpole.errors import SessionError
from cartpole.session.plot import plot_replay, plot_session
from cartpole.session.plotly_js import as_script
from cartpole.session.reader import open_session
from cartpole.session.replay import replay
from cartpole.session.report import write_report
from cartpole.session.report_plots import thinned
from cartpole.session.video import write_video
from cartpole.session.writer import SessionWriter

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run.mcap"
    write_session(path, ticks=200, lost_at=150)
    return path


def test_the_page_holds_everything_and_fetches_nothing(recording: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_report(open_session(recording), page)
    text = page.read_text(encoding="utf-8")
    assert len(text) < 10_000_000
    assert not re.search(r"""<(script|link|img)[^>]*\b(src|href)=["']?(https?:)?//""", text)
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    for word in ("encoder lost", "Provenance", "Settings", "Phase portrait", "plug it in"):
        assert word in ours


def test_words_from_a_recording_are_not_markup(tmp_path: Path) -> None:
    path, page = tmp_path / "x.mcap", tmp_path / "x.html"
    rig = Config().rig.model_copy(update={"name": "<script>alert(1)</script>"})
    config = Config().model_copy(update={"rig": rig})
    with SessionWriter(path, config, {"git": "</script><b>\x1b[2J\u202e"}, live=False) as writer:
        core = FakeCore(config, HOMED)
        for tick in inputs(5):
            writer.put_tick(core.tick(tick))
    write_report(open_session(path), page)
    text = page.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "</script><b>" not in text
    ours = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "\x1b" not in ours
    assert "\u202e" not in ours
    assert "&lt;/script&gt;&lt;b&gt;\\x1b[2J\\u202e" in text


def test_a_recording_without_ticks_has_no_report(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with SessionWriter(path, Config(), live=False):
        pass
    with pytest.raises(SessionError, match="no whole tick"):
        write_report(open_session(path), tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


@pytest.mark.realtime
@pytest.mark.skipif(not os.path.exists(CHROMIUM), reason="no Chromium on this machine")
def test_the_page_draws_in_a_browser_without_errors(recording: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    page_path = tmp_path / "report.html"
    write_report(open_session(recording), page_path)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        errors: list[str] = []
        requests: list[str] = []
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_path.as_uri())
        page.wait_for_selector("#plot4 .main-svg", timeout=60_000)
        drawn = page.locator(".plot .main-svg").count()
        browser.close()
    assert errors == []
    assert requests == [page_path.as_uri()]
    assert drawn >= 5


def test_thinning_keeps_the_extremes() -> None:
    t = np.arange(100_000) * 0.02
    y = np.sin(t)
    y[54_321] = 9.0
    y[12_345] = -9.0
    times, values = thinned(t.tolist(), y.tolist(), most=2000)
    assert len(times) <= 2000
    assert max(v for v in values if v is not None) == 9.0
    assert min(v for v in values if v is not None) == -9.0
    assert times == sorted(times)


def test_film_with_and_without_pictures(recording: Path, tmp_path: Path) -> None:
    import cv2

    film = tmp_path / "film.mp4"
    assert write_video(open_session(recording), film) == 100  # 4 s at 25 a second
    path = tmp_path / "pictures.mcap"
    session = Config().session.model_copy(update={"frames": "all"})
    with SessionWriter(
        path, Config().model_copy(update={"session": session}), live=False
    ) as writer:
        core = FakeCore(Config(), HOMED)
        for index, tick in enumerate(inputs(20)):
            picture = np.full((240, 320), 40, np.uint8)
            writer.put_frame(FakeFrame(picture, tick.now_ns, index))
            writer.put_tick(core.tick(tick))
    both = tmp_path / "both.mp4"
    assert write_video(path, both) == 10
    opened = cv2.VideoCapture(str(both))
    ok, image = opened.read()
    opened.release()
    assert ok
    assert image.shape == (480, 1280, 3)
    assert abs(int(image[400, 1200].mean()) - 40) < 6


def test_plots_are_pictures(recording: Path, tmp_path: Path) -> None:
    plot_session(recording, tmp_path / "run.png")
    session = open_session(recording)
    plot_session((tick.record() for tick in session.ticks()), tmp_path / "records.png", Config())
    result = replay(session, make_core=FakeCore, keep_series=True)
    plot_replay(result, tmp_path / "replay.png")
    for name in ("run.png", "records.png", "replay.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_a_module_becomes_a_script_that_keeps_its_names() -> None:
    module = "var a=1;window.Plotly=a;export{a as Plotly};\n//# sourceMappingURL=index.js.map\n"
    assert as_script(module).startswith("(function(){var a=1;window.Plotly=a;")
    assert "export" not in as_script(module)
    with pytest.raises(SessionError, match="pip install plotly"):
        as_script("var a=1;")
    with pytest.raises(SessionError, match="pip install plotly"):
        as_script("var a='</script>';export{a};")
