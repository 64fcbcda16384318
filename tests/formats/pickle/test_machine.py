"""Pickles are read by a machine that runs nothing; names that could run code are refused."""

import collections
import os
import pickle
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixel2style.checkpoints import foreign
from pixel2style.errors import CheckpointError, UnsafeFileError
from pixel2style.formats import pickle as pickles
from pixel2style.formats.pickle import Stored, is_tensor
from pixel2style.generators.stylegan2 import nvidia
from tests.support import hostile_pickles, nvidia_pickles
from tests.support.official_layout import random_generator

pytestmark = pytest.mark.usefixtures("one_thread")

MARKER = Path("/tmp") / f"pixel2style-unpickled-{os.getpid()}"
COMMANDS = dict(hostile_pickles.commands(MARKER))


def file_of(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def peak() -> float:
    """Bytes that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", COMMANDS)
def test_what_wants_to_run_is_called_unsafe(name: str, tmp_path: Path) -> None:
    path = file_of(tmp_path / "file.pkl", COMMANDS[name])
    with pytest.raises(UnsafeFileError, match=r"asks for .*, which could run code; nothing was run"):
        pickles.read(path)


def test_the_corpus_would_run_if_it_were_unpickled(tmp_path: Path) -> None:
    """The files are what they claim to be: Python's own reader obeys the first of them."""
    marker = tmp_path / "ran"
    pickle.loads(dict(hostile_pickles.commands(marker))["os.system"])
    assert marker.exists()


def values() -> dict[str, Any]:
    return {
        "parameter": torch.nn.Parameter(torch.randn(2, 3)),
        "strided": torch.randn(4, 6)[1:, ::2],
        "turned": torch.randn(3, 5).T,
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "whole": torch.arange(5),
        "truth": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "bytes of an array": np.arange(4, dtype=np.int8),
        "array of no axes": np.array(2.5, dtype=np.float32),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_tensors_and_arrays_are_what_they_were(protocol: int, tmp_path: Path) -> None:
    content = values()
    found = pickles.read(file_of(tmp_path / "file.pkl", pickle.dumps(content, protocol)))
    assert found.keys() == content.keys()
    for name, value in content.items():
        expected = torch.from_numpy(value.copy(order="C")) if isinstance(value, np.ndarray) else value.detach()
        assert isinstance(found[name], Stored), name
        assert found[name].shape == tuple(expected.shape)
        assert found[name].tensor().dtype == expected.dtype
        assert torch.equal(found[name].tensor(), expected), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_are_what_they_were(protocol: int, tmp_path: Path) -> None:
    content = {
        "numbers": [0, 1, -1, 255, 65536, -(2**31), 2**70, 1.5, float("inf"), True, None],
        "texts": ("", "ü", "\U0001f600", "x" * 1000),
        "set": {1, 2},
        "frozen": frozenset({"a"}),
        "ordered": collections.OrderedDict(a=1, b=[2]),
        "default": collections.defaultdict(int, {"k": [1]}),
        "number of numpy": np.float32(2.5),
        "size": torch.Size([1, 2]),
    }
    found = pickles.read(file_of(tmp_path / "file.pkl", pickle.dumps(content, protocol)))
    assert found.pop("number of numpy").tensor().item() == 2.5
    del content["number of numpy"]
    assert found == {**content, "size": (1, 2)}


def test_names_of_nvidia_become_records(tmp_path: Path) -> None:
    content = hostile_pickles.saved(hostile_pickles.call("training.networks", "Generator", hostile_pickles.whole(3)))
    record = pickles.read(file_of(tmp_path / "file.pkl", content))["G_ema"]
    assert (str(record.name), record.args, record.state) == ("training.networks.Generator", (3,), None)


def test_reading_a_tensor_changes_neither_the_file_nor_another_reading(tmp_path: Path) -> None:
    path = file_of(tmp_path / "file.pkl", pickle.dumps(torch.ones(4)))
    before = path.read_bytes()
    stored = pickles.read(path)
    stored.tensor().zero_()
    assert torch.equal(stored.tensor(), torch.ones(4))
    assert path.read_bytes() == before


def test_listing_a_file_reads_none_of_its_numbers(tmp_path: Path) -> None:
    path = file_of(tmp_path / "file.pkl", pickle.dumps([torch.ones(1 << 22) for _ in range(4)], 4))
    start = peak()
    shapes = [stored.shape for stored in pickles.read(path)]
    assert shapes == [(1 << 22,)] * 4
    assert peak() - start < 1 << 24  # one of the four


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pkl"):
        with pytest.raises(CheckpointError, match="there is no such file"):
            pickles.read(path)


UNUSUAL = {
    "unsigned": np.arange(3, dtype=np.uint32),
    "an unsigned number": np.uint64(4),
    "complex": np.ones(2, dtype=np.complex64),
    "text": np.array(["a", "bc"]),
    "a text": np.str_("x"),
    "bytes": np.array([b"a"]),
    "objects": np.array([None, {"a": [1]}], dtype=object),
    "records": np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]),
    "a day": np.datetime64("2020-01-01"),
    "the big end first": np.arange(3, dtype=">f4"),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", UNUSUAL)
def test_what_no_weights_are_may_stand_beside_weights_and_not_among_them(
    name: str, protocol: int, tmp_path: Path
) -> None:
    dtype = UNUSUAL[name].dtype
    content = {"odd": UNUSUAL[name], "again": [UNUSUAL[name]], "kind": dtype, "weight": np.ones(2, np.float32)}
    found = pickles.read(file_of(tmp_path / "file.pkl", pickle.dumps(content, protocol)))
    assert not is_tensor(found["odd"]) and not is_tensor(found["again"][0])
    assert torch.equal(found["weight"].tensor(), torch.ones(2))
    state = nvidia.stylegan2_state(random_generator(size=8, width=8, channels=(4, 4)))[0]
    module = nvidia_pickles.module(state)
    module.odd = UNUSUAL[name]
    path = nvidia_pickles.written(tmp_path / "file.pkl", {"G_ema": module}, protocol)
    assert foreign.load_generator(path).size == 8
    module._buffers["odd"] = UNUSUAL[name]  # type: ignore[assignment]
    nvidia_pickles.written(path, {"G_ema": module}, protocol)
    with pytest.raises(CheckpointError, match="odd is no plain tensor"):
        foreign.load_generator(path)


def test_arrays_spelt_as_text_may_fill_a_large_file(tmp_path: Path) -> None:
    numbers = np.full(20 << 20, 200, np.uint8)
    content = {f"n{n}": numbers.copy() for n in range(3)}
    path = file_of(tmp_path / "file.pkl", pickle.dumps(content, 2))
    assert path.stat().st_size > 120e6
    found = pickles.read(path)
    assert all(stored.shape == numbers.shape for stored in found.values())
