"""How long the studio takes to answer, seen from the browser on the same machine.

For a move of a slider: the time from the event to a decoded preview of 256 pixels in the page, and from letting go to
the picture of 1024. For a stroke of the pen on the canvas for sketches: to the preview. A browser (Chromium, driven by
playwright) shows the page of a studio that this command starts. Without a model for sketches (``--sketch``) an
untrained one of the compact preset's shape is measured, which costs the same.

    python benchmarks/studio.py [--moves 30] [--sketch FILE] [--json FILE]
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pixel2style as p2s
from pixel2style.models import encoders

WAIT = """
const shown = () => [...document.querySelectorAll(where)].filter(e => e.offsetParent).pop();
const settle = () => new Promise(done => setTimeout(done, 700));
const next = async (before, wide) => {
  for (const begun = performance.now(); performance.now() - begun < 20000;) {
    const image = shown();
    if (image && image.src !== before && image.complete && image.naturalWidth === wide) return image.decode();
    await new Promise(done => setTimeout(done, 4));
  }
  throw new Error('no picture came: ' + wide + ' ' + before + ' ' + shown()?.src + ' ' + shown()?.naturalWidth);
};
"""
SLIDER = f"""async moves => {{ const where = '.stage img'; {WAIT}
  const sliders = [...document.querySelectorAll('input[type=range]')];
  const slider = sliders.find(e => e.ariaLabel?.startsWith('range slider for age'));
  const found = {{ preview: [], picture: [] }};
  for (let i = 0; i < moves; i++) {{
    let before = shown().src, begun = performance.now();
    slider.value = (i % 2 ? 1 : -1) * (0.5 + i % 7 / 4);
    slider.dispatchEvent(new Event('input', {{ bubbles: true }}));
    await next(before, 256);
    found.preview.push(performance.now() - begun);
    before = shown().src; begun = performance.now();
    slider.dispatchEvent(new PointerEvent('pointerup', {{ bubbles: true }}));
    await next(before, 1024);
    found.picture.push(performance.now() - begun);
    await settle();
  }}
  return found;
}}"""
STROKE = f"""async moves => {{ const where = '.face img'; {WAIT}
  const canvas = [...document.querySelectorAll('.pad canvas')].find(e => e.offsetParent);
  const box = canvas.getBoundingClientRect(), found = [];
  const point = (kind, x, y) => canvas.dispatchEvent(new PointerEvent(kind, {{ pointerId: 1, bubbles: true,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height }}));
  canvas.setPointerCapture = () => 0;
  for (let i = 0; i <= moves; i++) {{
    const before = shown()?.src, begun = performance.now();
    point('pointerdown', 0.2 + i % 9 / 15, 0.1 + 0.8 * i / (moves + 1));
    await next(before, 256);
    if (i) found.push(performance.now() - begun);
    point('pointerup', 0, 0);
    await settle();
  }}
  return found;
}}"""


def untrained(folder: Path) -> Path:
    """A model for sketches with random numbers, of the shape that the compact preset trains."""
    base = p2s.load("faces")
    encoder = replace(base.encoder.config, input_channels=1)
    config = replace(base.config, task="sketch", encoder=encoder, detail=None, feedback=False, iterations=1)
    model = p2s.PSP(encoders.build(encoder), base.generator, config, base.w_avg, base.w_unit)
    p2s.save(model, folder / "sketch.safetensors")
    return folder / "sketch.safetensors"


def measured(url: str, moves: int) -> dict[str, list[float]]:
    """Milliseconds of each answer, by what was asked."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.get_by_role("button", name="Example").click()
        page.get_by_text("How close the drawn face is").wait_for()
        page.wait_for_timeout(1000)
        found: dict[str, Any] = page.evaluate(SLIDER, moves)
        page.get_by_role("tab", name="Draw").click()
        page.wait_for_timeout(1000)
        strokes: list[float] = page.evaluate(STROKE, moves)
        browser.close()
    return {
        "slider, preview of 256 pixels": found["preview"],
        "slider let go, picture of 1024": found["picture"],
        "pen, preview of 256 pixels": strokes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--sketch", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.sketch or untrained(Path(folder))
        command = [sys.executable, "-m", "pixel2style", "studio", "--no-browser", "--model", str(model)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            address = re.search(r"http\S+(?=;)", process.stdout.readline())
            assert address is not None
            try:
                found = measured(address[0], options.moves)
            finally:
                process.terminate()
    for name, times in found.items():
        ordered = sorted(times)
        print(
            f"{name:<32} median {statistics.median(ordered):4.0f} ms, 95th {ordered[int(0.95 * len(ordered))]:4.0f} ms"
        )
    if options.json:
        options.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
