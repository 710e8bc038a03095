"""The page's films and cameras in a real browser, before the real server; and what axe-core says of every view."""

from __future__ import annotations

import csv
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from films import make_film
from playwright.sync_api import Browser, Page, expect
from serving import fake_analyzer, plain, settings
from skimage.data import astronaut
from web_browser import PHONE, chromium, download, give, portrait, too_wide, visit

from mien.render.palette import COLOURS
from mien.serve.start import running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("camera")) as held:
        yield held


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service with the real models."""
    with running(settings(tmp_path_factory.mktemp("real"), port=0, threads=1)) as address:
        yield address


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that finds blue rectangles and reads them as happy in the measure in which they are red."""
    chosen = settings(tmp_path_factory.mktemp("fake"), port=0, threads=1)
    with running(chosen, analyzer=fake_analyzer(), run=False) as address:
        yield address


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds: the portrait, a second without anybody, the portrait."""
    somebody = portrait()
    nobody = np.full_like(somebody, 120)
    return make_film(
        tmp_path_factory.mktemp("film") / "clip.mp4", [somebody] * 10 + [nobody] * 10 + [somebody] * 10, fps=10
    )


@pytest.fixture(scope="module")
def job(real: str, film: Path) -> str:
    """The address of a film's result."""
    asked = urllib.request.Request(f"{real}/v1/films", film.read_bytes(), {"Content-Type": "video/mp4"})  # noqa: S310  # our own
    with urllib.request.urlopen(asked) as answer:  # noqa: S310  # our own
        made = json.load(answer)["id"]
    with urllib.request.urlopen(f"{real}/v1/jobs/{made}/events") as events:  # noqa: S310  # our own
        assert b'"state":"done"' in events.read()
    return f"film/{made}"


def test_a_film_from_the_upload_to_its_erasure(browser: Browser, real: str, film: Path, tmp_path: Path) -> None:
    with visit(browser, f"{real}/#film") as page:
        page.set_input_files("#film-file", film)
        job = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="clip.mp4"))
        expect(job.get_by_text("done", exact=True)).to_be_visible(timeout=60_000)
        page.reload()
        job.get_by_role("link", name="Open: clip.mp4").click()
        expect(page.get_by_role("heading", name="clip.mp4", level=1)).to_be_focused()
        assert page.title() == "Film – mien"
        slider = page.get_by_role("slider", name="Time in the film")
        expect(slider).to_have_attribute("aria-valuetext", re.compile(r"0:00\.0, Track \d+ happy"))
        readout = page.locator(".readout")
        expect(readout.get_by_role("row", name="happy")).to_have_text(re.compile(r"0\.[89]\d|1\.00"))
        # By keyboard to the end, back into the middle, where nobody is; the film goes along.
        slider.focus()
        page.keyboard.press("End")
        expect(readout.get_by_role("heading")).to_have_text("0:03.0")
        for _ in range(4):
            page.keyboard.press("PageDown")
        expect(readout).to_contain_text("No face is read here.")
        assert page.locator("video.film").evaluate("(v) => v.currentTime") == pytest.approx(1.8)
        # By mouse: a press on a lane, at a fifth of its width.
        lane = page.locator(".plot").first
        box = lane.bounding_box()
        assert box is not None
        lane.click(position={"x": box["width"] / 5, "y": 10})
        expect(readout.get_by_role("heading")).to_have_text("0:00.6")
        expect(slider).to_have_attribute("aria-valuetext", re.compile("happy"))
        band = lane.locator("canvas").evaluate(_PIXEL)
        assert tuple(band[:3]) == COLOURS["happy"]
        page.get_by_role("button", name="Zoom in").click()
        table = list(csv.DictReader(download(page, page, "faces.csv", tmp_path).read_text("utf-8").splitlines()))
        assert sum(row["top"] == "happy" for row in table) == 20
        assert sum(row["reason"] == "no_face" for row in table) == 10
        assert b"ftyp" in download(page, page, "annotated.mp4", tmp_path).read_bytes()[:16]
        page.get_by_role("button", name="Erase now").click()
        sure = page.get_by_role("dialog", name="Erase for good?")
        expect(sure).to_contain_text("annotated film")
        sure.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Erase now").click()
        sure.get_by_role("button", name="Erase").click()
        expect(page.get_by_role("heading", name="A film, face by face")).to_be_visible()
        expect(job).to_have_count(0)
    with urllib.request.urlopen(f"{real}/v1/jobs") as answer:  # noqa: S310  # our own
        assert json.load(answer) == {"jobs": []}


# The colour in the band of runs at a fifth of the lane.
_PIXEL = "(n) => [...n.getContext('2d').getImageData(n.width / 5 + 6, n.height - 5, 1, 1).data]"


def test_no_film(browser: Browser, fake: str) -> None:
    with visit(browser, f"{fake}/#film", refused=1) as page:
        page.set_input_files("#film-file", {"name": "a.mp4", "mimeType": "video/mp4", "buffer": b"no film" * 100})
        expect(page.get_by_role("alert")).to_have_text(
            "a.mp4: This is not a film that can be read. Choose an MP4, MOV, MKV, WebM or AVI file."
        )


def test_the_camera(browser: Browser, real: str) -> None:
    with visit(browser, f"{real}/#camera") as page:
        notice = page.locator("#camera-notice")
        expect(notice).to_be_hidden()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#camera-state")).to_have_text("Analysing.")
        expect(notice).to_contain_text("Nothing is stored.")
        expect(notice.get_by_role("link")).to_have_attribute("href", "notice?lang=en")
        faces = page.locator("#camera-faces")
        expect(faces.locator("b")).to_have_text("happy")
        expect(faces.get_by_role("row", name="happy")).to_have_text(re.compile(r"0\.[789]\d|1\.00"))
        expect(page.locator("#camera-rate")).to_have_text(re.compile(r"^\d+\.\d$"))
        expect(page.locator("#camera-lag")).to_have_text(re.compile(r"^\d+ ms$"))
        # Something is drawn over the picture: the box in the colour of the label.
        expect(page.locator("#camera-canvas")).to_have_js_property(
            "width", page.locator("#camera-video").evaluate("(v) => v.clientWidth")
        )
        x1, y1, x2, y2 = page.locator("#camera-canvas").evaluate(_PAINTED)
        # The clip goes 10 pixels to and fro; it is shown as in a mirror.
        assert (x1 + x2) / 2 == pytest.approx(1 - 113 / 240, abs=0.05)
        assert (y1 + y2) / 2 == pytest.approx(85 / 180, abs=0.06)
        assert x2 - x1 == pytest.approx(65 / 240, abs=0.08)
        page.get_by_role("checkbox", name="Mirror").uncheck()
        expect(page.locator("#camera-video")).not_to_have_class(re.compile("mirrored"))
        page.get_by_role("button", name="Stop").click()
        expect(notice).to_be_hidden()
        expect(page.get_by_role("button", name="Start the camera")).to_be_focused()
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#camera-state")).to_have_text("Analysing.")
        page.get_by_role("link", name="Pictures").click()
        page.get_by_role("link", name="Camera").click()
        expect(notice).to_be_hidden()


# Where the sides of the box are, as shares of the picture: rows and columns with much of the colour of happy.
_PAINTED = """(n) => {
  const { data } = n.getContext('2d').getImageData(0, 0, n.width, n.height);
  const columns = new Array(n.width).fill(0), rows = new Array(n.height).fill(0);
  for (let i = 0; i < data.length; i += 4) {
    if (data[i] !== 245 || data[i + 1] !== 225 || data[i + 2] !== 60) continue;
    columns[i / 4 % n.width] += 1;
    rows[Math.floor(i / 4 / n.width)] += 1;
  }
  const of = (held, most) => [held.findIndex((c) => c > most), held.findLastIndex((c) => c > most)];
  const [x1, x2] = of(columns, n.height / 6), [y1, y2] = of(rows, n.width / 6);
  return [x1 / n.width, y1 / n.height, x2 / n.width, y2 / n.height];
}"""


def test_a_camera_is_connected_again(browser: Browser, fake: str) -> None:
    sockets: list[Any] = []
    with visit(browser, f"{fake}/#camera") as page:

        def pass_on(socket: Any) -> None:
            sockets.append(socket)
            socket.connect_to_server()

        page.route_web_socket("**/v1/stream", pass_on)
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#camera-state")).to_have_text("Analysing.")
        sockets[0].close(code=1011)
        expect(page.locator("#camera-state")).to_have_text("The connection was lost. Trying again in 1 s.")
        expect(page.locator("#camera-state")).to_have_text("Analysing.")
        assert len(sockets) == 2


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
def test_nobody_is_shut_out(browser: Browser, real: str, job: str, size: str, scheme: str) -> None:
    """axe-core finds no serious fault in any view, and nothing is wider than the screen."""
    with visit(browser, real, refused=1, color_scheme=scheme, **(PHONE if size == "phone" else {})) as page:
        give(
            page,
            ("astronaut.png", cv2.imencode(".png", astronaut()[..., ::-1])[1].tobytes()),
            ("wall.png", plain()),
            ("bad.png", b"bad"),
        )
        expect(page.locator("article[aria-busy=false]")).to_have_count(3)
        faults = [*judged(page, "pictures")]
        page.get_by_text("Models:").click()
        for view in ("film", job, "camera", "stored", "setup"):
            page.goto(f"{real}/#{view}")
            if view == "camera":
                page.get_by_role("button", name="Start the camera").click()
                expect(page.locator("#camera-faces .bars")).to_be_visible()
            if view == job:
                expect(page.locator(".timeline")).to_be_visible()
            expect(page.get_by_role("main").get_by_role("heading", level=1)).to_be_visible()
            faults += judged(page, view)
        page.get_by_role("button", name="Open on your phone").click()
        expect(page.locator("#phone-qr")).to_have_js_property("complete", True)
        faults += judged(page, "phone")
    assert not faults


def judged(page: Page, view: str) -> list[str]:
    """What axe-core finds, serious or critical, and what hangs over the edge."""
    wide = too_wide(page)
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    serious = [v for v in found if v["impact"] in {"serious", "critical"}]
    return [f"{view}: {v['id']}: {v['nodes'][0]['html'][:200]}" for v in serious] + [f"{view}: {wide} px too wide"] * (
        wide > 0
    )
