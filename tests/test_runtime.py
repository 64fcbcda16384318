"""What is said where a busy machine makes a photograph take long, and what is done with freed memory."""

import os
from pathlib import Path

import pytest
import torch

from pixel2style import runtime
from pixel2style.cli import progress
from pixel2style.inference.folder import Outcome
from pixel2style.photos import Photo
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processors for nine processes, and nothing said about OpenMP."""
    monkeypatch.setattr(os, "getloadavg", lambda: (9.0, 9.0, 9.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(runtime, "CRAWLING", 10.0)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)


def test_only_what_takes_long_on_a_busy_machine_is_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "load 9 on 2" in runtime.crawling(24.0)
    assert runtime.crawling(0.5) == ""
    monkeypatch.setattr(os, "getloadavg", lambda: (2.2, 9.0, 9.0), raising=False)
    assert runtime.crawling(24.0) == ""


@pytest.mark.parametrize(
    ("name", "value", "spins"),
    [
        ("OMP_WAIT_POLICY", "ACTIVE", True),
        ("OMP_WAIT_POLICY", "passive", False),
        ("GOMP_SPINCOUNT", "2000", False),
        ("GOMP_SPINCOUNT", "infinite", True),
    ],
)
def test_threads_that_spin_while_they_wait_are_named(
    name: str, value: str, spins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert (f"unset {name}" in runtime.crawling(24.0)) == spins


def test_a_run_says_it_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runtime, "CRAWLING", 0.0)
    outcomes = (Outcome(Photo(ROOT / f"{number}.png", str(number), ROOT), skipped=True) for number in range(3))
    assert progress.report(outcomes, 3, "inverted") == 0
    assert capsys.readouterr().err.count("load 9 on 2") == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_freed_memory_is_returned() -> None:
    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    runtime.return_freed_memory()  # what earlier tests left would be used in place of new memory
    before = pages()
    held = [torch.ones(16_000) for _ in range(2_000)]  # 64 KB each: too small to be returned when freed
    del held[:-1]  # the last one keeps the heap from shrinking
    kept = pages() - before
    runtime.return_freed_memory()
    assert pages() - before < 0.1 * kept
    assert kept * os.sysconf("SC_PAGE_SIZE") > 100e6
