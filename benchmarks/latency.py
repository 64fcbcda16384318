"""Time of one photograph, from file to picture: in a loaded session, and from a cold start.

    python benchmarks/latency.py                                       pixel2style invert examples/astronaut.png
    python benchmarks/latency.py --against OTHER/src                   beside another checkout
    python benchmarks/latency.py --task superres --model FILE --factor 8
    python benchmarks/latency.py --task edit                           pixel2style edit --set age=2
    python benchmarks/latency.py --beside 0 1 2                        beside so many busy processes

"loaded" is ``Session.invert`` (or ``translate``) on a file and the making of the pair, divided into parts by wrapping
the functions that are called; of an edit, "each further" is one more strength of it; "and written" is the same through
``inference.folder``, files included. "cold" is the command in new processes, from start to end. Figures are medians
and, in parentheses, the ninth decile over all repeats; processes of both checkouts alternate, so that other work on the
machine affects both. Threads wait as under the command line (``cli.WAITING``), unless the environment says otherwise.
On Linux, where the user may (root, or a real-time limit), they have real-time priority, as under ``chrt --fifo 1``, and
no more processors than ``--threads``; not with ``--beside``, whose neighbours have the same rights.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

HERE = Path(__file__).parents[1]
WARM = {
    "read": ["images.load"],
    "find": ["faces.align.FaceAligner.find"],
    "cut": ["inference.prepare.Frame.cut"],
    "encode": ["models.psp.PSP.encode"],
    "refine": ["inference.rows.Fitter.fit"],
    "detail": ["models.psp.PSP.with_detail"],
    "carry": ["editing.carry.Carrier.__init__", "editing.carry.Carrier.__call__"],
    "draw": ["models.psp.PSP.decode", "inference.session.Session._draw"],
    "picture": ["images.to_picture", "inference.session.Result.pair"],
}
"""Parts of a call, and the functions of ``pixel2style`` that they consist of: module, class, name."""
EDIT = "age=2"
FORMER = {
    "faces.align": "align",
    "inference.folder": "pipeline",
    "inference.prepare": "translation",
    "inference.session": "session",
    "models.psp": "model",
    "photos": "folders",
}
"""Modules by their names before 0.5, for another checkout."""
COLD = {
    "loading": ["checkpoints.load", "faces.align.FaceAligner.__init__"],
    "saving": ["images.save", "checkpoints.save_tensors"],
}


def module(name: str) -> Any:
    """A module of the installed ``pixel2style``, by the name of this version or its former one."""
    try:
        return import_module(f"pixel2style.{name}")
    except ModuleNotFoundError:
        if name not in FORMER:
            raise
        return import_module(f"pixel2style.{FORMER[name]}")


class Stopwatch:
    """Seconds in wrapped functions, by part; overlapping calls, nested or in several threads, count once."""

    def __init__(self, parts: Mapping[str, Sequence[str]]):
        self.spans: list[tuple[float, float, str]] = []
        for part, functions in parts.items():
            for function in functions:
                self._wrap(part, function)

    def _wrap(self, part: str, function: str) -> None:
        owner, name = self.resolve(function)
        if name not in vars(owner):
            return  # another checkout, without this part
        wrapped = vars(owner)[name]
        inner: Callable[..., Any] = cast(Any, wrapped).fget if isinstance(wrapped, property) else wrapped

        def timed(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self.spans.append((start, time.perf_counter(), part))

        setattr(owner, name, property(timed) if isinstance(wrapped, property) else timed)

    @staticmethod
    def resolve(function: str) -> tuple[Any, str]:
        """The module or class that has a function, and the function's name."""
        path, _, name = function.rpartition(".")
        package, _, owner = path.rpartition(".")
        return (getattr(module(package), owner), name) if owner[0].isupper() else (module(path), name)

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call; a call inside another part counts to that part."""
        seconds, end = defaultdict[str, float](float), 0.0
        for start, stop, part in sorted(self.spans):
            seconds[part] += max(0.0, stop - max(start, end))
            end = max(end, stop)
        self.spans.clear()
        return seconds


def loaded(given: argparse.Namespace, out: Path) -> list[dict[str, float]]:
    """Seconds of each repeat by part, in this process."""
    import torch

    torch.set_num_threads(given.threads)
    folder = module("inference.folder")
    watch = Stopwatch(WARM)
    session = module("inference.session").Session(given.model, "cpu")
    photos = module("photos").find([str(given.photo)])
    request = module("inference.prepare").Request(given.task, factor=given.factor, mask=given.mask)

    def edited(result: Any, further: int = 0) -> Any:
        moves = [module("inference.edit").parsed(EDIT, session.model.generator)]
        ws = module("inference.edit").edited(result.ws, moves)
        return session.edit(
            result, ws, torch.stack([ws + 0.01 * number for number in range(further)]) if further else None
        )

    def each_further() -> float:
        result = session.invert(given.photo)
        one, many = (min(seconds(lambda n=n: edited(result, n)) for _ in range(2)) for n in (0, 4))
        return (many - one) / 4

    def call() -> None:
        if given.task == "edit":
            ((_, result),) = session.invert_many(photos, change=edited)
        elif given.task == "invert":
            result = session.invert(given.photo)
        else:
            result = session.translate(given.photo, factor=given.factor, mask=given.mask)
        _ = result.pair

    def write() -> None:
        if given.task == "invert":
            outcomes = folder.invert_into(out, photos, session, overwrite=True)
        elif given.task == "edit":
            outcomes = folder.edit_into(out, photos, session, [EDIT], overwrite=True)
        else:
            outcomes = folder.translate_into(out, photos, session, request, overwrite=True)
        assert all(outcome.error is None for outcome in outcomes)

    call()
    write()
    found = []
    for _ in range(given.repeats):
        watch.take()
        whole = seconds(call)
        parts = watch.take()
        rest = whole - sum(parts.values())
        further = {"each further": each_further()} if given.task == "edit" else {}
        found.append({**parts, "rest": rest, "**loaded**": whole, **further, "and written": seconds(write)})
    return found


def cold(given: argparse.Namespace, out: Path) -> list[dict[str, float]]:
    """Seconds of the command by part, in this process, which has just started."""
    from pixel2style import cli

    photos = module("photos")
    imported, watch, find = list[float](), list[Stopwatch](), photos.find

    def found(*words: Any, **named: Any) -> Any:  # the first call after the imports
        imported.append(time.time() - given.began)
        watch.append(Stopwatch(COLD))
        return find(*words, **named)

    photos.find = found
    given_options = {name: getattr(given, name) for name in ("factor", "mask")}
    options = [word for name, value in given_options.items() if value is not None for word in (f"--{name}", str(value))]
    command = {"invert": ["invert"], "edit": ["edit", "--set", EDIT]}.get(
        given.task, ["translate", given.task, *options]
    )
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        code = cli.main([*command, str(given.photo), "--out", str(out), "--model", given.model, "--device", "cpu"])
    assert code == 0
    parts, whole = watch[0].take(), time.time() - given.began
    return [
        {"imports": imported[0], **parts, "first call": whole - imported[0] - sum(parts.values()), "leaving": whole}
    ]


def seconds(step: Callable[[], None]) -> float:
    """Wall time of ``step``."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def child(given: argparse.Namespace, kind: str, source: Path) -> tuple[list[dict[str, float]], float]:
    """The measurements of a new process that runs ``source``, and its peak resident gigabytes (10^9)."""
    from pixel2style.cli import WAITING

    environment = WAITING | os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": str(given.threads)}
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, *sys.argv[1:], "--child", kind, "--out", folder, "--began", str(began)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.time()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    found = json.loads(output)
    if kind == "cold":
        found[0] |= {"leaving": ended - began - found[0]["leaving"], "**cold**": ended - began}
    return found, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


@contextlib.contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that compute without a pause."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def take_precedence(threads: int) -> None:
    """Run this process and its children on ``threads`` processors at real-time priority, where that is allowed."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def table(columns: Mapping[str, list[dict[str, float]]]) -> None:
    """Print medians and ninth deciles, milliseconds."""
    names = list(columns)
    print(f"| | {' | '.join(names)} |{' ratio |' if len(names) == 2 else ''}")
    print("|---" * (len(names) + 1 + (len(names) == 2)) + "|")
    for part in columns[names[-1]][0]:
        samples = [[one.get(part, 0.0) * 1e3 for one in columns[name]] for name in names]
        middles = [statistics.median(taken) for taken in samples]
        cells = [f"{middle:.0f} ({decile(taken):.0f})" for middle, taken in zip(middles, samples, strict=True)]
        ratio = [f"{middles[1] / middles[0]:.2f}"] if len(names) == 2 and middles[0] else [""] * (len(names) == 2)
        print(f"| {part} | {' | '.join([*cells, *ratio])} |")


def decile(taken: list[float]) -> float:
    """The ninth."""
    return sorted(taken)[min(len(taken) - 1, round(0.9 * (len(taken) - 1)))]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=HERE / "examples" / "astronaut.png")
    parser.add_argument("--task", default="invert")
    parser.add_argument("--model", default="faces", help="bundled name or file")
    parser.add_argument("--factor", type=int, help="as of pixel2style translate")
    parser.add_argument("--mask", help="as of pixel2style translate")
    parser.add_argument("--repeats", type=int, default=10, help="of the loaded session, in each process")
    parser.add_argument("--processes", type=int, default=3, help="with a loaded session")
    parser.add_argument("--cold", type=int, default=5, help="processes that start cold")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--beside", type=int, nargs="+", metavar="N", help="only loaded, beside so many busy processes")
    parser.add_argument("--against", type=Path, metavar="SRC", help="source tree of another checkout")
    for hidden in ("child", "out"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    if given.child:
        print(json.dumps({"loaded": loaded, "cold": cold}[given.child](given, Path(given.out, "results"))))
        return
    sources = {"here": HERE / "src"} if given.against is None else {"there": given.against, "here": HERE / "src"}
    if given.beside is not None:
        columns: dict[str, list[dict[str, float]]] = {f"beside {count}": [] for count in given.beside}
        for _ in range(given.processes):
            for count in given.beside:
                with neighbours(count):
                    columns[f"beside {count}"] += child(given, "loaded", HERE / "src")[0]
        print("loaded, ms\n")
        table(columns)
        return
    take_precedence(given.threads)
    peaks: dict[str, list[str]] = {name: [] for name in sources}
    for kind, processes in (("loaded", given.processes), ("cold", given.cold)):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
        peak = dict.fromkeys(sources, 0.0)
        for _ in range(processes):
            for name, source in sources.items():
                more, most = child(given, kind, source)
                found[name] += more
                peak[name] = max(peak[name], most)
        if processes:
            print(f"\n{kind}, ms\n")
            table(found)
            for name in sources:
                peaks[name].append(f"{peak[name]:.2f} GB {kind}")
    print("\npeak memory: " + "; ".join(f"{name} {', '.join(each)}" for name, each in peaks.items()))


if __name__ == "__main__":
    main()
