"""The pickle machine: it executes opcodes on a stack, imports nothing and calls nothing of Python's.

A name becomes a ``Name``; a call becomes what the ``Dialect`` of the file builds for that name, else a ``Record``
(``builders``). Large blocks of bytes stay views of the input. Opcodes and text are counted, so a small file can take
neither much memory nor much time. Invalid input raises ``UnsafeNameError`` or one of ``BROKEN``.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Any

from . import builders
from .builders import Dialect, Name, UnsafeNameError

TEXT, TEXT_RATIO = 64 << 20, 2
"""Bytes of all strings in a file: a constant, plus a multiple of its size (protocol 2 writes arrays as text)."""
MAX_STACK, MAX_LINE = 10_000, 256
"""Values on the stack (Python writes lists in parts of 1000), and bytes in a line, which is always a name."""
BROKEN = (ValueError, LookupError, TypeError, struct.error, ArithmeticError)
"""What damaged bytes raise here."""


class Budget:
    """Opcodes and bytes of text that a file of ``size`` bytes may still use, over all pickles inside it."""

    def __init__(self, size: int, steps: int) -> None:
        self.steps = steps
        self.text = TEXT + TEXT_RATIO * size

    def use_step(self, count: int = 1) -> None:
        """Count opcodes, or items that may be copied. Raises ValueError when too many."""
        self.steps -= count
        if self.steps < 0:
            raise ValueError("more steps than any network needs")

    def use_text(self, count: int) -> None:
        """Count bytes of text. Raises ValueError when too many."""
        self.text -= count
        if self.text < 0:
            raise ValueError("more text than any network needs")


class Machine:
    """Reads the pickles in ``data``, one after the other.

    ``dialect`` says which names may occur and what calls of them give; ``reference`` turns a persistent id into the
    storage that it describes, where the file format has such ids.
    """

    def __init__(
        self, data: memoryview, budget: Budget, dialect: Dialect, reference: Callable[[Any], Any] | None = None
    ):
        self.data = data
        self.budget = budget
        self.dialect = dialect
        self.reference = reference
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the pickle at the current position, which then is the end of that pickle."""
        self.stack, self.marks, self.memo = [], [], {}
        while (code := self.data[self.position]) != _STOP:
            self.position += 1
            self.budget.use_step()
            if len(self.stack) > MAX_STACK:
                raise ValueError("more values than any network needs")
            OPCODES[code](self)
        self.position += 1
        return self.stack.pop()

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        found = self.data[self.position : self.position + count]
        if len(found) != count:
            raise ValueError("the file ends too early")
        self.position += count
        return found

    def number(self, layout: str) -> Any:
        """The next number, in a layout of ``struct``."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, count: int) -> str:
        """The next ``count`` bytes as text."""
        self.budget.use_text(count)
        return str(self.take(count), "utf-8", "surrogatepass")

    def line(self) -> str:
        """The next line, which is a name."""
        head = bytes(self.data[self.position : self.position + MAX_LINE])
        end = head.index(b"\n")
        self.position += end + 1
        return head[:end].decode()

    def pop_to_mark(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def pop(self, count: int) -> list[Any]:
        """Pop the last ``count`` values, in the order in which they were pushed."""
        if len(self.stack) < count:
            raise ValueError("too few values on the stack")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def charge(self, value: Any) -> None:
        """Count an argument as if it were read again: a call may copy it."""
        if isinstance(value, str):
            self.budget.use_text(len(value))
        elif isinstance(value, tuple | list | dict | set | frozenset):
            self.budget.use_step(len(value))

    def name(self, module: Any, name: Any) -> Name:
        """The name that Python would import. Raises UnsafeNameError for one that the dialect does not have."""
        return self.dialect.name(module, name)

    def call(self, function: Any, args: Any) -> Any:
        """What stands for ``function(*args)``."""
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise ValueError("a call of something that is no function")
        for value in args:
            self.charge(value)
        return self.dialect.call(function, args)

    def set_state(self) -> None:
        """Give the object below the top its state, which is on the top."""
        (state,) = self.pop(1)
        self.charge(state)
        builders.set_state(self.stack[-1], state)

    def persistent_id(self) -> None:
        """Replace a persistent id on the stack by what it refers to."""
        if self.reference is None:
            raise ValueError("a reference to something outside the file")
        self.stack.append(self.reference(self.stack.pop()))


def _push(value: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    """An opcode that pushes ``value(machine)``."""
    return lambda machine: machine.stack.append(value(machine))


def _constant(value: Any) -> Callable[[Machine], None]:
    return _push(lambda machine: value)


def _number(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.number(layout))


def _text(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.text(machine.number(layout)))


def _bytes(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.take(machine.number(layout)))


def _get(layout: str) -> Callable[[Machine], None]:
    return _push(lambda machine: machine.memo[machine.number(layout)])


def _put(layout: str) -> Callable[[Machine], None]:
    def put(machine: Machine) -> None:
        machine.memo[machine.number(layout)] = machine.stack[-1]

    return put


def _on_marked(act: Callable[[Any, list[Any]], None]) -> Callable[[Machine], None]:
    """An opcode that gives the values above the mark to the value below it."""

    def apply(machine: Machine) -> None:
        values = machine.pop_to_mark()
        act(machine.stack[-1], values)

    return apply


def _on_last(count: int, act: Callable[[Any, list[Any]], None]) -> Callable[[Machine], None]:
    """An opcode that gives the last ``count`` values to the value below them."""

    def apply(machine: Machine) -> None:
        values = machine.pop(count)
        act(machine.stack[-1], values)

    return apply


def _protocol(machine: Machine) -> None:
    if machine.number("B") > 5:
        raise ValueError("a protocol that is newer than this reader")


def _pop(machine: Machine) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _instance(machine: Machine) -> Any:
    name = machine.name(machine.line(), machine.line())
    return machine.call(name, tuple(machine.pop_to_mark()))


def _object(machine: Machine) -> Any:
    function, *args = machine.pop_to_mark()
    return machine.call(function, tuple(args))


def _new_with_keywords(machine: Machine) -> Any:
    function, args, keywords = machine.pop(3)
    if keywords != {}:
        raise ValueError("an object made with keyword arguments")
    return machine.call(function, args)


def _extension(layout: str, machine: Machine) -> None:
    raise UnsafeNameError(f"extension {machine.number(layout)}")


_STOP = ord(".")
OPCODES: dict[int, Callable[[Machine], None]] = {
    0x80: _protocol,
    0x95: lambda machine: machine.number("<Q"),  # length of a frame
    ord("("): lambda machine: machine.marks.append(len(machine.stack)),
    ord("0"): _pop,
    ord("1"): lambda machine: machine.pop_to_mark().clear(),
    ord("2"): _push(lambda machine: machine.stack[-1]),
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("J"): _number("<i"),
    ord("K"): _number("B"),
    ord("M"): _number("<H"),
    ord("G"): _number(">d"),
    0x8A: _push(lambda machine: int.from_bytes(machine.take(machine.number("B")), "little", signed=True)),
    ord("U"): _text("B"),
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
    ord("l"): _push(Machine.pop_to_mark),
    ord("d"): _push(lambda machine: builders.dict_of(machine.pop_to_mark())),
    ord("t"): _push(lambda machine: tuple(machine.pop_to_mark())),
    0x91: _push(lambda machine: frozenset(builders.keys(machine.pop_to_mark()))),
    0x85: _push(lambda machine: tuple(machine.pop(1))),
    0x86: _push(lambda machine: tuple(machine.pop(2))),
    0x87: _push(lambda machine: tuple(machine.pop(3))),
    ord("a"): _on_last(1, builders.add_items),
    ord("e"): _on_marked(builders.add_items),
    0x90: _on_marked(builders.add_items),
    ord("s"): _on_last(2, builders.set_items),
    ord("u"): _on_marked(builders.set_items),
    ord("b"): Machine.set_state,
    ord("h"): _get("B"),
    ord("j"): _get("<I"),
    ord("q"): _put("B"),
    ord("r"): _put("<I"),
    0x94: lambda machine: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    ord("c"): _push(lambda machine: machine.name(machine.line(), machine.line())),
    0x93: _push(lambda machine: machine.name(*machine.pop(2))),
    ord("R"): _push(lambda machine: machine.call(*machine.pop(2))),
    0x81: _push(lambda machine: machine.call(*machine.pop(2))),
    0x92: _push(_new_with_keywords),
    ord("i"): _push(_instance),
    ord("o"): _push(_object),
    ord("Q"): Machine.persistent_id,
    0x82: partial(_extension, "B"),
    0x83: partial(_extension, "<H"),
    0x84: partial(_extension, "<I"),
}
"""The opcodes of protocols 2 to 5, and the text of Python 2 (``U``); protocol 0, which is text, is not read."""
