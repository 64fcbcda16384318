"""PyTorch's files are read to the same values as PyTorch reads, and give nothing on a pickle's word."""

import argparse
import collections
import io
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixel2style.errors import CheckpointError, UnsafeFileError
from pixel2style.formats import state_dicts, torch_files
from pixel2style.formats.pickle import containers
from pixel2style.formats.pickle.builders import PYTORCH
from pixel2style.formats.pickle.machine import Budget, Machine
from tests.support import hostile_files

pytestmark = pytest.mark.usefixtures("one_thread")

Open = Callable[..., dict[str, Any]]


@pytest.fixture(params=[True, False], ids=["zip", "before zips"])
def through(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """What is read again of what PyTorch has written."""

    def through(content: Any, numbers: bool = True) -> dict[str, Any]:
        torch.save(content, tmp_path / "file.pt", _use_new_zipfile_serialization=request.param)
        return torch_files.read(tmp_path / "file.pt", numbers)

    return through


def opened(content: bytes, folder: Path) -> dict[str, Any]:
    (folder / "file.pt").write_bytes(content)
    return torch_files.read(folder / "file.pt")


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride()) and bool((a == b).all())
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    return bool(a == b)


def everything() -> dict[str, Any]:
    row = torch.arange(24.0)
    layer = nn.BatchNorm2d(3)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.randn(2, 3, 4, 4)).sum().backward()
    optimiser.step()
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.bool, torch.complex64)  # fmt: skip
    marked = torch.zeros(2)
    marked.of = "somebody"
    return {
        "layer": layer.state_dict(),
        "optimiser": optimiser.state_dict(),
        "turned": row.view(4, 6).T,
        "part": row[3:9:2],
        "repeated": row[:1].expand(5),
        "none": torch.zeros(0, 3),
        "number": torch.tensor(2.5),
        "marked": marked,
        **{str(kind): torch.ones(3, dtype=kind) for kind in kinds},
        "list": [1, -5, 2**40, 2**70, 0.5, None, True, "text \u00e9", (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "opts": argparse.Namespace(lr=1e-3, names={"a": ["b"]}),
        "ordered": collections.OrderedDict(a=1),
        "counted": collections.Counter({3: 1}),
        "shape": torch.Size([2, 3]),
    }


def test_all_values_are_what_pytorch_reads(through: Open, tmp_path: Path) -> None:
    ours = through(everything())
    with torch.serialization.safe_globals([argparse.Namespace]):
        theirs = torch.load(tmp_path / "file.pt", weights_only=True)
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert equal(value, ours[key]), key


def test_a_parameter_is_its_tensor(through: Open) -> None:
    assert torch.equal(through({"w": nn.Parameter(torch.ones(2))})["w"], torch.ones(2))


def test_tensors_of_one_storage_share_it(through: Open) -> None:
    row = torch.arange(6.0)
    found = through({"a": row, "b": row[2:]})
    found["a"][3] = 9
    assert found["b"][1] == 9


def test_without_numbers_a_tensor_has_all_but_these(through: Open) -> None:
    for key, value in through(everything(), numbers=False).items():
        if isinstance(value, Tensor):
            assert value.is_meta
            assert (value.shape, value.dtype) == (everything()[key].shape, everything()[key].dtype)


ARRAYS = {
    "whole": np.arange(6, dtype=np.float32).reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "counts": np.arange(3),
    "truths": np.array([True, False]),
    "no axes": np.array(3),
    "a number": np.float64(0.25),
    "a whole number": np.int64(-3),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_an_array_of_numpys_is_a_tensor(what: str, through: Open) -> None:
    value = ARRAYS[what]
    for numbers in (True, False):
        found = through({"inside": {"value": value}}, numbers)["inside"]["value"]
        assert tuple(found.shape) == value.shape
        assert found.is_meta != numbers
    assert np.array_equal(through({"value": value})["value"].numpy(), value)


def test_one_array_in_two_places_is_one_tensor(through: Open) -> None:
    found = through({"a": ARRAYS["whole"], "b": [ARRAYS["whole"]]})
    assert found["a"] is found["b"][0]


@pytest.mark.parametrize("value", [np.array(["text"]), np.array([{}], dtype=object), np.str_("x")], ids=str)
def test_an_array_of_no_numbers_is_no_weight_and_no_danger(value: Any, through: Open) -> None:
    found = through({"beside": value, "w": torch.ones(1)})
    assert not isinstance(found["beside"], Tensor | np.ndarray)
    with pytest.raises(CheckpointError, match="beside is no plain tensor"):
        state_dicts.tensors(found, "file.pt")


def test_a_path_among_options_is_text(through: Open) -> None:
    options = argparse.Namespace(out=pathlib.PurePosixPath("/a/b"), data=pathlib.PureWindowsPath("c:\\x\\y"))
    assert vars(through({"opts": options})["opts"]) == {"out": "/a/b", "data": "c:\\x\\y"}


@pytest.mark.parametrize("name", ["torch.FloatTensor", "torch.storage.UntypedStorage", "builtins.bytearray"])
@pytest.mark.parametrize("around", [hostile_files.archive, hostile_files.legacy])
def test_what_pytorch_would_allocate_is_only_noted(name: str, around: Callable[[bytes], bytes], tmp_path: Path) -> None:
    module, _, last = name.rpartition(".")
    found = opened(around(hostile_files.calling(module, last, 1 << 40)), tmp_path)["g_ema"]
    assert not isinstance(found, Tensor | bytearray)
    with pytest.raises(CheckpointError, match="g_ema is no plain tensor"):
        state_dicts.tensors({"g_ema": found}, "file.pt")


def python2(storages: list[str]) -> bytes:
    """A file as Python 2 wrote it: texts of bytes, an OrderedDict of pairs; its storages are said to be these."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("7") + text("cpu") + b"K\x02NtQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00K\x02\x85K\x01\x85tR"
    pickled = b"\x80\x02ccollections\nOrderedDict\n](](" + text("weight") + tensor + b"eea\x85R."
    pickled = pickled.replace(b"](](", b"]](").replace(b"eea", b"ea")
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + pickled + pickle.dumps(storages, 2) + struct.pack("<qff", 2, 1.5, -2.0)


def test_a_file_of_python_2_is_read(tmp_path: Path) -> None:
    assert opened(python2(["7"]), tmp_path)["weight"].tolist() == [1.5, -2.0]


@pytest.mark.parametrize("storages", [[], ["8"], ["7", "7"], ["7", "8"]], ids=str)
def test_a_storage_whose_numbers_are_not_there_is_refused(storages: list[str], tmp_path: Path) -> None:
    """PyTorch gives what happened to lie in memory."""
    with pytest.raises(CheckpointError, match="or is damaged"):
        opened(python2(storages), tmp_path)


def rezipped(folder: Path, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> dict[str, Any]:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(hostile_files.saved({"w": torch.arange(3.0)}))) as source,
        zipfile.ZipFile(buffer, "w", method) as made,
    ):
        for name in source.namelist():
            made.writestr(name, change(name, source.read(name)))
    return opened(buffer.getvalue(), folder)


def test_a_zip_that_was_packed_anew_is_read_wherever_its_members_lie(tmp_path: Path) -> None:
    assert rezipped(tmp_path, lambda _, content: content)["w"].tolist() == [0, 1, 2]
    with pytest.raises(CheckpointError, match="or is damaged"):
        rezipped(tmp_path, lambda name, content: b"big" if name.endswith("byteorder") else content)
    with pytest.raises(CheckpointError, match="or is damaged"):
        rezipped(tmp_path, lambda name, content: content[:-1] if name.endswith("data/0") else content)
    with pytest.raises(CheckpointError, match="or is damaged"):
        rezipped(tmp_path, lambda _, content: content, zipfile.ZIP_DEFLATED)


def test_a_name_that_pytorch_has_no_use_for_is_refused_wherever_it_stands(through: Open) -> None:
    for value in (collections.deque, io.BytesIO, torch.hub.load, torch.nn.Linear, pathlib.Path.home, print):
        with pytest.raises(UnsafeFileError, match=r"asks for [\w.]+, which could run code; nothing was run"):
            through({"a": [{"b": value}]})


def test_numbers_that_many_keys_share_are_not_unfolded_without_end() -> None:
    half = torch.zeros(1 << 20, dtype=torch.float16)
    assert len(state_dicts.tensors({str(index): half for index in range(10)}, "file.pt")) == 10
    with pytest.raises(CheckpointError, match="claim more numbers than the file holds"):
        state_dicts.tensors({str(index): half for index in range(5000)}, "file.pt")


def test_storages_may_claim_no_more_than_the_file_has() -> None:
    claimed: list[int] = []

    def find(key: str, kind: torch.dtype, count: int) -> Tensor:
        claimed.append(count * kind.itemsize)
        return torch.empty(count, dtype=kind, device="meta")

    def read(count: int) -> None:
        storages = containers.Storages(1000, find)
        Machine(memoryview(hostile_files.storage(count)), Budget(1000, 1000), PYTORCH, storages).run()

    with pytest.raises(ValueError, match="storages beyond the file"):
        read(300)
    assert not claimed
    read(250)
    assert claimed == [1000]
