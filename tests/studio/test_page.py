"""The studio in a browser: what visitors do, what they see, and what they do not see of each other."""

import importlib.util
import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat
from safetensors.torch import load_file

from pixel2style import images
from pixel2style.studio.launch import TIDIED
from tests.support import browser as browsers
from tests.support.paths import ASTRONAUT
from tests.support.stand_in import save_random_model

pytestmark = [
    pytest.mark.slow,  # a browser and a server: a minute
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="the extra studio is not installed"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsers.Studio]:
    runs = tmp_path_factory.mktemp("runs")
    (runs / "mine").mkdir()
    lines = [{"step": step, "train/loss": 1 / (1 + step), "lr": 0.1} for step in range(5)]
    (runs / "mine" / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    model = save_random_model(runs / "sketch.safetensors", channels=1, task="sketch")
    yield from browsers.studio("--runs", str(runs), "--model", str(model))


@pytest.fixture(scope="module")
def url(server: browsers.Studio) -> str:
    return server.url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    yield from browsers.chromium()


@pytest.fixture
def page(chromium: Any, url: str) -> Iterator[Any]:
    page, wrong = browsers.visit(chromium, url)
    yield page
    page.context.close()
    assert wrong == []


WIDER = """[...document.querySelectorAll('button, input, canvas, img, .block')]
  .filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"""
ANSWER = """
const seen = where => [...document.querySelectorAll(where)].filter(e => e.offsetParent).pop();
const answer = async (where, before, width) => {
  for (const begun = performance.now(); performance.now() - begun < 120000;) {
    const image = seen(where);
    if (image && image.src !== before && image.complete && image.naturalWidth === width) return image.src;
    await new Promise(done => setTimeout(done, 20));
  }
  throw new Error(`no picture of ${width} pixels came`);
};
"""
MOVES = f"""async values => {{ {ANSWER}
  const slider = document.querySelector('input[aria-label^="range slider for age"]');
  let shown = await answer('.stage img', '', 1024);
  for (const value of values) {{
    slider.value = value;
    slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
    shown = await answer('.stage img', shown, 256);
    slider.dispatchEvent(new PointerEvent('pointerup', {{ bubbles: true }}));
    shown = await answer('.stage img', shown, 1024);
  }}
}}"""
"""Move a slider to each value and let it go: wait for the preview and for the picture."""
STROKES = f"""async places => {{ {ANSWER}
  const canvas = seen('.pad canvas'), box = canvas.getBoundingClientRect();
  canvas.setPointerCapture = () => 0;
  const pointer = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {{ pointerId: 1, bubbles: true,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height }}));
  for (const [x, y] of places) {{
    const before = seen('.face img')?.src;
    pointer('pointerdown', x, y);
    pointer('pointerup', x, y);
    await answer('.face img', before, 1024);
  }}
}}"""
"""Touch a canvas at each place; wait for the face."""


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


def test_the_keyboard_draws_on_the_canvas(page: Any) -> None:
    page.get_by_role("tab", name="Draw").click()
    canvas = page.locator(".pad canvas:visible")
    canvas.wait_for()
    page.locator(".pad:visible button").first.focus()
    page.keyboard.press("Shift+Tab")
    assert canvas.evaluate("e => e === document.activeElement")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    spot = page.locator(".pad:visible i")
    assert spot.evaluate("e => [getComputedStyle(e).visibility, e.style.left, e.style.top]") == [
        "visible", "46.875%", "48.4375%",
    ]  # fmt: skip
    dark = "e => e.getContext('2d').getImageData(e.width * 0.46875, e.height * 0.484375, 1, 1).data[0] < 128"
    assert not canvas.evaluate(dark)
    page.keyboard.press("Space")
    assert canvas.evaluate(dark)
    page.locator(".face:visible img").wait_for()
    tools = page.locator(".pad:visible")
    tools.get_by_role("button", name="Undo").press("Enter")
    assert not canvas.evaluate(dark)
    corner = "e => e.getContext('2d').getImageData(0, 0, 1, 1).data[0] < 128"
    tools.get_by_role("button", name="Fill").press("Enter")
    canvas.press("Space")
    assert canvas.evaluate(corner)
    tools.get_by_role("button", name="Clear").press("Enter")
    assert not canvas.evaluate(corner)


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


def test_a_tab_that_is_chosen_before_the_page_is_ready_stays_open(page: Any, url: str) -> None:
    held: list[Any] = []
    page.route("**/queue/join*", lambda request: held.append(request))
    page.goto(f"{url}?age=1.5")
    page.get_by_role("tab", name="Draw").click()
    page.locator(".pad canvas:visible").wait_for()
    for _ in range(100):
        if len(held) == 2:  # what a link sets: sliders and the tab
            break
        page.wait_for_timeout(100)
    for request in held:
        request.continue_()
    page.unroute("**/queue/join*")
    page.wait_for_function(
        "[...document.querySelectorAll('input[aria-label^=\"range slider for age\"]')].some(e => e.value === '1.5')"
    )
    page.wait_for_timeout(500)
    assert page.locator(".pad canvas:visible").count() == 1


def test_the_camera_is_used_where_it_is_allowed_and_a_refusal_is_a_sentence(chromium: Any, url: str) -> None:
    for permissions, role, words in (
        ([], "[role=alert]", "The browser refuses"),
        (["camera"], ".toast-body", "No face was found"),  # the picture arrives: it shows none
    ):
        page, wrong = browsers.visit(chromium, url, permissions=permissions)
        own = page.locator("#edit-photograph")
        own.get_by_label("Capture from camera").click()
        own.get_by_text("Click to Access Webcam").click()
        if permissions:
            page.wait_for_function("document.querySelector('#edit-photograph video')?.videoWidth > 0")
            own.get_by_label("capture photo").click()
        page.locator(role, has_text=words).wait_for()
        page.context.close()
        assert wrong == []


def test_on_a_phone_nothing_is_wider_than_the_page_and_the_face_stays_in_sight(chromium: Any, url: str) -> None:
    page, wrong = browsers.visit(chromium, url, width=390, color_scheme="dark")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.get_by_role("button", name="Example").click()
    page.get_by_text("How close the drawn face is").wait_for()
    for name in ("Paint on the face", "Mix with another photograph", "Variants", "Pose", "Light"):
        page.get_by_role("button", name=re.compile(f"^{name}")).click()
    page.get_by_role("slider", name="range slider for anger").scroll_into_view_if_needed()
    in_sight = "e => { const box = e.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; }"
    assert page.locator(".stage:visible").evaluate(in_sight)
    for tab in ("Edit", "Draw", "Repair", "Train"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert page.evaluate(WIDER) == []
    page.get_by_role("tab", name="Draw").click()
    page.locator(".pad canvas:visible").evaluate("e => e.scrollIntoView({ block: 'end' })")
    assert page.locator(".face:visible").evaluate(in_sight)
    page.context.close()
    assert wrong == []


def test_a_hundred_requests_leave_memory_where_it_was(page: Any, server: browsers.Studio) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from Linux's /proc")
    page.get_by_role("button", name="Example").click()
    page.get_by_text("How close the drawn face is").wait_for()
    held = []
    for part in range(3):  # the first one fills caches
        page.get_by_role("tab", name="Edit").click()
        page.locator(".stage:visible").wait_for()
        page.evaluate(MOVES, [(-1) ** part * (0.3 + move / 10) for move in range(17)])  # a preview and a picture each
        page.get_by_role("tab", name="Draw").click()
        page.get_by_role("tab", name="Map of parts").click()
        page.get_by_role("button", name="skin").locator("visible=true").click()
        page.evaluate(STROKES, [[(part + 0.5) / 3, (stroke + 0.5) / 16] for stroke in range(16)])
        page.wait_for_timeout(1000 * TIDIED + 2000)
        held.append(server.memory())
    assert held[2] - held[1] < 20, held


def test_everything_that_can_be_used_has_a_name(page: Any) -> None:
    unnamed = """() => {
        const named = e => e.ariaLabel || e.title || e.innerText.trim() || e.labels?.length || e.closest('label')
          || e.getAttribute('aria-labelledby');
        const all = [...document.querySelectorAll('button, input, canvas, select, textarea')];
        return all.filter(e => e.offsetParent && !named(e)).map(e => e.outerHTML);
    }"""
    for tab in ("Draw", "Repair", "Train", "Edit"):
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
