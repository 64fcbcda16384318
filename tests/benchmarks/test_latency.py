"""Optimisations of the time of one photograph, and the stopwatch that measures it."""

import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

import latency
from pixel2style import images
from pixel2style.errors import OutputError
from pixel2style.inference import folder, session


def test_what_a_command_imports_is_never_searched_for_garbage_and_what_comes_after_is():
    code = """
import gc, sys
from pixel2style.cli import terminal
with terminal.importing():
    assert not gc.isenabled()
    import torch
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 50_000, frozen
with terminal.importing():
    assert gc.isenabled(), "a process that works already is left as it is"
assert gc.get_freeze_count() == frozen
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def result() -> session.Result:
    import torch

    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    return session.Result(red, blue, torch.zeros(2, 4))


def test_pictures_of_a_result_are_written_side_by_side(tmp_path, monkeypatch):
    both = threading.Barrier(2, timeout=20)
    save = images.save
    monkeypatch.setattr(images, "save", lambda *given: (both.wait(), save(*given)))
    files = {kind: tmp_path / f"{kind}.png" for kind in ("reconstruction", "aligned")}
    folder._save(result(), files)
    assert {kind: images.load(file).getpixel((0, 0)) for kind, file in files.items()} == {
        "reconstruction": (0, 0, 255),
        "aligned": (255, 0, 0),
    }


def test_a_picture_that_cannot_be_written_is_an_error_and_the_others_are_whole(tmp_path):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match="taken"):
        folder._save(result(), {"reconstruction": tmp_path / "taken.png", "aligned": tmp_path / "whole.png"})
    assert images.load(tmp_path / "whole.png").size == (8, 8)


def test_the_stopwatch_counts_nested_and_simultaneous_calls_once(monkeypatch):
    outer, inner = images.to_picture, images.to_tensor

    def within(tensor: object) -> None:
        time.sleep(0.05)
        images.to_tensor(tensor)

    monkeypatch.setattr(images, "to_picture", within)
    monkeypatch.setattr(images, "to_tensor", lambda _: time.sleep(0.05))
    watch = latency.Stopwatch({"outer": ["images.to_picture"], "inner": ["images.to_tensor"]})
    threads = [threading.Thread(target=images.to_picture, args=(None,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = watch.take()
    assert 0.09 < found["outer"] < 0.19, "two calls of 0.1 s at once"
    assert found["inner"] < 0.04, "what happens inside another part is that part's"
    assert not watch.take()
    assert images.to_picture is not outer and images.to_tensor is not inner, "so that the stopwatch saw them"


@pytest.mark.parametrize("function", [name for part in (latency.WARM | latency.COLD).values() for name in part])
def test_the_stopwatch_measures_functions_that_exist(function):
    owner, name = latency.Stopwatch.resolve(function)
    assert name in vars(owner)


def test_the_ninth_decile_of_ten_is_the_ninth():
    assert latency.decile([float(number) for number in range(11)]) == 9
