"""The page in a real browser, before the real server."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import TEMPLATE
from matplotlib.cbook import get_sample_data
from networks import MOODS, SPEC, network, write
from playwright.sync_api import Browser, Page, Route, expect
from serving import face, fake_analyzer, plain, settings
from skimage.data import astronaut
from web_browser import PHONE, card, chromium, download, give, portrait, too_wide, visit

from mien.media.stills import read_picture
from mien.pipeline.analyzer import Settings
from mien.render.palette import COLOURS
from mien.serve.start import running
from mien.serve.tokens import Role, make_token

WEB = Path(__file__).parents[1] / "src" / "mien" / "serve" / "web"
LANGUAGES = ("en", "zh", "ru")


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


def test_a_portrait_is_read(browser: Browser, real: str, tmp_path: Path) -> None:
    # Two people beside each other, both in the public domain.
    hopper = read_picture(get_sample_data("grace_hopper.jpg", asfileobj=False))
    hopper = cv2.resize(hopper, (hopper.shape[1] * 512 // hopper.shape[0], 512))
    both = cv2.imencode(".jpg", np.hstack([astronaut(), hopper])[..., ::-1])[1].tobytes()
    with visit(browser, real) as page:
        give(page, ("two people.jpg", both))
        found = card(page, "two people.jpg")
        faces = found.locator(".face")
        expect(faces).to_have_count(2)
        smiling = found.get_by_role("button", name=re.compile(r"Face \d: happy 0\.\d\d"))
        smiling.click()
        expect(smiling).to_have_attribute("aria-pressed", "true")
        expect(found.get_by_role("row")).to_have_count(8)
        assert float(found.get_by_role("row", name="happy").get_by_role("cell").last.inner_text()) > 0.8
        # The box lies where the face is: in the left half, at the height of the head.
        box, picture = smiling.bounding_box(), found.locator("img").bounding_box()
        assert box is not None
        assert picture is not None
        x = (box["x"] + box["width"] / 2 - picture["x"]) / picture["width"] * (512 + hopper.shape[1])
        y = (box["y"] + box["height"] / 2 - picture["y"]) / picture["height"] * 512
        assert abs(x - 224) < 12
        assert abs(y - 118) < 12
        table = list(csv.DictReader(download(page, found, "CSV", tmp_path).read_text("utf-8").splitlines()))
        assert len(table) == 2
        held = json.loads(download(page, found, "JSON", tmp_path).read_text("utf-8"))
        assert [f["top"] for f in held["pictures"][0]["faces"]] == [row["top"] for row in table]
        drawn = read_picture(download(page, found, "Annotated picture", tmp_path))
        assert drawn.shape == (512, 512 + hopper.shape[1], 3)


def test_a_model_with_labels_of_its_own(browser: Browser, tmp_path: Path) -> None:
    blob, _ = network((MOODS,))
    model = write(tmp_path, blob, labels=MOODS.labels, heads=(MOODS,), input=replace(SPEC, template=TEMPLATE))
    chosen = settings(tmp_path / "state", port=0, threads=1, analysis=Settings(model=str(model), threads=1))
    with running(chosen, run=False) as address, visit(browser, address) as page:
        page.get_by_text("Options").first.click()
        expect(page.get_by_label("Only the clearest face")).to_be_visible()
        expect(page.locator("#pictures-labels")).to_be_hidden()  # there is nothing to choose
        give(page, ("portrait.png", cv2.imencode(".png", portrait()[..., ::-1])[1].tobytes()))
        rows = card(page, "portrait.png").get_by_role("row")
        expect(rows).to_have_text([re.compile(word) for word in MOODS.labels])
        expect(page.get_by_text("Even people disagree")).to_have_count(0)  # it never learned what people say


def test_several_pictures_and_what_is_wrong_with_some(browser: Browser, fake: str, tmp_path: Path) -> None:
    with visit(browser, fake, refused=2) as page:
        give(
            page,
            ("a.png", face(red=255)),
            ("wall.png", plain()),
            ("notes.png", b"not a picture"),
            ("b.png", face(red=120)),
        )
        give(page, ("empty.png", b""))
        expect(card(page, "a.png").locator(".verdict")).to_have_text("happy")
        expect(card(page, "wall.png").locator(".panel")).to_contain_text(
            re.compile(r"Could not find a face\.\s*Try a picture in which")
        )
        expect(card(page, "notes.png").locator(".note")).to_have_text(re.compile("This is not a picture. Choose"))
        expect(card(page, "empty.png").locator(".note")).to_have_text("This file is empty. Choose another one.")
        undecided = card(page, "b.png")
        expect(undecided.locator(".verdict")).to_have_text("neutral")
        expect(page.locator("#pictures-count")).to_have_text("5 pictures · 2 faces")
        assert [c.get_attribute("aria-label") for c in page.get_by_role("article").all()] == [
            "empty.png", "a.png", "wall.png", "notes.png", "b.png",
        ]  # fmt: skip
        table = download(page, page, "All as CSV", tmp_path).read_text("utf-8").splitlines()
        assert [row["source"] for row in csv.DictReader(table)] == ["a.png", "wall.png", "b.png"]
        page.get_by_role("button", name="Remove notes.png").click()
        page.get_by_role("button", name="Clear").click()
        expect(page.get_by_role("article")).to_have_count(0)


def change_faces(page: Page, change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
    """Make what the service says of one face into something that the fake models never say."""

    def answer(route: Route) -> None:
        told = route.fetch()
        body = told.json()
        body["pictures"][0]["faces"] = change(body["pictures"][0]["faces"][0])
        route.fulfill(response=told, json=body)

    page.route("**/v1/analyze*", answer)


def in_use(route: Route) -> None:
    """Say that the bundled model reads."""
    told = route.fetch()
    body = told.json()
    for model in body["models"]:
        model["in_use"] = model["name"] == "expression"
    route.fulfill(response=told, json=body)


def test_where_people_disagree(browser: Browser, fake: str) -> None:
    flat = {"happy": 0.4, "surprise": 0.35, "neutral": 0.25}
    with visit(browser, fake) as page:
        change_faces(page, lambda one: [one | {"scores": one["scores"] | flat, "undecided": True}])
        give(page, ("a.png", face()))
        expect(card(page, "a.png").locator(".verdict")).to_have_text("happy or surprise")
        # Nothing says that the fake model learned from votes.
        expect(card(page, "a.png").locator(".note")).to_have_text(
            "The model is not decided here. Its best score, that of happy, is 0.40."
        )
        page.route("**/v1/models", in_use)
        page.reload()
        expect(page.locator("html[data-ready]")).to_be_attached()
        give(page, ("a.png", face()))
        expect(card(page, "a.png").locator(".note")).to_have_text(
            "Even people disagree here. Fewer than half of them would call it happy: the score is 0.40."
        )


def test_a_busy_service_is_asked_again(browser: Browser, fake: str) -> None:
    asked: list[str] = []

    def busy(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) > 1:
            return route.continue_()
        return route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": {"code": "busy", "message": ""}})

    with visit(browser, fake, refused=1) as page:
        page.route("**/v1/analyze*", busy)
        give(page, ("a.png", face()))
        expect(page.locator(".working")).to_have_text("Many are asking right now. Trying again in 1 s.")
        expect(card(page, "a.png").locator(".face")).to_have_count(1)
    assert len(asked) == 2


def test_two_requests_at_once_at_most(browser: Browser, fake: str) -> None:
    held: list[Route] = []
    passing: list[bool] = []
    with visit(browser, fake) as page:
        page.route("**/v1/analyze*", lambda route: route.continue_() if passing else held.append(route))
        give(page, *((f"{i}.png", face()) for i in range(4)))
        expect(page.locator(".working", has_text="Reading")).to_have_count(2)
        expect(page.locator(".working", has_text="Waiting for its turn")).to_have_count(2)
        assert len(held) == 2
        passing.append(True)
        for route in held:
            route.continue_()
        expect(page.locator("article[aria-busy=false]")).to_have_count(4)


_PASTE = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], 'image.png', { type: 'image/png' }));
  document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
}"""
_DROP = """([name, type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  for (const kind of ['dragenter', 'dragover', 'drop']) {
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


def test_paste_and_drop(browser: Browser, fake: str) -> None:
    with visit(browser, f"{fake}/#stored") as page:
        page.evaluate(_PASTE, list(face()))
        expect(page).to_have_url(f"{fake}/#pictures")
        expect(card(page, "image.png").locator(".face")).to_have_count(1)
        page.evaluate(_DROP, ["dropped.png", "image/png", list(face())])
        expect(card(page, "dropped.png").locator(".face")).to_have_count(1)


def test_by_keyboard_alone(browser: Browser, fake: str) -> None:
    with visit(browser, fake) as page:
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        change_faces(page, lambda one: [one, one | {"face": 1, "box": [5, 20, 35, 60]}])
        give(page, ("a.png", face()))
        card(page, "a.png")
        page.locator("#pictures-file").focus()
        outlines = page.locator("label.button", has=page.locator("#pictures-file"))
        assert outlines.evaluate("(n) => getComputedStyle(n).outlineStyle") == "solid"
        seen = []
        for _ in range(20):
            page.keyboard.press("Tab")
            seen.append(
                page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
            )
            if seen[-1].startswith("Face 2"):
                break
        assert seen[-1].startswith("Face 2")
        assert any(s.startswith("Remove") for s in seen)
        page.keyboard.press("Enter")
        # What was chosen is drawn anew and still has the focus.
        chosen = page.locator(".face").nth(1)
        expect(chosen).to_be_focused()
        expect(chosen).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#say")).to_have_text(re.compile("Face 2: "))
        page.get_by_role("link", name="Camera").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="In front of the camera")).to_be_focused()


def test_three_languages(browser: Browser, fake: str) -> None:
    said = {
        "de-DE": ("What does this face show?", "happy", r"0\.\d\d"),
        "zh-CN": ("这张脸是什么表情？", "高兴", r"0\.\d\d"),
        "ru-RU": ("Что выражает это лицо?", "радость", r"0,\d\d"),
    }
    for locale, (title, word, value) in said.items():
        with visit(browser, fake, locale=locale, **PHONE) as page:
            expect(page.get_by_role("heading", level=1)).to_have_text(title)
            expect(page.locator("label.touch")).to_be_visible()
            for view in ("film", "camera", "stored", "setup", "pictures"):
                page.goto(f"{fake}/#{view}")
                expect(page.locator(f"#{view} h1").first).to_be_visible()
                assert too_wide(page) == 0
            give(page, ("a.png", face(red=255)))
            expect(card(page, "a.png").locator(".verdict")).to_have_text(word)
            expect(card(page, "a.png").get_by_role("row", name=word)).to_have_text(re.compile(value))
            if locale == "ru-RU":
                # What is there already changes with the language, and the choice outlives a reload.
                page.locator("#language").select_option("zh")
                expect(card(page, "a.png").locator(".verdict")).to_have_text("高兴")
                page.reload()
                expect(page.get_by_role("heading", level=1)).to_have_text(said["zh-CN"][0])
                expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")


def test_light_and_dark(browser: Browser, fake: str) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with visit(browser, fake, color_scheme="dark") as page:
        dark = page.evaluate(paper)
        page.emulate_media(color_scheme="light")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        light = page.evaluate(paper)
        page.locator("#theme").click()
        assert page.evaluate(paper) == dark != light
        page.reload()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_purpose_is_declared_first(browser: Browser, tmp_path: Path) -> None:
    with (
        running(settings(tmp_path, port=0, purpose=None), analyzer=fake_analyzer(), run=False) as address,
        visit(browser, address, refused=2) as page,
    ):
        expect(page.get_by_role("heading", level=1)).to_have_text("What is it for?")
        expect(page.locator("#undeclared")).to_be_visible()
        expect(page.get_by_role("radio")).not_to_have_count(0)
        refused = page.locator(".refused")
        expect(refused).to_contain_text("Watching or judging people at work")
        expect(refused.get_by_role("radio")).to_have_count(0)
        page.goto(f"{address}/#pictures")
        give(page, ("a.png", face()))
        expect(card(page, "a.png").locator(".note")).to_contain_text("No purpose is declared yet")
        page.goto(f"{address}/#setup")
        page.get_by_role("radio", name="Something else").check()
        page.get_by_label("In your words").fill("I watch how my employees at work feel")
        page.get_by_role("button", name="Declare this purpose").click()
        expect(page.locator("#setup-error")).to_contain_text("The note names a use that is refused")
        page.get_by_role("radio", name="Private pictures and films").check()
        page.get_by_label("In your words").fill("")
        page.get_by_role("button", name="Declare this purpose").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("What does this face show?")
        expect(page.locator("#undeclared")).to_be_hidden()
        expect(page.locator("#foot-purpose")).to_have_text("Purpose: Private pictures and films")
        give(page, ("b.png", face()))
        expect(card(page, "b.png").locator(".face")).to_have_count(1)


def test_tokens(browser: Browser, tmp_path: Path) -> None:
    token, line = make_token("anna", Role.USER)
    (tmp_path / "tokens.txt").write_text(f"{line}\n")
    (tmp_path / "tokens.txt").chmod(0o600)
    chosen = settings(tmp_path / "state", port=0, token_file=tmp_path / "tokens.txt")
    with running(chosen, analyzer=fake_analyzer(), run=False) as address, visit(browser, address, refused=3) as page:
        dialog = page.get_by_role("dialog", name="A token, please")
        dialog.get_by_label("Token").fill("mien_guessed")
        dialog.get_by_role("button", name="Go on").click()
        expect(dialog.get_by_role("alert")).to_contain_text("This token was not accepted")
        dialog.get_by_label("Token").fill(token)
        dialog.get_by_role("button", name="Go on").click()
        expect(dialog).to_be_hidden()
        give(page, ("a.png", face()))
        expect(card(page, "a.png").locator(".face")).to_have_count(1)
        page.goto(f"{address}/#camera")
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#camera-state")).to_have_text("Analysing.")
        # It lies in this tab alone.
        assert page.evaluate("sessionStorage.length") == 1
        assert token not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
        page.get_by_role("button", name="Forget the token").click()
        page.locator("html[data-ready]").wait_for(state="attached")
        assert page.evaluate("sessionStorage.length") == 0


def texts(language: str) -> dict[str, str]:
    held: dict[str, str] = json.loads((WEB / "texts" / f"{language}.json").read_text("utf-8"))["page"]
    return held


def test_every_text_is_there_in_every_language() -> None:
    english = texts("en")
    for language in LANGUAGES:
        held = texts(language)
        assert held.keys() == english.keys()
        for key, text in held.items():
            assert text.strip(), key
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[key])), key


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    source = "".join(p.read_text("utf-8") for p in [WEB / "index.html", *sorted((WEB / "js").glob("*.js"))])
    known = texts("en")
    named = set(re.findall(r"""data-(?:text|label)="([\w.]+)"|\bt\("([\w.]+)\"""", source))
    plain = {a or b for a, b in named}
    assert plain <= known.keys()
    counted = set(re.findall(r"""counted\("([\w.]+)\"""", source))
    assert {f"{c}.{form}" for c in counted for form in ("one", "few", "many", "other")} <= known.keys()
    # Keys that are put together from a word: their beginning is in the source.
    loose = [k for k in known if k not in source and not any(k.startswith(c) for c in counted)]
    assert not [k for k in loose if f"{k.rpartition('.')[0]}.$" not in source]


def test_the_page_paints_as_the_pictures_do() -> None:
    said = dict(re.findall(r'(\w+): "(#[0-9a-f]{6})"', (WEB / "js" / "palette.js").read_text("utf-8")))
    assert said == {label: "#{:02x}{:02x}{:02x}".format(*colour) for label, colour in COLOURS.items()}
