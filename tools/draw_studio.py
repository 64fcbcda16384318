"""Draw the pictures of docs/studio.md: the studio in a browser, 1280 and 390 pixels wide.

python tools/draw_studio.py --out docs/images
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from pixel2style import images

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"


def drag(page: Any, name: str, value: float) -> None:
    """Move a slider and let it go."""
    slider = page.get_by_role("slider", name=f"range slider for {name}")
    slider.evaluate(
        """(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', { bubbles: true }));
           slider.dispatchEvent(new PointerEvent('pointerup', { bubbles: true })); }""",
        value,
    )
    page.wait_for_timeout(2500)


def save(page: Any, file: Path) -> None:
    """What the window shows, as JPEG."""
    images.save(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    command = [sys.executable, "-m", "pixel2style", "studio", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as running:
        assert process.stdout is not None
        address = re.search(r"http\S+(?=;)", process.stdout.readline())
        assert address is not None
        browser = running.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for width, height, dark in ((1280, 830, False), (390, 844, True)):
            scheme: Any = "dark" if dark else "light"
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_default_timeout(120_000)
            page.goto(address[0])
            page.get_by_role("button", name="Example").click()
            page.get_by_text("How close the drawn face is").wait_for()
            drag(page, "age", 1.5)
            page.mouse.move(5, 5)
            if width < 500:
                page.locator(".stage").scroll_into_view_if_needed()
                page.mouse.wheel(0, 330)
            page.wait_for_timeout(1000)
            save(page, out / f"studio-{width}.jpg")
            if width > 1000:
                page.get_by_role("tab", name="Draw", exact=True).click()
                page.get_by_role("tab", name="Map of parts").click()
                page.get_by_role("button", name="Start from a photograph").locator("visible=true").click()
                page.locator("#segmentation-photograph input[type=file]").set_input_files(ASTRONAUT)
                page.wait_for_timeout(15_000)
                page.get_by_role("button", name="Draw variants").locator("visible=true").click()
                page.wait_for_timeout(6000)
                page.evaluate("scrollTo(0, 0)")
                save(page, out / "studio-draw.jpg")
        browser.close()
        process.terminate()


if __name__ == "__main__":
    main()
