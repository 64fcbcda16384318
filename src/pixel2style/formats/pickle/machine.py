"""The machine that reads a pickle's opcodes and only takes notes.

It has a stack, marks and a memo, as Python's has. Names and calls become what ``inert`` says they stand for, and large
blocks of bytes stay views of what is read. Steps and texts are counted, so that a small file cannot become large and a
large one cannot take long. Whatever is wrong raises ``UnsafeNameError`` or one of ``BROKEN``.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from . import symbols, tensors
from .symbols import Name, UnsafeNameError
from .tensors import Storage

STEPS = 400_000
"""Opcodes in one file: several times the 63,000 of a StyleGAN2 of 1024 pixels, its discriminator and its average."""
TEXT, SPELT = 64 << 20, 2
"""Bytes of all strings in one file, and how often its own beside them: protocol 2 spells arrays as text."""
HEIGHT, NAME = 10_000, 256
"""Values on the stack (Python writes lists in parts of a thousand), bytes of a line, which is always a name."""
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
"""What a file of PyTorch's before 1.6 begins with, and so does every storage in a pickle: two numbers, pickled."""
BROKEN = (ValueError, LookupError, TypeError, struct.error, ArithmeticError)
"""What damaged bytes raise here."""


class Budget:
    """What a file of ``size`` bytes may still spend, over all the pickles inside it."""

    def __init__(self, size: int) -> None:
        self.steps = STEPS
        self.text = TEXT + SPELT * size


class Machine:
    """Reads one pickle after the other in ``data``.

    ``inner`` is for those that describe a storage: they name storages, call nothing and refer to what they describe.
    """

    def __init__(self, data: memoryview, budget: Budget, inner: bool = False):
        self.data = data
        self.budget = budget
        self.inner = inner
        self.opcodes = OPCODES
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the pickle that begins here; the next one begins behind it."""
        self.stack, self.marks, self.memo = [], [], {}
        while (code := self.data[self.position]) != _STOP:
            self.position += 1
            self.budget.steps -= 1
            if self.budget.steps < 0 or len(self.stack) > HEIGHT:
                raise ValueError("more steps than any network needs")
            self.opcodes[code](self)
        self.position += 1
        return self.stack.pop()

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        found = self.data[self.position : self.position + count]
        if len(found) != count:
            raise ValueError("cut short")
        self.position += count
        return found

    def number(self, layout: str) -> Any:
        """The next number, laid out as ``struct`` says."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, count: int) -> str:
        """The next ``count`` bytes as text."""
        self.budget.text -= count
        if self.budget.text < 0:
            raise ValueError("more text than any network needs")
        return str(self.take(count), "utf-8", "surrogatepass")

    def line(self) -> str:
        """The next line, which is a name."""
        head = bytes(self.data[self.position : self.position + NAME])
        end = head.index(b"\n")
        self.position += end + 1
        return head[:end].decode()

    def above_mark(self) -> list[Any]:
        """What was pushed since the last mark, off the stack."""
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def last(self, count: int) -> list[Any]:
        """The last ``count`` values, off the stack."""
        if len(self.stack) < count:
            raise ValueError("a stack too short")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def pay(self, value: Any) -> None:
        """Count what a call is handed as if it were read again: it may be copied."""
        if isinstance(value, str):
            self.budget.text -= len(value)
        elif isinstance(value, tuple | list | dict | set | frozenset):
            self.budget.steps -= len(value)
        if self.budget.text < 0:
            raise ValueError("more text than any network needs")

    def name(self, module: Any, name: Any) -> Name:
        """What would be imported."""
        return symbols.named(module, name, storages_only=self.inner)

    def call(self, what: Any, args: Any) -> Any:
        """What stands for ``what(*args)``."""
        if self.inner or not isinstance(args, tuple):
            raise ValueError("a call where there can be none")
        for value in args:
            self.pay(value)
        if what == ("torch.storage", "_load_from_bytes"):
            return self.storage(*args)
        return symbols.called(what, args)

    def storage(self, stream: Any) -> Storage:
        """The storage in bytes that PyTorch wrote before it wrote zips: five pickles, a count, the numbers."""
        if not isinstance(stream, memoryview):
            raise ValueError("a storage without bytes")
        machine = Machine(stream, self.budget, inner=True)
        magic, version, system, described, _ = (machine.run() for _ in range(5))
        if (magic, version) != (MAGIC, VERSION) or not isinstance(system, dict) or not isinstance(described, tuple):
            raise ValueError("a storage of another layout")
        word, kind, _, _, count, part = described
        if word != "storage" or not isinstance(kind, Name) or type(count) is not int or part is not None:
            raise ValueError("a storage of another layout")
        if system.get("little_endian") is not True or count != machine.number("<q"):
            raise ValueError("a storage of another layout")
        dtype = tensors.TORCH_KINDS[kind.name]
        return Storage(dtype, machine.take(count * dtype.itemsize))


def _push(value: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    """An opcode that pushes what ``value`` finds."""
    return lambda machine: machine.stack.append(value(machine))


def _text(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.text(machine.number(layout)))


def _bytes(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.take(machine.number(layout)))


def _number(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.number(layout))


def _constant(value: Any) -> Callable[[Machine], None]:
    return _push(lambda machine: value)


def _get(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.memo[machine.number(layout)])


def _put(layout: str) -> Callable[[Machine], None]:
    def remember(machine: Machine) -> None:
        machine.memo[machine.number(layout)] = machine.stack[-1]

    return remember


def _extension(layout: str, machine: Machine) -> None:
    raise UnsafeNameError(f"extension {machine.number(layout)}")


def _check_protocol(number: int) -> None:
    if number > 5:
        raise ValueError("a protocol to come")


def _reference(machine: Machine) -> None:
    if not machine.inner:
        raise ValueError("a reference to something outside")


def _pop(machine: Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _dict_of(pairs: list[Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    symbols.put(made, pairs)
    return made


def _instance(machine: Machine) -> Any:
    name = machine.name(machine.line(), machine.line())
    return machine.call(name, tuple(machine.above_mark()))


def _object(machine: Machine) -> Any:
    what, *args = machine.above_mark()
    return machine.call(what, tuple(args))


def _new_with_keywords(machine: Machine) -> Any:
    what, args, keywords = machine.last(3)
    if keywords != {}:
        raise ValueError("an object made with keywords")
    return machine.call(what, args)


def _with_mark(act: Callable[[Any, list[Any]], None]) -> Callable[[Machine], None]:
    """An opcode that gives what lies above the mark to what lies below it."""

    def apply(machine: Machine) -> None:
        values = machine.above_mark()
        act(machine.stack[-1], values)

    return apply


def _with_last(count: int, act: Callable[[Any, list[Any]], None]) -> Callable[[Machine], None]:
    """An opcode that gives the last values to what lies below them."""

    def apply(machine: Machine) -> None:
        values = machine.last(count)
        act(machine.stack[-1], values)

    return apply


_STOP = ord(".")
OPCODES: dict[int, Callable[[Machine], None]] = {
    0x80: lambda machine: _check_protocol(machine.number("B")),
    0x95: lambda machine: machine.number("<Q"),
    ord("("): lambda machine: machine.marks.append(len(machine.stack)),
    ord("0"): _pop,
    ord("1"): lambda machine: machine.above_mark().clear(),
    ord("2"): _push(lambda machine: machine.stack[-1]),
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("J"): _number("<i"),
    ord("K"): _number("B"),
    ord("M"): _number("<H"),
    ord("G"): _number(">d"),
    0x8A: _push(lambda machine: int.from_bytes(machine.take(machine.number("B")), "little", signed=True)),
    ord("X"): _text("<I"),
    0x8C: _text("B"),
    0x8D: _text("<Q"),
    ord("B"): _bytes("<I"),
    ord("C"): _bytes("B"),
    0x8E: _bytes("<Q"),
    0x96: _bytes("<Q"),
    ord("]"): _push(lambda machine: []),
    ord("}"): _push(lambda machine: {}),
    0x8F: _push(lambda machine: set()),
    ord(")"): _constant(()),
    ord("l"): _push(lambda machine: machine.above_mark()),
    ord("d"): _push(lambda machine: _dict_of(machine.above_mark())),
    ord("t"): _push(lambda machine: tuple(machine.above_mark())),
    0x91: _push(lambda machine: frozenset(symbols.keys(machine.above_mark()))),
    0x85: _push(lambda machine: tuple(machine.last(1))),
    0x86: _push(lambda machine: tuple(machine.last(2))),
    0x87: _push(lambda machine: tuple(machine.last(3))),
    ord("a"): _with_last(1, symbols.extend),
    ord("e"): _with_mark(symbols.extend),
    0x90: _with_mark(symbols.extend),
    ord("s"): _with_last(2, symbols.put),
    ord("u"): _with_mark(symbols.put),
    ord("b"): _with_last(1, lambda what, state: symbols.give_state(what, state[0])),
    ord("h"): _get("B"),
    ord("j"): _get("<I"),
    ord("q"): _put("B"),
    ord("r"): _put("<I"),
    0x94: lambda machine: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    ord("c"): _push(lambda machine: machine.name(machine.line(), machine.line())),
    0x93: _push(lambda machine: machine.name(*machine.last(2))),
    ord("R"): _push(lambda machine: machine.call(*machine.last(2))),
    0x81: _push(lambda machine: machine.call(*machine.last(2))),
    0x92: _push(_new_with_keywords),
    ord("i"): _push(_instance),
    ord("o"): _push(_object),
    ord("Q"): _reference,
    0x82: partial(_extension, "B"),
    0x83: partial(_extension, "<H"),
    0x84: partial(_extension, "<I"),
}
"""What protocols 2 to 5 are made of, by the byte that asks for it; the text of protocol 0 is not among them."""
