"""The studio in a process of its own, in a real browser: Debian's Chromium, driven by playwright."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import PYTHONPATH

NAMES = ("chromium", "chromium-browser", "google-chrome")


PASSWORD = "a word"


@dataclass(frozen=True)
class Studio:
    """A running studio."""

    url: str
    process: int

    def memory(self) -> float:
        """MB that its process holds, as Linux counts them (VmRSS)."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process}/status").read_text())
        assert found
        return int(found[1]) / 1024


def studio(*words: str) -> Iterator[Studio]:
    """A running studio with a password, by the command with these words; it has to end by itself."""
    command = [sys.executable, "-m", "pixel2style", "studio", "--no-browser", "--password", PASSWORD, *words]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.match(r"the studio is at (http\S+);", process.stdout.readline())
            assert found
            yield Studio(found[1], process.pid)
        finally:
            process.terminate()
            assert process.wait(30) == 0


def chromium() -> Iterator[Any]:
    """A running browser; the test is skipped where there is none."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (apt-get install chromium)")
    with driver.sync_playwright() as running:
        words = ["--no-sandbox", "--use-fake-device-for-media-stream"]  # a camera that shows a moving test pattern
        browser = running.chromium.launch(executable_path=path, args=words)
        yield browser
        browser.close()


def visit(browser: Any, url: str, width: int = 1280, **options: Any) -> tuple[Any, list[str]]:
    """A page at ``url`` in a context of its own, and the list of what goes wrong in it, filled as it happens.

    Wrong are requests to other machines and errors of scripts. ``options`` are those of ``Browser.new_context``.
    """
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    page.set_default_timeout(120_000)  # other programs may want the processors, too
    assert page.request.post(f"{url.split('?')[0]}login", form={"username": "anybody", "password": PASSWORD}).ok
    wrong: list[str] = []
    own = (url.split("?")[0].rstrip("/"), "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(own) else wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(url)
    page.get_by_role("tab", name="Edit").wait_for()
    return page, wrong
