"""A browser for the tests of the page: chromium with a camera that plays a film; what it complains of is heard."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright
from skimage.data import astronaut

CHROMIUM = shutil.which("chromium")

DESK: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}

# What the browser says when a server answers 4xx; the page handles these.
_STATUS = "Failed to load resource: the server responded with a status of "
_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', (e) => console.error(`CSP: ${e.violatedDirective} ${e.blockedURI}`))"
)


def write_y4m(path: Path, frames: list[NDArray[np.uint8]], *, fps: int = 10) -> Path:
    """Write frames (H, W, 3) uint8 RGB, even sides, as the uncompressed film that chromium takes for a camera."""
    height, width = frames[0].shape[:2]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


def portrait() -> NDArray[np.uint8]:
    """An astronaut who smiles, in the public domain, 240 x 180."""
    return cv2.resize(astronaut()[:240, 80:400], (240, 180), interpolation=cv2.INTER_AREA)


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser whose camera plays a film, made in the folder, over and over: the portrait moves to and fro."""
    if CHROMIUM is None:
        pytest.skip("chromium is not on PATH")
    face = portrait()
    camera = write_y4m(folder / "camera.y4m", [np.roll(face, 2 * i, 1) for i in (*range(6), *range(6, 0, -1))])
    arguments = [
        "--no-sandbox",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visit(browser: Browser, address: str, *, refused: int = 0, **options: Any) -> Iterator[Page]:
    """A page of its own; in the end nothing may have been complained of and no other host have been asked.

    Parameters
    ----------
    browser
        The browser.
    address
        Where to go; the page is there when this gives it.
    refused
        How many answers with a status of 400 and more are right.
    options
        Of the browser's context, beside those of a desk.
    """
    context = browser.new_context(**(DESK | {"locale": "en-GB", "permissions": ["camera"]} | options))
    context.set_default_timeout(15_000)
    complaints: list[str] = []
    statuses: list[str] = []
    hosts: set[str] = set()

    def hear(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            (statuses if message.text.startswith(_STATUS) else complaints).append(message.text)

    def meet(request: Request) -> None:
        if not request.url.startswith(("blob:", "data:")):
            hosts.add(urlsplit(request.url).netloc)

    context.add_init_script(_VIOLATIONS)
    page = context.new_page()
    page.on("console", hear)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", meet)
    page.on("websocket", lambda socket: hosts.add(urlsplit(socket.url).netloc))
    page.goto(address)
    page.locator("html[data-ready]").wait_for(state="attached")
    yield page
    context.close()
    assert not complaints
    assert len(statuses) == refused, statuses
    assert hosts == {urlsplit(address).netloc}


def give(page: Page, *files: tuple[str, bytes]) -> None:
    kinds = {".png": "image/png", ".jpg": "image/jpeg"}
    listed: Any = [
        {"name": name, "mimeType": kinds.get(Path(name).suffix, "application/octet-stream"), "buffer": data}
        for name, data in files
    ]
    page.set_input_files("#pictures-file", listed)


def card(page: Page, name: str) -> Locator:
    found = page.get_by_role("article", name=name)
    expect(found).to_have_attribute("aria-busy", "false")
    return found


def download(page: Page, inside: Locator | Page, name: str, folder: Path) -> Path:
    with page.expect_download() as waited:
        inside.get_by_role("button", name=name).click()
    path = folder / waited.value.suggested_filename
    waited.value.save_as(path)
    return path


def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than the screen."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wide
