"""Opening any file runs nothing, takes little time and memory, and gives a model or one sentence."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pixel2style as p2s
from pixel2style import checkpoints
from pixel2style.checkpoints import inspect
from pixel2style.errors import CheckpointError, Pixel2StyleError
from pixel2style.generators.stylegan2 import nvidia
from tests.support import hostile_files, hostile_pickles, nvidia_pickles
from tests.support.hostile_files import saved, tiny_state
from tests.support.official_layout import random_generator

pytestmark = pytest.mark.usefixtures("one_thread")

SECONDS, BYTES = 2.0, 500e6
MARKER = Path("/tmp") / f"pixel2style-ran-{os.getpid()}"
READERS: dict[str, Callable[[Path], object]] = {
    "load": p2s.load,
    "load_generator": p2s.load_generator,
    "inspect": inspect.examine,
}
ONLY_IN_NUMBERS = {"another filter", "a short storage"}
"""Files whose error is in their numbers, which ``inspect`` does not read."""
WAYS = [(reader, suffix) for suffix in (".pt", ".safetensors") for reader in READERS]
GROUPS = {
    "commands": 132,
    "memory": 58,
    "states": 50,
    "archives": 25,
    "safetensors": 50,
    "others": 30,
    "pickled commands": 45,
    "pickled tricks": 36,
    "pickled giants": 35,
    "pickled structures": 34,
    "pickled shared values": 9,
    "damaged pickles": 20,
}
"""Kinds of files, and how many there are of each."""


def files(group: str) -> Iterator[tuple[str, bytes]]:
    return (hostile_files.groups(MARKER) | hostile_pickles.groups(MARKER))[group]


def memory(line: str) -> float:
    """Bytes of this process now (VmRSS) or at most since the last ``reset_peak`` (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition(f"{line}:")[2].split()[0]) * 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def refused(path: Path, reader: str) -> str:
    """The message with which ``reader`` refuses; checks that refusing took little and ran nothing."""
    reset_peak()
    before, start = memory("VmRSS"), time.process_time()
    with pytest.raises(CheckpointError) as caught:
        READERS[reader](path)
    took, cost = time.process_time() - start, memory("VmHWM") - before
    assert not MARKER.exists()
    assert took < SECONDS
    assert cost < BYTES
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert f"{path.name}: " in sentence
    assert len(sentence) < 2000
    return sentence


def test_every_kind_of_hostile_file_is_tried() -> None:
    assert set(GROUPS) == set(hostile_files.groups(MARKER) | hostile_pickles.groups(MARKER))


@pytest.mark.parametrize("group", GROUPS)
def test_hostile_files_are_refused_in_one_sentence_each(group: str, tmp_path: Path) -> None:
    """One way to open each file; the slow test has all."""
    check(group, WAYS, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("group", GROUPS)
def test_hostile_files_are_refused_by_every_reader(group: str, way: tuple[str, str], tmp_path: Path) -> None:
    check(group, [way], tmp_path)


def check(group: str, ways: list[tuple[str, str]], folder: Path) -> None:
    """Open every file of ``group``, by each of ``ways`` in turn."""
    names = set()
    for index, (name, content) in enumerate(files(group)):
        reader, suffix = ways[index % len(ways)]
        file = folder / f"model{suffix}"
        file.write_bytes(content)
        names.add(name)
        if reader == "inspect" and name in ONLY_IN_NUMBERS:
            continue
        try:
            refused(file, reader)
        except BaseException as error:
            error.add_note(f"{name}, read by {reader} as {suffix}")
            raise
    assert len(names) == GROUPS[group]


def families(folder: Path) -> dict[str, Path]:
    """A valid file of each container and layout."""
    generator = random_generator(size=8, width=8, channels=(4, 4))
    state = {"g_ema": tiny_state(), "latent_avg": torch.zeros(8)}
    contents = {
        "rosinality zip.pt": saved(state),
        "rosinality before zips.pt": saved(state, zipped=False),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    nvidia_pickles.written(
        folder / "nvidia.pkl", {"G_ema": nvidia_pickles.module(nvidia.stylegan2_state(generator)[0])}
    )
    save_file(tiny_state(), folder / "rosinality.safetensors")
    checkpoints.save(generator, folder / "ours.safetensors")
    checkpoints.convert(folder / "ours.safetensors", folder / "nvidia state.pt", to="nvidia-state")
    return {file.name: file for file in folder.iterdir()}


def test_every_valid_file_is_read_and_every_truncated_one_refused(tmp_path: Path) -> None:
    """Longest first, so that one file on the disk is enough for each."""
    files = families(tmp_path)
    assert len(files) == 6
    for path in files.values():
        assert p2s.load_generator(path).size == 8
        assert "8 pixels" in inspect.examine(path).facts["generator"]
        length = path.stat().st_size
        for tenths in range(9, -1, -1):
            os.truncate(path, length * tenths // 10)
            refused(path, "load_generator")
            refused(path, "inspect")


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("pipe", "loop", "gone", "zeros", "folder"):
        for reader in READERS:
            with pytest.raises(Pixel2StyleError, match=name):
                READERS[reader](tmp_path / name)


def test_a_vast_file_of_nothing_is_refused_without_reading_it(tmp_path: Path) -> None:
    for name, start in {"zeros.pt": b"", "blob.pkl": b"\x80\x04\x8e" + (5 << 30).to_bytes(8, "little")}.items():
        with (tmp_path / name).open("wb") as file:
            file.write(start)
            file.truncate(6 << 30)
        for reader in READERS:
            refused(tmp_path / name, reader)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a page that was not found", "is a web page, not a file of weights"),
        ("a pointer of git-lfs", "is a pointer of git-lfs"),
        ("a picture", "is a picture"),
        ("gzip", "is a compressed archive"),
        ("nothing", "is empty"),
    ],
)
def test_files_that_are_often_downloaded_instead_of_a_model_are_named(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(next(content for found, content in files("others") if found == name))
    assert said in refused(tmp_path / "model.pt", "load")
