"""The studio in a browser: what visitors do, what they see, and what they do not see of each other."""

import importlib.util
import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat
from safetensors.torch import load_file

from pixel2style import images
from tests.support import browser as browsers
from tests.support.paths import ASTRONAUT
from tests.support.stand_in import save_random_model

pytestmark = [
    pytest.mark.slow,  # a browser and a server: a minute
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the extra studio is not installed"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    runs = tmp_path_factory.mktemp("runs")
    (runs / "mine").mkdir()
    lines = [{"step": step, "train/loss": 1 / (1 + step), "lr": 0.1} for step in range(5)]
    (runs / "mine" / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    model = save_random_model(runs / "sketch.safetensors", channels=1, task="sketch")
    yield from browsers.studio("--runs", str(runs), "--model", str(model))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    yield from browsers.chromium()


@pytest.fixture
def page(chromium: Any, url: str) -> Iterator[Any]:
    page, wrong = browsers.visit(chromium, url)
    yield page
    page.context.close()
    assert wrong == []


def upload(page: Any, file: Path | dict[str, Any], tab: str = "edit") -> None:
    page.locator(f"#{tab}-photograph input[type=file]").set_input_files(file)


def stage(page: Any) -> Any:
    return page.locator(".stage:visible img").last


def picture(page: Any) -> Image.Image:
    """What the page shows after the change."""
    body = page.request.get(stage(page).get_attribute("src")).body()
    return Image.open(io.BytesIO(body)).convert("RGB")


def wait_for_another(page: Any, before: str, width: int = 1024) -> None:
    page.wait_for_function(
        """([before, width]) => {
           const image = [...document.querySelectorAll('.stage img')].filter(e => e.offsetParent).pop();
           return image && image.src !== before && image.complete && image.naturalWidth === width; }""",
        arg=[before, width],
    )


def settle(page: Any) -> None:
    """Wait until the page shows a picture of full size and goes on showing it: the answer to the last of many moves."""
    shown = None
    for _ in range(20):
        wait_for_another(page, "")
        now = stage(page).get_attribute("src")
        if now == shown:
            return
        shown = now
        page.wait_for_timeout(1500)
    raise AssertionError("the picture does not come to rest")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Of the mean pixel, in levels."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def test_a_photograph_is_uploaded_changed_with_the_keyboard_undone_and_downloaded(page: Any, tmp_path: Path) -> None:
    upload(page, ASTRONAUT)
    page.get_by_text("How close the drawn face is").wait_for()
    wait_for_another(page, "")
    first, before = picture(page), stage(page).get_attribute("src")
    slider = page.get_by_role("slider", name="range slider for age")
    for _ in range(4):
        slider.press("PageUp")
    wait_for_another(page, before)
    page.wait_for_url("**age=*")
    settle(page)
    older = picture(page)
    assert difference(first, older) > 1
    page.get_by_role("button", name="Download").first.click()
    page.get_by_role("button", name="Make files to download").click()
    files = {}
    for name in ("face.png", "photograph.png", "latents.safetensors"):
        with page.expect_download() as download:
            page.locator(f"a[download='{name}']").click()
        files[name] = tmp_path / name
        download.value.save_as(files[name])
    assert difference(images.load(files["face.png"]), older) < 2  # the page shows a JPEG
    assert images.load(files["photograph.png"]).size == images.load(ASTRONAUT).size
    assert load_file(files["latents.safetensors"])["face"].shape == (16, 512)
    before = stage(page).get_attribute("src")
    page.get_by_role("button", name="Undo edit").click()
    wait_for_another(page, before)
    assert difference(first, picture(page)) < difference(first, older)


def test_a_broken_upload_is_a_sentence_without_folders_of_this_machine(page: Any) -> None:
    upload(page, {"name": "broken.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\nnothing"})
    said = page.locator(".toast-body, .toast-text").first
    said.wait_for()
    assert "broken.png" in said.inner_text() and "/" not in said.inner_text()


def test_what_is_painted_is_filled_and_the_rest_stays(page: Any) -> None:
    page.get_by_role("tab", name="Repair").click()
    upload(page, ASTRONAUT, "repair")
    sheet = page.locator(".pad img:visible")
    sheet.wait_for()
    page.wait_for_timeout(200)
    box = page.locator(".pad canvas:visible").bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.72 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.72 * box["height"], steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Repair", exact=True).click()
    wait_for_another(page, "")
    body = page.request.get(page.locator(".stage:visible img").first.get_attribute("src")).body()
    before, after = Image.open(io.BytesIO(body)).convert("RGB"), picture(page)
    top, mouth = (0, 0, 1024, 512), (450, 700, 570, 770)
    assert difference(before.crop(top), after.crop(top)) < 1 < difference(before.crop(mouth), after.crop(mouth))


def test_the_face_follows_the_pen(page: Any) -> None:
    page.get_by_role("tab", name="Draw").click()
    canvas = page.locator(".pad canvas:visible")
    canvas.wait_for()
    face, before = page.locator(".face img"), ""
    for place in (0.3, 0.6):
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + place * box["width"], box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        page.mouse.up()
        page.wait_for_function("before => (document.querySelector('.face img')?.src ?? before) !== before", arg=before)
        before = face.get_attribute("src")
    canvas.press("ArrowLeft")
    canvas.press(" ")
    page.wait_for_function("before => document.querySelector('.face img').src !== before", arg=before)


def test_visitors_do_not_see_each_others_pictures(chromium: Any, url: str, page: Any) -> None:
    other, wrong = browsers.visit(chromium, url)
    page.get_by_role("button", name="Example").click()
    page.get_by_text("How close the drawn face is").wait_for()
    assert other.locator(".stage img").count() == 0
    other.get_by_role("button", name="Download").first.click()
    other.get_by_role("button", name="Make files to download").click()
    other.get_by_text("Choose a photograph first").wait_for()
    other.context.close()
    assert wrong == []


def test_a_link_opens_a_tab_with_its_sliders(chromium: Any, url: str) -> None:
    page, wrong = browsers.visit(chromium, f"{url}?tab=train&age=1.5&smile=x", width=390)
    page.get_by_text("Step 4: lr 0.1, train/loss 0.2").wait_for()
    assert page.get_by_role("slider", name="range slider for age", include_hidden=True).input_value() == "1.5"
    assert page.get_by_role("slider", name="range slider for smile", include_hidden=True).input_value() == "0"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.context.close()
    assert wrong == []


def test_everything_that_can_be_used_has_a_name(page: Any) -> None:
    unnamed = """() => {
        const named = e => e.ariaLabel || e.title || e.innerText.trim() || e.labels?.length || e.closest('label')
          || e.getAttribute('aria-labelledby');
        const all = [...document.querySelectorAll('button, input, canvas, select, textarea')];
        return all.filter(e => e.offsetParent && !named(e)).map(e => e.outerHTML);
    }"""
    for tab in ("Repair", "Train", "Edit"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        assert page.evaluate(unnamed) == []


def status(url: str, body: bytes | None = None, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers=headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_password_guards_what_the_page_does(url: str) -> None:
    assert status(url) == 200  # the page that asks for it
    assert status(f"{url}gradio_api/info") == 401
    assert status(f"{url}login", b"username=anybody&password=wrong") == 400


def test_pages_of_other_names_are_refused_and_nothing_is_loaded_from_elsewhere(url: str) -> None:
    assert status(url, Host="evil.example") == 400
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["content-security-policy"].startswith("default-src 'self'")
