"""Rows survive kills and other processes, and a run goes on where it was stopped."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pixel2style import images
from pixel2style.cli import main
from pixel2style.errors import OutputError
from pixel2style.files import writing
from pixel2style.inference.latents_file import LATENTS, LatentsFile
from tests.support import stand_in
from tests.support.paths import ASTRONAUT

WRITER = """
import sys, torch
from pathlib import Path
from pixel2style.inference.latents_file import LatentsFile
own = LatentsFile(Path(sys.argv[1]))
for number in range(int(sys.argv[3])):
    name = f"{sys.argv[2]}/{number}"
    own.add(name, {name: torch.full((2, 3), float(number))})
    if number % 5 == 4:
        own.join()
own.join()
"""


def run(*words: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_rows_are_there_at_once_and_in_the_file_after_joining(tmp_path: Path) -> None:
    rows = LatentsFile(tmp_path)
    rows.add("deep/a", {"deep/a": torch.ones(2, 3), "deep/a.samples": torch.zeros(1, 2, 3)})
    assert rows.has("deep/a") and not rows.has("b")
    assert LatentsFile(tmp_path).has("deep/a")  # a later process joins what a killed one left
    assert set(load_file(tmp_path / LATENTS)) == {"deep/a", "deep/a.samples"}
    assert [path.name for path in tmp_path.iterdir()] == [LATENTS]


def test_samples_of_one_photograph_and_rows_of_another_never_replace_each_other(tmp_path: Path) -> None:
    """The photograph ``a.samples`` has its rows where ``edit a --strip`` stores what it drew."""
    rows, samples = {"a.samples": torch.ones(2, 3)}, {"a": torch.ones(2, 3), "a.samples": torch.zeros(1, 2, 3)}
    for name, first, other, second in (("a", samples, "a.samples", rows), ("a.samples", rows, "a", samples)):
        own = tmp_path / name
        own.mkdir()
        file = LatentsFile(own)
        file.add(name, first)
        with pytest.raises(OutputError, match=r"a\.samples"):
            file.add(other, second)
        file.join()
        later = LatentsFile(own)
        assert later.has(name) and not later.has(other)
        with pytest.raises(OutputError, match=r"a\.samples"):
            later.add(other, second)
        assert load_file(own / LATENTS).keys() == first.keys()


def test_rows_of_another_command_are_kept_but_are_not_those_of_this_one(tmp_path: Path) -> None:
    LatentsFile(tmp_path).add("old", {"old": torch.ones(2, 3)})  # it is not known what made them
    edits, inversions = LatentsFile(tmp_path, "edit"), LatentsFile(tmp_path, "invert")
    edits.add("a", {"a": torch.ones(2, 3)})
    for _ in ("in its part", "in the file"):
        assert edits.has("a") and not inversions.has("a")
        assert edits.has("old") and inversions.has("old")
        edits.join()
    LatentsFile(tmp_path, "mix").add("b", {"b": torch.ones(2, 3)})
    assert not LatentsFile(tmp_path, "edit").has("b")
    assert load_file(tmp_path / LATENTS).keys() == {"old", "a", "b"}


def test_another_processes_rows_are_seen_and_kept(tmp_path: Path) -> None:
    ours, theirs = LatentsFile(tmp_path), LatentsFile(tmp_path)
    theirs.add("b", {"b": torch.ones(1)})
    assert ours.has("b")
    theirs.join()
    assert ours.has("b")
    ours.add("a", {"a": torch.ones(1)})
    ours.join()
    assert set(load_file(tmp_path / LATENTS)) == {"a", "b"}


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_that_write_to_one_folder_lose_nothing(tmp_path: Path, processes: int) -> None:
    writers = [run("-c", WRITER, str(tmp_path), str(who), "12") for who in range(processes)]
    assert [writer.wait(120) for writer in writers] == [0] * processes
    found = load_file(tmp_path / LATENTS)
    assert set(found) == {f"{who}/{number}" for who in range(processes) for number in range(12)}
    assert all(bool((rows == float(name.partition("/")[2])).all()) for name, rows in found.items())


def test_a_file_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / LATENTS).write_text("precious")
    with pytest.raises(OutputError):
        LatentsFile(tmp_path)


def photographs(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        shutil.copy(ASTRONAUT, folder / f"{index}.png")
    return folder


def quick(photos: Path, out: Path, *more: str) -> list[str]:
    """With a small random model: what is written when does not depend on the model."""
    model = photos.parent / "random.safetensors"
    if not model.exists():
        stand_in.save_random_model(model)
    return ["invert", str(photos), "--out", str(out), "--model", str(model), "--no-align", *more]


def test_a_stopped_run_goes_on_and_a_rerun_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = photographs(tmp_path / "photos", 2), tmp_path / "out"
    assert main(quick(photos, out)) == 0
    (out / "1.pair.png").unlink()
    (photos / "2.png").write_bytes(ASTRONAUT.read_bytes())
    before = (out / "0.png").stat().st_mtime_ns
    assert main(quick(photos, out)) == 2
    assert "--skip-existing" in capsys.readouterr().err
    assert main(quick(photos, out, "--skip-existing")) == 0
    said = capsys.readouterr().out
    assert "1 of 3 photographs was there already" in said and "2 of 3 photographs" in said
    assert (out / "0.png").stat().st_mtime_ns == before
    assert (out / "1.pair.png").is_file()
    assert set(load_file(out / LATENTS)) == {"0", "1", "2"}


def test_pictures_without_rows_are_not_taken_for_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = photographs(tmp_path / "photos", 1), tmp_path / "out"
    out.mkdir()
    (out / "0.png").write_text("precious")
    assert main(quick(photos, out, "--skip-existing")) == 2
    assert "0.png" in capsys.readouterr().err
    assert (out / "0.png").read_text() == "precious"


def test_a_full_disk_stops_the_run_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = photographs(tmp_path / "photos", 3), tmp_path / "out"
    tried: list[Path] = []

    def full(picture: object, path: Path, *given: object) -> None:
        tried.append(path)
        with writing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(images, "save", full)
    assert main(quick(photos, out)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no space left" in lines[0]
    assert {path.name.partition(".")[0] for path in tried} == {"0"}


def test_names_that_cannot_be_used_cost_one_photograph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = photographs(tmp_path / "photos", 1), tmp_path / "out"
    shutil.copy(ASTRONAUT, photos / "0.pair.png")
    shutil.copy(ASTRONAUT, photos / f"{'long' * 60}.png")
    assert main(quick(photos, out)) == 2
    errors = capsys.readouterr().err
    assert errors.count("pixel2style:") == 2 and "rename" in errors
    assert set(load_file(out / LATENTS)) == {"0.pair"}  # the first in order


def kills(tmp_path: Path, times: int, pause: Callable[[], float]) -> None:
    """Kill the command again and again; then let it end."""
    photos, out = photographs(tmp_path / "photos", 4), tmp_path / "out"
    command = ["-m", "pixel2style", *quick(photos, out, "--skip-existing")]
    for _ in range(times):
        process = run(*command)
        time.sleep(pause())
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(*command).wait(300) == 0
    assert set(load_file(out / LATENTS)) == {"0", "1", "2", "3"}
    wanted = {f"{index}{end}" for index in range(4) for end in (".png", ".pair.png")} | {LATENTS}
    assert {path.name for path in out.iterdir() if not path.name.endswith(".part")} == wanted
    assert all(images.load(out / f"{index}{end}").size for index in range(4) for end in (".png", ".pair.png"))


@pytest.mark.slow
def test_fifty_killed_runs_lose_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)
    kills(tmp_path, 50, lambda: rng.uniform(1.0, 7.0))
