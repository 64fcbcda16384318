"""Hostile and damaged pickles, written opcode by opcode, so that nothing is imported to write them.

Code in them, if it ran, would create the file ``marker``. ``tests/formats/test_hostile.py`` shows that each is refused.
"""

import io
import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import torch

MARKER = Path("/tmp/pixel2style-ran")

P2, P4 = b"\x80\x02", b"\x80\x04"
STOP, MARK, REDUCE, BUILD, NEWOBJ, NEWOBJ_EX = b".", b"(", b"R", b"b", b"\x81", b"\x92"
STACK_GLOBAL, MEMOIZE, NONE, TRUE, FALSE = b"\x93", b"\x94", b"N", b"\x88", b"\x89"
PERSISTENT = ("torch_utils.persistence", "_reconstruct_persistent_obj")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def blob(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def whole(value: int) -> bytes:
    length = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)


def several(*values: bytes) -> bytes:
    return MARK + b"".join(values) + b"t"


def table(**values: bytes) -> bytes:
    """A dictionary, written in parts as Python writes it."""
    entries = [text(key) + value for key, value in values.items()]
    parts = [MARK + b"".join(entries[start : start + 1000]) + b"u" for start in range(0, len(entries), 1000)]
    return b"}" + b"".join(parts)


def name(module: str, what: str) -> bytes:
    return f"c{module}\n{what}\n".encode()


def call(module: str, what: str, *args: bytes) -> bytes:
    return name(module, what) + several(*args) + REDUCE


def network(state: bytes, class_name: bytes = text("Generator")) -> bytes:
    """A network as NVIDIA's code pickles it."""
    about = table(type=text("class"), version=whole(6), module_src=text("raise"), class_name=class_name, state=state)
    return call(*PERSISTENT, about)


def saved(value: bytes, protocol: bytes = P2) -> bytes:
    """A file whose averaged generator is ``value``."""
    return protocol + table(G_ema=value) + STOP


def generator(value: bytes) -> bytes:
    """A file whose generator's first constant is ``value``, so that it looks like StyleGAN2's."""
    block = network(table(_parameters=table(const=value), _buffers=b"}", _modules=b"}"))
    synthesis = network(table(_parameters=b"}", _buffers=b"}", _modules=table(b4=block)))
    return saved(network(table(_parameters=b"}", _buffers=b"}", _modules=table(synthesis=synthesis))))


def storage(
    count: int = 4,
    there: int | None = None,
    kind: bytes = b"ctorch\nFloatStorage\n",
    size: int | None = None,
    magic: int = 0x1950A86A20F9469CFC6C,
    system: bytes | None = None,
    described: bytes | None = None,
) -> bytes:
    """A storage as PyTorch pickles it: ``count`` numbers are claimed, ``there`` are said to follow."""
    system = table(little_endian=TRUE) if system is None else system
    described = several(text("storage"), kind, text("0"), text("cpu"), whole(count), NONE) + b"Q" \
        if described is None else described  # fmt: skip
    stream = b"".join(
        P2 + part + STOP for part in (whole(magic), whole(1001), system, described, b"]" + text("0") + b"a")
    )
    stream += struct.pack("<q", count if there is None else there) + bytes(16 if size is None else size)
    return call("torch.storage", "_load_from_bytes", blob(stream))


def tensor(
    shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), offset: int = 0, held: bytes | None = None
) -> bytes:
    held = storage() if held is None else held
    sizes, steps = (several(*map(whole, values)) for values in (shape, stride))
    hooks = call("collections", "OrderedDict")
    return call("torch._utils", "_rebuild_tensor_v2", held, whole(offset), sizes, steps, FALSE, hooks)


def array(kind: str = "f4", shape: tuple[int, ...] = (4,), order: str = "<", data: bytes | None = None) -> bytes:
    """An array as NumPy pickles it."""
    dtype = call("numpy", "dtype", text(kind), FALSE, TRUE)
    dtype += several(whole(3), text(order), NONE, NONE, NONE, whole(-1), whole(-1), whole(0)) + BUILD
    blank = call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), several(whole(0)), blob(b"b"))
    held = blob(bytes(16)) if data is None else data
    return blank + several(whole(1), several(*map(whole, shape)), dtype, FALSE, held) + BUILD


def commands(marker: Path) -> Iterator[tuple[str, bytes]]:
    """Files that contain commands."""
    touch, opened = text(f"touch {marker}"), text(f"open({str(marker)!r}, 'w')")
    yield "os.system", saved(call("os", "system", touch))
    yield "os.system in protocol 0", b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
    yield "os.system by STACK_GLOBAL", saved(text("os") + text("system") + STACK_GLOBAL + several(touch) + REDUCE, P4)
    yield "os.system by memo", P4 + text("system") + MEMOIZE + text("os") + b"h\x00" + STACK_GLOBAL + touch + b"\x85R."
    yield "os.system by INST", P2 + MARK + touch + b"ios\nsystem\n."
    yield "os.system by OBJ", P2 + MARK + name("os", "system") + touch + b"o."
    yield "os.system by NEWOBJ", saved(name("os", "system") + several(touch) + NEWOBJ)
    yield "os.system by NEWOBJ_EX", saved(name("os", "system") + several(touch) + b"}" + NEWOBJ_EX, P4)
    yield "os.system behind STOP of an inner pickle", saved(storage(described=call("os", "system", touch)))
    yield "os.system as a kind of storage", generator(tensor(held=storage(kind=name("os", "system"))))
    yield "os.system as system of a storage", generator(tensor(held=storage(system=call("os", "system", touch))))
    yield (
        "os.system below NVIDIA's names",
        saved(text("dnnlib.util") + text("os.system") + STACK_GLOBAL + several(touch) + REDUCE, P4),
    )
    yield (
        "os.system below PyTorch's names",
        saved(text("torch.nn.modules") + text("utils.os.system") + STACK_GLOBAL + several(touch) + REDUCE, P4),
    )
    yield (
        "os.system as a hook",
        generator(call("torch._utils", "_rebuild_parameter", tensor(), TRUE, call("os", "system", touch))),
    )
    yield "os.system as a default", saved(call("collections", "defaultdict", name("os", "system")))
    yield "os.system imported and not called", P2 + name("os", "system") + b"0" + table(G_ema=NONE) + STOP
    yield "posix.system", saved(call("posix", "system", touch))
    yield "nt.system", saved(call("nt", "system", touch))
    yield "subprocess.Popen", saved(call("subprocess", "Popen", touch))
    yield "builtins.eval", saved(call("builtins", "eval", opened))
    yield "builtins.exec", saved(call("builtins", "exec", opened))
    yield "__builtin__.eval", saved(call("__builtin__", "eval", opened))
    yield "builtins.__import__", saved(call("builtins", "__import__", text("antigravity")))
    yield "builtins.getattr", saved(call("builtins", "getattr", name("builtins", "object"), text("__subclasses__")))
    yield (
        "a chain of getattr",
        saved(call("builtins", "getattr", call("builtins", "__import__", text("os")), text("system"))),
    )
    yield "builtins.map", saved(call("builtins", "map", name("builtins", "str"), several(touch)))
    yield "builtins.type", saved(call("builtins", "type", text("X"), several(), b"}"))
    yield (
        "builtins.bytes.fromhex",
        saved(text("builtins") + text("bytes.fromhex") + STACK_GLOBAL + several(text("00")) + REDUCE, P4),
    )
    yield "types.CodeType", saved(call("types", "CodeType", whole(0)))
    yield "operator.methodcaller", saved(call("operator", "methodcaller", text("system")))
    yield "functools.partial", saved(call("functools", "partial", name("os", "system")))
    yield "torch.load", saved(call("torch", "load", text(str(marker))))
    yield "torch.jit._script.unpackage_script_module", saved(call("torch.jit._script", "unpackage_script_module", NONE))
    yield "torch.hub.load", saved(call("torch.hub", "load", text("x")))
    yield "torch.storage", saved(call("torch.storage", "os.system", touch))
    yield "numpy.testing", saved(call("numpy.testing._private.utils", "runstring", opened, b"}"))
    yield "numpy.load", saved(call("numpy", "load", text(str(marker)), NONE, TRUE))
    yield "pickle.loads", saved(call("pickle", "loads", blob(b"cos\nsystem\n(S'true'\ntR.")))
    yield "a name like NVIDIA's", saved(call("dnnlibx", "system", touch))
    yield (
        "a name with a newline",
        saved(text("dnnlib.util\nos") + text("system") + STACK_GLOBAL + several(touch) + REDUCE, P4),
    )
    yield (
        "a name in other letters",
        saved(text("dnnlib.util") + text("ſystem") + STACK_GLOBAL + several(touch) + REDUCE, P4),
    )
    yield "a name that writes to terminals", saved(text("\x1b[2J") + text("\x07") + STACK_GLOBAL, P4)
    for code, bits in ((b"\x82", b"\x01"), (b"\x83", b"\x01\x00"), (b"\x84", b"\x01\x00\x00\x00")):
        yield f"extension {len(bits)}", saved(code + bits + several() + REDUCE)


def tricks(marker: Path) -> Iterator[tuple[str, bytes]]:
    """Files that use what is allowed for something else."""
    touch = text(f"touch {marker}")
    yield "PERSID", P2 + b"P0\n."
    yield "BINPERSID", saved(text("0") + b"Q")
    yield "a reference beside storages", generator(several(text("storage"), NONE) + b"Q")
    yield "BUILD on a name", saved(name("torch._utils", "_rebuild_tensor_v2") + table(__code__=NONE) + BUILD)
    yield (
        "BUILD with slots",
        saved(name("torch._utils", "_rebuild_tensor_v2") + several(NONE, table(__globals__=b"}")) + BUILD),
    )
    yield "BUILD on a text", saved(touch + table(__class__=NONE) + BUILD)
    yield "BUILD on a list", saved(b"]" + table(append=NONE) + BUILD)
    yield "BUILD on a tensor", generator(tensor() + table(__class__=NONE) + BUILD)
    yield "BUILD twice", saved(name("training.networks", "Generator") + b")" + NEWOBJ + b"}b" + table(x=NONE) + BUILD)
    yield (
        "a state that sets itself",
        saved(
            name("training.networks", "Generator") + b")" + NEWOBJ + table(__setstate__=name("os", "system")) + BUILD
        ),
    )
    yield "a call of a text", saved(touch + several() + REDUCE)
    yield "a call of a record", saved(network(b"}") + several() + REDUCE)
    yield "a call with a list", saved(name("torch", "Size") + b"]" + REDUCE)
    yield "items of a text", saved(touch + MARK + touch + b"e")
    yield "entries of a list", saved(b"]" + MARK + touch + touch + b"u")
    yield "an entry without value", saved(b"}" + MARK + touch + b"u")
    yield "a list as key", saved(b"}" + b"]" + NONE + b"s")
    yield "a record as key", saved(b"}" + network(b"}") + NONE + b"s")
    yield "a network that is a text", saved(network(touch))
    yield "a network without class", saved(network(b"}", class_name=NONE))
    yield "a class that writes to terminals", saved(network(b"}", class_name=text("\x1b[2J\x07\n")))
    yield "a constant that is a text", generator(touch)
    yield "a constant that is a network", generator(network(b"}"))
    yield "a parameter of no tensor", generator(call("torch._utils", "_rebuild_parameter", touch, TRUE, NONE))
    yield "a storage in a storage", generator(tensor(held=storage(described=storage())))
    yield "a storage of text", generator(tensor(held=call("torch.storage", "_load_from_bytes", touch)))
    yield "a storage of other magic", generator(tensor(held=storage(magic=7)))
    yield "a storage of a big-endian machine", generator(tensor(held=storage(system=table(little_endian=FALSE))))
    yield "a storage that is a number", generator(tensor(held=whole(4)))
    yield "arrays of objects", generator(array("O8"))
    yield "arrays of objects in a list", generator(array(data=b"]" + touch + b"a"))
    yield "arrays of text", generator(array("U4"))
    yield "arrays of records", generator(array("V16"))
    yield "arrays of a big-endian machine", generator(array(order=">"))
    yield "an array that holds less", generator(array(shape=(5,)))
    yield (
        "an array told by a text",
        generator(call("numpy.core.multiarray", "_reconstruct", NONE, NONE, NONE) + touch + BUILD),
    )


def giants() -> Iterator[tuple[str, bytes]]:
    """Small files that claim to be large."""
    yield "a giant shape", generator(tensor((1 << 40,)))
    yield "a giant shape without strides", generator(tensor((1 << 40,), (0,)))
    yield "a giant product of shapes", generator(tensor((1 << 31, 1 << 31, 1 << 31), (0, 0, 0)))
    yield "a shape that overflows", generator(tensor((1 << 62, 1 << 62), (1, 1)))
    yield "a shape of many letters", generator(tensor((1 << 2000,), (1,)))
    yield "a negative shape", generator(tensor((-1,)))
    yield "a negative stride", generator(tensor((4,), (-1,)))
    yield "a stride that overflows", generator(tensor((2,), (1 << 62,)))
    yield "a stride beyond", generator(tensor((2, 2), (3, 1)))
    yield "a negative offset", generator(tensor((1,), (1,), -1))
    yield "an offset beyond", generator(tensor((1,), (1,), 4))
    yield "an offset that overflows", generator(tensor((1,), (1,), 1 << 63))
    yield "more strides than axes", generator(tensor((4,), (1, 1)))
    yield "more axes than sense", generator(tensor((1,) * 100, (1,) * 100))
    yield "a shape of truth", generator(tensor().replace(whole(4) + b"t", TRUE + b"t"))
    yield "a storage that claims more", generator(tensor(held=storage(1 << 40)))
    yield "a storage that claims less than it says", generator(tensor(held=storage(4, there=1 << 40)))
    yield "a storage of negative size", generator(tensor(held=storage(-4)))
    yield "a storage of unknown kind", generator(tensor(held=storage(kind=name("torch", "StringStorage"))))
    yield "an array of a giant shape", generator(array(shape=(1 << 40,)))
    yield "an array of a shape that overflows", generator(array(shape=(1 << 62, 4)))
    yield "an empty array of giant axes", generator(array(shape=(0, 1 << 62), data=blob(b"")))
    yield "an array of negative shape", generator(array(shape=(-2, -2)))
    for code, layout in ((b"\x8e", "<Q"), (b"\x8d", "<Q"), (b"\x96", "<Q"), (b"B", "<I"), (b"X", "<I"), (b"T", "<i")):
        most = (1 << 8 * struct.calcsize(layout) - (layout == "<i")) - 1
        yield f"{code.hex()} of {most} bytes", P4 + code + struct.pack(layout, most) + b"abc."
    yield "a frame of 2^64 bytes", P4 + b"\x95" + b"\xff" * 8 + b"cos\n"
    yield "LONG4 of 2^31 bytes", P2 + b"\x8b\xff\xff\xff\x7f" + b"abc."
    yield "a number of many digits", b"\x80\x02I" + b"9" * 1_000_000 + b"\n."
    yield "a memo of 2^32 places", P2 + NONE + b"r\xff\xff\xff\xff" + b"j\xff\xff\xff\xff."
    yield "a place that was never filled", saved(b"j\xff\xff\xff\xff")
    yield "a line without end", P2 + b"c" + b"a" * 1_000_000


def structures() -> Iterator[tuple[str, bytes]]:
    """Deep, endless and many."""
    deep = 1_900
    empty = table(_parameters=b"}", _buffers=b"}", _modules=b"}")
    yield "tuples in tuples", saved(b")" + b"\x85" * 100 * deep)
    yield "lists in lists", saved(b"]" * deep + b"a" * (deep - 1))
    yield "dictionaries in dictionaries", saved((b"}" + text("G")) * deep + NONE + b"s" * deep)
    yield "a list that holds itself", P4 + b"]" + MEMOIZE + b"h\x00a."
    yield "a dictionary that holds itself", P4 + b"}" + MEMOIZE + text("G_ema") + b"h\x00s."
    yield "a tuple that holds itself", P4 + b"]" + MEMOIZE + b"h\x00\x85a" + text("G_ema") + b"\x86."
    record = name("training.networks", "Generator") + b")" + NEWOBJ + MEMOIZE
    inside = table(_parameters=b"}", _buffers=b"}", _modules=table(G=b"h\x00"))
    yield "a network that holds itself", P4 + record + inside + BUILD + STOP
    chain = (name("training.networks", "Block") + b")" + NEWOBJ + b"}" + text("_modules") + b"}" + text("b")) * deep
    yield "networks in networks", P4 + chain + NONE + b"ssb" * deep + STOP
    pairs = P4 + name("training.networks", "Block") + b")" + NEWOBJ + MEMOIZE
    for place in range(60):
        both = table(a=b"h" + bytes([place]), b=b"h" + bytes([place]))
        pairs += name("training.networks", "Block") + b")" + NEWOBJ + table(_modules=both) + BUILD + MEMOIZE
    yield "2^60 networks on sixty", pairs + STOP
    tied = P4 + name("dnnlib.tflib.network", "Network") + b")" + NEWOBJ + MEMOIZE
    tied += table(variables=b"]", components=table(mapping=b"h\x00"), version=whole(4)) + BUILD + STOP
    yield "a TensorFlow network that holds itself", tied
    yield (
        "a TensorFlow network of numbers",
        P4
        + name("dnnlib.tflib.network", "Network")
        + b")"
        + NEWOBJ
        + (table(variables=b"]" + several(text("dlatent_avg"), whole(3)) + b"a", version=whole(4)) + BUILD + STOP),
    )
    yield "opcodes without end", P2 + (NONE + b"0") * 2_000_000 + NONE + STOP
    yield "values without end", P2 + NONE * 3_000_000 + STOP
    yield "marks without end", P2 + MARK * 3_000_000 + STOP
    yield "lists without end", P2 + b"]" * 3_000_000 + STOP
    yield "sets without end", P4 + b"\x8f" * 3_000_000 + STOP
    yield "copies without end", P2 + b"]" + b"2" * 3_000_000 + b"e" + STOP
    yield "a list that doubles", P4 + b"]" + MEMOIZE + (MARK + b"h\x00" * 4 + b"e") * 10_000 + STOP
    yield (
        "keys that collide",
        saved(b"}" + MARK + b"".join(whole(n * ((1 << 61) - 1)) + NONE for n in range(1, 4_000)) + b"u"),
    )
    yield "texts without end", saved(b"]" + MARK + text("x" * (1 << 20)) * 80 + b"e")
    yield "a text of many bytes a letter", saved(text("\U0001f600" + "x" * (70 << 20)))
    yield "a network's name without end", saved(table(**{"n" * 100_000: network(empty)}))
    yield "a network called without end", P4 + table(**{"n" * 100_000: network(empty)}) + STOP
    yield "a name without end", saved(network(table(_modules=table(**{"n" * 100_000: network(empty)}))))
    many = network(table(_parameters=table(**{f"n{n}": b"h\x00" for n in range(30_000)})))
    yield "parameters without end", P4 + tensor() + MEMOIZE + b"0" + table(G_ema=many) + STOP
    networks = table(**{f"G{n}": network(b"}") for n in range(3_000)})
    yield "networks without end", P4 + networks + STOP
    full = network(table(_parameters=table(**{f"n{n}": b"h\x00" for n in range(4_000)}))) + MEMOIZE + b"0"
    again = table(**{f"n{n}": b"h\x01" for n in range(10_000)})
    yield "one network without end", P4 + tensor() + MEMOIZE + b"0" + full + again + STOP
    long = P4 + text("x" * (30 << 20)) + MEMOIZE + b"0"
    for what in (name("_codecs", "encode"), name("builtins", "bytearray"), name("numpy", "dtype")):
        called = what + several(b"h\x00", *([text("latin1")] if b"codecs" in what else [])) + REDUCE
        yield f"a text given to {what.split()[-1].decode()} without end", long + b"]" + (called + b"a") * 10_000 + STOP
    named = b"h\x00" + b"h\x00" + STACK_GLOBAL
    yield "a text for a name without end", long + b"]" + (named + b"a") * 10_000 + STOP
    items = P4 + b"]" + MEMOIZE + (MARK + NONE * 1000 + b"e") * 100 + b"0"
    for what in (name("torch", "Size"), name("builtins", "frozenset"), name("builtins", "set")):
        called = what + several(b"h\x00") + REDUCE
        yield f"items given to {what.split()[-1].decode()} without end", items + b"]" + (called + b"a") * 50_000 + STOP


def remembered(place: int) -> bytes:
    return b"h" + bytes([place])


def shared() -> Iterator[tuple[str, bytes]]:
    """Small files where one thing stands in many places, and who copies it does not end."""

    def called(value: bytes, keys: bytes = b"n") -> bytes:
        """``value`` under 200 names."""
        return table(**{f"{keys.decode()}{n}": value for n in range(200)})

    empty = {"_parameters": b"}", "_buffers": b"}", "_modules": b"}"}
    leaf = P4 + text("x" * 201) + MEMOIZE + b"0"
    tables = leaf + b"".join(called(remembered(level)) + MEMOIZE + b"0" for level in range(3))
    lists = leaf + b"".join(b"]" + MARK + remembered(level) * 200 + b"e" + MEMOIZE + b"0" for level in range(2))
    lists += called(remembered(2)) + MEMOIZE + b"0"
    for what, start in {"dictionaries": tables, "lists": lists}.items():
        arguments = table(**empty, _init_kwargs=remembered(3))
        yield f"arguments of shared {what}", start + table(G_ema=network(arguments)) + STOP
        several_networks = table(**{f"G{n}": network(arguments) for n in range(16)})
        yield f"arguments of shared {what} in every network", start + several_networks + STOP
        tied = name("dnnlib.tflib.network", "Network") + b")" + NEWOBJ
        tied += table(variables=b"]", static_kwargs=remembered(3), version=whole(4)) + BUILD
        yield f"arguments of shared {what} in TensorFlow", start + table(Gs=tied) + STOP
    nothing = table(**{f"n{n}": NONE for n in range(100_000)})
    held = network(table(_parameters=remembered(0), _buffers=b"}", _modules=b"}"))
    below = table(**{f"m{n}": held for n in range(2_400)})
    whole_one = network(table(_parameters=b"}", _buffers=b"}", _modules=below))
    yield "empty places without end", P4 + nothing + MEMOIZE + b"0" + table(G_ema=whole_one) + STOP
    long = P4 + text("n" * (20 << 20)) + MEMOIZE + b"0" + tensor() + MEMOIZE + b"0"
    variable = remembered(0) + remembered(1) + b"\x86"
    part = name("dnnlib.tflib.network", "Network") + b")" + NEWOBJ
    part += table(variables=b"]" + MARK + variable * 4_000 + b"e") + BUILD
    tied = name("dnnlib.tflib.network", "Network") + b")" + NEWOBJ
    tied += table(variables=b"]", components=table(mapping=part), version=whole(4)) + BUILD
    yield "a variable's name without end", long + table(Gs=tied) + STOP
    inside = table(**{f"n{n}": remembered(1) for n in range(4_000)})
    yield "a prefix without end", long + b"}" + remembered(0) + inside + b"s" + STOP


def damaged() -> Iterator[tuple[str, bytes]]:
    """A network that was cut or changed, and pickles that do not add up."""
    whole_file = generator(tensor())
    for tenth in range(1, 10):
        yield f"cut after {tenth} tenths", whole_file[: len(whole_file) * tenth // 10]
    yield "nothing but a protocol", P4
    yield "an end at once", P4 + STOP
    yield "an unknown protocol", b"\x80\x09" + table(G_ema=NONE) + STOP
    yield "an unknown opcode", P4 + b"\xff."
    yield "too few on the stack", P4 + b"\x87."
    yield "a mark that is not there", P4 + b"e."
    yield "text of another code", P2 + b"X\x02\x00\x00\x00\xff\xfe."
    yield "half a generator", generator(tensor((1, 4, 1), (4, 1, 1)))
    yield "a state that was pickled", pickle.dumps({"input.input": [1.0, 2.0]}, 4)
    yield "zeros behind the protocol", P4 + bytes(1000)
    buffer = io.BytesIO()
    torch.save({"synthesis.b4.const": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    yield "an old file without its head", buffer.getvalue()[15:]


def groups(marker: Path = MARKER) -> dict[str, Iterator[tuple[str, bytes]]]:
    """All of them, made one at a time: together they take 350 MB and two seconds."""
    return {
        "pickled commands": commands(marker),
        "pickled tricks": tricks(marker),
        "pickled giants": giants(),
        "pickled structures": structures(),
        "pickled shared values": shared(),
        "damaged pickles": damaged(),
    }
