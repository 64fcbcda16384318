"""Hostile and damaged files: bytes, by a name that says what is wrong.

Pickles of NVIDIA's kind are in ``hostile_pickles``. Code in them, if it ran, would create the file ``marker``.
"""

import gzip
import io
import json
import lzma
import math
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pixel2style.checkpoints import native
from pixel2style.formats import quantized
from tests.support.official_layout import generator_state, random_generator

WANTED = (
    ("os", "system", "touch {}"),
    ("posix", "system", "touch {}"),
    ("nt", "system", "touch {}"),
    ("os", "popen", "touch {}"),
    ("os", "mkdir", "{}"),
    ("os", "putenv", "PIXEL2STYLE_RAN"),
    ("subprocess", "Popen", "touch {}"),
    ("subprocess", "getoutput", "touch {}"),
    ("builtins", "eval", "open('{}', 'w')"),
    ("builtins", "exec", "open('{}', 'w')"),
    ("__builtin__", "eval", "open('{}', 'w')"),
    ("builtins", "__import__", "antigravity"),
    ("builtins", "open", "{}"),
    ("builtins", "getattr", "{}"),
    ("builtins", "compile", "{}"),
    ("builtins", "breakpoint", "{}"),
    ("io", "FileIO", "{}"),
    ("pty", "spawn", "touch {}"),
    ("shutil", "rmtree", "{}"),
    ("pathlib", "Path", "{}"),
    ("runpy", "run_path", "{}"),
    ("importlib", "import_module", "antigravity"),
    ("timeit", "timeit", "open('{}', 'w')"),
    ("cProfile", "run", "open('{}', 'w')"),
    ("code", "InteractiveInterpreter", "{}"),
    ("ctypes", "CDLL", "{}"),
    ("marshal", "loads", "{}"),
    ("pickle", "loads", "{}"),
    ("_pickle", "loads", "{}"),
    ("urllib.request", "urlopen", "file://{}"),
    ("socket", "create_connection", "{}"),
    ("webbrowser", "open", "{}"),
    ("sys", "exit", "{}"),
    ("os", "_exit", "{}"),
    ("operator", "attrgetter", "system"),
    ("functools", "partial", "{}"),
    ("types", "FunctionType", "{}"),
    ("torch", "load", "{}"),
    ("torch.hub", "load", "{}"),
    ("torch.serialization", "load", "{}"),
    ("torch.jit", "load", "{}"),
    ("torch.utils.cpp_extension", "load", "{}"),
    ("numpy", "load", "{}"),
    ("numpy.lib.npyio", "load", "{}"),
)
"""Functions that a pickle may call, and an argument."""


ALLOCATED = (
    ("__builtin__", "bytearray"),
    ("builtins", "bytearray"),
    ("torch.storage", "UntypedStorage"),
    ("torch", "FloatStorage"),
    ("torch", "FloatTensor"),
    ("torch", "HalfTensor"),
    ("torch", "Tensor"),
    ("torch.cuda", "FloatTensor"),
    ("torch.sparse", "FloatTensor"),
)
"""Classes that PyTorch's restricted reader allocates in any size that a pickle states."""


def asking(module: str, name: str, argument: str, *, protocol: int = 2) -> bytes:
    """A pickle of ``{"g_ema": module.name(argument)}``, written by hand: nothing is imported to write it."""
    wanted = f"c{module}\n{name}\n".encode() if protocol < 4 else text(module) + text(name) + b"\x93"
    return b"\x80" + bytes([protocol]) + b"}" + text("g_ema") + wanted + text(argument) + b"\x85R" + b"s."


def text(value: str) -> bytes:
    """A text, pickled."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    """A whole number, pickled."""
    length = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def calling(module: str, name: str, *numbers: int, times: int = 1) -> bytes:
    """A pickle of ``{"g_ema": module.name(*numbers)}``, or of a list of such."""
    call = f"c{module}\n{name}\n(".encode() + b"".join(map(whole, numbers)) + b"tR"
    return b"\x80\x02}" + text("g_ema") + (call if times == 1 else b"](" + call * times + b"e") + b"s."


def archive(pickled: bytes, **members: bytes) -> bytes:
    """A PyTorch zip around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        made.writestr("archive/data.pkl", pickled)
        made.writestr("archive/byteorder", b"little")
        made.writestr("archive/version", b"3\n")
        for name, content in members.items():
            made.writestr(f"archive/{name.replace('__', '/')}", content)
    return buffer.getvalue()


def legacy(pickled: bytes) -> bytes:
    """A PyTorch file of the time before zips around a pickle."""
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(head) + pickled + pickle.dumps([], 2)


def saved(content: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def commands(marker: Path) -> Iterator[tuple[str, bytes]]:
    """Files that contain commands, in every container of weights."""
    for module, name, argument in WANTED:
        told = argument.format(marker)
        yield f"{module}.{name} in a zip", archive(asking(module, name, told))
        yield f"{module}.{name} in an old file", legacy(asking(module, name, told))
        yield f"{module}.{name} in a pickle", asking(module, name, told, protocol=4)


def tiny_state() -> dict[str, Tensor]:
    return generator_state(random_generator(size=8, width=8, channels=(4, 4)))


def _quantised() -> Tensor:
    with warnings.catch_warnings(action="ignore"):
        return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


def memory() -> Iterator[tuple[str, bytes]]:
    """Small pickles that would take all memory or all time."""
    pickles = {}
    for module, name in ALLOCATED:
        pickles[f"{module}.{name} of 3 GB"] = calling(module, name, 3_000_000_000)
        pickles[f"{module}.{name} of 50 MB, many times"] = calling(module, name, 50_000_000, times=60)

    def listed(first: bytes, one: bytes, times: int) -> bytes:
        return b"\x80\x02}" + text("g_ema") + b"](" + first + b"q\x01" + one * times + b"es."

    items = b"}(" + b"".join(whole(index) + b"K\x00" for index in range(4_000)) + b"u"
    copied = b"ccollections\nOrderedDict\nh\x01\x85R"
    spelt = b"c_codecs\nencode\nh\x01" + text("latin1") + b"\x86R"
    shape = b"(" + whole(1 << 18) + b"\x85"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text("b") + b"tR"
    kind = b"cnumpy\ndtype\n(" + text("f4") + b"K\x00K\x01tR"
    told = array + b"(K\x01" + shape[1:] + kind + b"\x89h\x01tb"
    numbers = b"c_codecs\nencode\n" + text("\0" * (1 << 20)) + text("latin1") + b"\x86R"
    pickles |= {
        "a dictionary, three thousand times": listed(items, copied, 3000),
        "bytes, three thousand times": listed(text("x" * 1_000_000), spelt, 3000),
        "arrays on the same bytes, three thousand times": listed(numbers, told, 3000),
        "keys that collide": b"\x80\x02}" + b"".join(whole(n * (2**61 - 1)) + b"Ns" for n in range(1, 50_000)) + b".",
        "a key without end": b"\x80\x02})" + b"q\x01h\x01\x86" * 60 + b"Ns.",
        "a function without end": b"\x80\x02)" + b"q\x01h\x01\x86" * 60 + b")R.",
        "numbers of a file from nowhere": b"\x80\x02}"
        + b"".join(
            text(key) + b"ctorch\nFloatTensor\n(" + b"".join(map(whole, value.shape)) + b"tRs"
            for key, value in tiny_state().items()
        )
        + b".",
    }
    for what, pickled in pickles.items():
        yield f"{what} in a zip", archive(pickled)
        yield f"{what} in an old file", legacy(pickled)
    shared = torch.zeros(1 << 20, dtype=torch.float16)
    good = tiny_state()
    for zipped in (True, False):
        kept = "in a zip" if zipped else "in an old file"
        yield f"a thousand tensors in one {kept}", saved({**good, **{f"n.{n}": shared for n in range(1000)}}, zipped)
        yield (
            f"a thousand rows said to be many {kept}",
            saved({**good, **{f"n.{n}": torch.zeros(1).expand(1 << 20) for n in range(1000)}}, zipped),
        )
        dots = "a." * 60_000
        yield f"a name of dots {kept}", saved({f"{dots}{key}": value for key, value in good.items()}, zipped)
        yield f"names below a long name {kept}", saved({"a" * 1_000_000: {str(n): None for n in range(10_000)}}, zipped)


def states() -> Iterator[tuple[str, bytes]]:
    """PyTorch files of the right kind with something in them that does not belong."""
    good, key = tiny_state(), "conv1.conv.weight"
    wrong: dict[str, Any] = {
        "none": None,
        "text": "weights",
        "a number": 3.5,
        "a list": [1.0, 2.0],
        "a dictionary": {"weight": torch.zeros(3)},
        "whole numbers": torch.zeros(4, 4, 3, 3, dtype=torch.int8),
        "booleans": torch.zeros(4, 4, 3, 3, dtype=torch.bool),
        "complex numbers": torch.zeros(2, 2, dtype=torch.complex64),
        "sparse numbers": torch.eye(3).to_sparse(),
        "quantised numbers": _quantised(),
        "nothing": torch.zeros(0),
        "one number": torch.tensor(1.0),
        "nine axes": torch.zeros([1] * 9),
        "another shape": torch.zeros(4, 5, 3, 3),
        "one number said to be many": torch.zeros(1).expand(1 << 20, 1 << 20),
        "one row said to be many": torch.zeros(4).expand(1 << 30, 4),
        "itself": "SELF",
    }
    for what, value in wrong.items():
        state: dict[Any, Any] = dict(good)
        state[key] = state if what == "itself" else value
        yield f"a weight that is {what}", saved({"g_ema": state})
        if what not in ("quantised numbers", "sparse numbers"):
            yield f"a weight that is {what}, old file", saved({"g_ema": state}, zipped=False)
    deep: Any = torch.zeros(1)
    for _ in range(200):
        deep = {"state_dict": deep}
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless["g_ema"] = endless
    odd: dict[str, Any] = {
        "numbers for keys": {i: torch.zeros(2) for i in range(20)},
        "no key at all": {},
        "none for a key": {None: torch.zeros(2)},
        "a key of a megabyte": {"conv1" * 200_000: torch.zeros(2)},
        "a key that writes to terminals": {"\x1b[2J\x1b]0;owned\x07": torch.zeros(2), "\n\r": torch.zeros(1)},
        "an index without end": {**good, "convs." + "9" * 400 + ".conv.weight": torch.zeros(2)},
        "a size without end": {
            **good,
            "convs.999999.conv.weight": torch.zeros(2),
            "to_rgbs.499999.bias": torch.zeros(2),
        },
        "a hundred thousand keys": {f"key{i}": None for i in range(100_000)},
        "dictionaries in dictionaries": deep,
        "a dictionary that holds itself": endless,
        "a list of weights": list(good.values()),
        "a bare tensor": torch.zeros(3),
        "an optimiser": torch.optim.Adam([nn.Parameter(torch.zeros(3))]).state_dict(),
        "half a generator": dict(list(good.items())[: len(good) // 2]),
        "a generator and more": {**good, "backdoor.weight": torch.zeros(3)},
        "a constant that is not square": {**good, "input.input": torch.zeros(1, 4, 4, 8)},
        "a constant of no size": {**good, "input.input": torch.zeros(1, 4, 0, 0)},
        "another filter": {**good, "convs.0.conv.blur.kernel": torch.zeros(4, 4)},
    }
    for what, content in odd.items():
        yield what, saved(content)


def archives() -> Iterator[tuple[str, bytes]]:
    """Damaged and false zips."""
    whole = saved({"g_ema": tiny_state()})
    with zipfile.ZipFile(io.BytesIO(whole)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    prefix = next(iter(members)).split("/")[0]

    def packed(changes: dict[str, bytes | None], method: int = zipfile.ZIP_STORED) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as made:
            for name, content in {**members, **changes}.items():
                if content is not None:
                    made.writestr(name, content)
        return buffer.getvalue()

    link = zipfile.ZipInfo(f"{prefix}/data.pkl")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as made:
        made.writestr(link, "/etc/passwd")
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made,
        made.open(f"{prefix}/data.pkl", "w") as member,
    ):
        for _ in range(600):
            member.write(bytes(1_000_000))
    yield "a bomb for a pickle", bomb.getvalue()
    yield "deflated members", packed({}, zipfile.ZIP_DEFLATED)
    yield "members in bzip2", packed({}, zipfile.ZIP_BZIP2)
    yield "a bomb beside the weights", packed({f"{prefix}/data/bomb": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    yield "a symbolic link for a pickle", linked.getvalue()
    yield "no pickle", packed({f"{prefix}/data.pkl": None})
    yield "a missing storage", packed({f"{prefix}/data/0": None})
    yield "a short storage", packed({f"{prefix}/data/0": b"abc"})
    yield "two roots", packed({"other/data.pkl": asking("os", "system", "true")})
    yield "a zip of nothing", b"PK\x05\x06" + bytes(18)
    yield "a zip in a zip", packed({f"{prefix}/data.pkl": whole})
    yield "a path that climbs", archive(b"\x80\x02}.", **{"..__..__evil": b"x"})
    yield "pickled text only", archive(pickle.dumps("text", 2))
    yield "a pickle without an end", archive(b"\x80\x02}")
    yield "a pickle of nonsense", archive(b"\x80\x02" + np.random.default_rng(5).bytes(500))
    yield "a tail that is missing, a head twice", whole[:3000] * 2
    yield "a program (TorchScript)", scripted()
    for numbers in (1 << 31, 1 << 40, 1 << 62, -1):
        yield f"a storage of {numbers} numbers", archive(storage(numbers), data__0=bytes(16))
        yield f"a tensor of {numbers} numbers on a small storage", archive(storage(4, numbers), data__0=bytes(16))


def storage(numbers: int, shown: int | None = None) -> bytes:
    """A pickle of one tensor on storage "0", with whatever sizes."""
    shown = numbers if shown is None else shown
    place = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + whole(numbers) + b"tQ"
    rebuilt = (
        b"("
        + place
        + whole(0)
        + whole(shown)
        + b"\x85"
        + whole(1)
        + b"\x85"
        + b"\x89"
        + b"ccollections\nOrderedDict\n)RtR"
    )
    return (
        b"\x80\x02}"
        + text("g_ema")
        + b"}"
        + text("input.input")
        + b"ctorch._utils\n_rebuild_tensor_v2\n"
        + rebuilt
        + b"ss."
    )


def scripted() -> bytes:
    """The layout of a TorchScript archive: code beside the pickle."""
    return archive(b"\x80\x02c__torch__\nModule\n)\x81}b.", code____torch__py=b"import os\nos.system('true')\n")


def safetensors() -> Iterator[tuple[str, bytes]]:
    """Safetensors with false headers."""

    def built(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + body

    def tensor(**changes: Any) -> dict[str, Any]:
        return {"input.input": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}

    def ours(config: Any, version: str = "pixel2style 1", **more: str) -> bytes:
        text = config if isinstance(config, str) else json.dumps(config)
        return built({"__metadata__": {"format": version, "config": text, **more}, **tensor()}, bytes(4))

    for length in (0, 1, 2**31, 2**62, 2**64 - 1):
        yield f"a header of {length} bytes", built({}, bytes(100), length)
    yield "a header of brackets", built(b'{"a":' + b"[" * 100_000)
    yield "a header of no object", built([1, 2])
    yield "a header in another code", built(b'{"\xff": 1}')
    yield "a shape without end", built(tensor(shape=[1 << 62, 1 << 62]), bytes(4))
    yield "a negative shape", built(tensor(shape=[-1]), bytes(4))
    yield "an end before the start", built(tensor(data_offsets=[4, 0]), bytes(4))
    yield "an end beyond the file", built(tensor(data_offsets=[0, 1 << 50], shape=[1 << 48]), bytes(4))
    yield "an unknown type", built(tensor(dtype="F7"), bytes(4))
    yield (
        "one place for two",
        built({**tensor(), "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    )
    yield "nothing known", built({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))
    small = {"size": 8, "width": 8}
    configs: dict[str, Any] = {
        "no configuration": "",
        "a configuration of brackets": "[" * 50_000,
        "a configuration of a list": [],
        "a strange kind": {"kind": "os.system"},
        "a generator of 2^40 pixels": {"size": 1 << 40},
        "a generator of 2^16 pixels": {"size": 1 << 16, "channels": [1 << 16] * 15},
        "a mapping without end": {**small, "mapping_layers": 10**9},
        "channels without end": {**small, "channels": [10**9, 10**9]},
        "a table without end": {**small, "channels": [4] * 100_000},
        "classes without end": {**small, "classes": 10**12},
        "noise without end": {**small, "noise_width": 10**12},
        "a clamp of nothing": {**small, "clamp": 0},
        "layers without end": {"kind": "stylegan3", "size": 64, "alias_free": {"layers": 10**9}},
        "a filter without end": {"kind": "stylegan3", "size": 64, "alias_free": {"filter_size": 10**9}},
        "pixels without end between pixels": {
            "kind": "stylegan3",
            "size": 64,
            "alias_free": {"lrelu_upsampling": 10**9},
        },
        "a margin without end": {"kind": "stylegan3", "size": 64, "alias_free": {"margin": 10**9}},
        "a cutoff of no number": {"kind": "stylegan3", "size": 64, "alias_free": {"first_cutoff": "NaN"}},
        "a cutoff without end": {"kind": "stylegan3", "size": 64, "alias_free": {"first_cutoff": 1e308}},
        "no alias_free": {"kind": "stylegan3", "size": 64},
        "a size of no power": {"size": 1000},
        "a list too long to say": {"size": list(range(1000))},
    }
    for what, config in configs.items():
        yield what, ours(config)
    yield "a format to come", ours(small, "pixel2style 99")
    yield "a generator elsewhere", ours({"encoder": {}, "generator": {}}, generator="../../../etc/passwd")
    model, name = {"encoder": {}, "generator": {}}, "w_avg"
    for base in ("../../../etc/passwd", "", "mtcnn", "mobilestylegan_ffhq_1024", "\x1b[2J", "faces" * 100_000):
        yield f"a difference to {base[:30]!r}", ours(model, base=base)
    yield "a difference to other numbers", ours(model, base="faces", digest="0" * 64)
    parts = {
        "codes of nothing": {f"{name}/codes": [], f"{name}/steps": [16]},
        "codes without end": {f"{name}/codes": [1 << 24], f"{name}/steps": [16]},
        "codes and no steps": {f"{name}/codes": [4096]},
        "no name": {"/codes": [4096], "/steps": [16]},
        "all ways at once": {name: [16], f"{name}/codes": [4096], f"{name}/steps": [16], f"{name}/same": [0]},
    }
    digest = quantized.digest(native.read_base("faces", "faces"))
    for what, shapes in parts.items():
        held, place = {}, 0
        for key, shape in shapes.items():
            held[key] = {"dtype": "U8", "shape": shape, "data_offsets": [place, place + math.prod(shape)]}
            place += math.prod(shape)
        told = {"format": "pixel2style 1", "config": json.dumps(model), "base": "faces", "digest": digest}
        yield f"a difference of {what}", built({"__metadata__": told, **held}, bytes(place))


def others() -> Iterator[tuple[str, bytes]]:
    """Files that are something else altogether."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, "PNG")
    numbers, objects, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(numbers, np.zeros(3))
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    np.savez(packed, w=np.zeros(3))
    tape = io.BytesIO()
    with tarfile.open(fileobj=tape, mode="w") as made:
        link = tarfile.TarInfo("state_dict")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        made.addfile(link)
    randomness = np.random.default_rng(0)
    yield "nothing", b""
    yield "a page that was not found", b"<!DOCTYPE html><html>404 Not Found</html>"
    yield "a pointer of git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
    yield "json", b'{"g_ema": {"input.input": [1, 2, 3]}}'
    yield "a picture", picture.getvalue()
    yield "numbers of numpy", numbers.getvalue()
    yield "objects of numpy", objects.getvalue()
    yield "an archive of numpy", packed.getvalue()
    yield "gzip", gzip.compress(saved({"g_ema": tiny_state()}))
    yield "a bomb of gzip", gzip.compress(bytes(50_000_000))
    yield "xz", lzma.compress(bytes(1000))
    yield "a tape with a link", tape.getvalue()
    yield "a program", b"\x7fELF" + bytes(1000)
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(1000)
    yield "a graph (onnx)", b"\x08\x07\x12\x07pytorch\x1a\x052.6.0:\x00" + bytes(300)
    yield "zeros", bytes(10_000_000)
    for size in (1, 10, 1000, 1_000_000):
        yield f"{size} bytes at random", randomness.bytes(size)
    for seed in range(10):
        yield f"a pickle at random {seed}", b"\x80\x02" + np.random.default_rng(seed).bytes(300)


def groups(marker: Path) -> dict[str, Iterator[tuple[str, bytes]]]:
    """All of them, made one at a time: together they take 100 MB and three seconds."""
    return {
        "commands": commands(marker),
        "memory": memory(),
        "states": states(),
        "archives": archives(),
        "safetensors": safetensors(),
        "others": others(),
    }
