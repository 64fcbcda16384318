"""Train a network that corrects features carried over to an edit, on generated faces, whose edits are known.

    python tools/train_editor.py --out runs/editor --steps 500

A generated face is inverted as a photograph's is; then its own rows and those found are moved alike. What the own rows
draw is the truth for the edited inversion, which is drawn from the maps of ``editing.carry`` with what the network adds
to the two coarsest ones. Loss: L2 + .8 LPIPS of 256 pixels, and a little of what is added. Half of the faces are mixed
of two, so that rows that the encoder finds cannot be their own. Edits are bundled directions, or lead to another face;
one or two at once. ``benchmarks/carry.py`` compares the result on other faces and with other directions.

The state lies in ``--out``: the same command continues. ``--bundle`` writes what it has as ``editor_ffhq``.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pixel2style import assets, checkpoints, files, runtime
from pixel2style.checkpoints.editor import write_editor
from pixel2style.editing.carry import Carrier
from pixel2style.editing.directions import Direction
from pixel2style.formats import safetensors
from pixel2style.inference import edit
from pixel2style.metrics.lpips import LPIPS
from pixel2style.models.editor import Editor
from pixel2style.models.inversion import Inversion
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from edits import Inverter

SEED = 100
"""Of the first face; benchmarks use others."""
MIXED = 4
"""Rows from here on are half those of another face in every second one."""
ADDED = 0.002
"""Weight of the mean square of what is added, in units of the map's deviation."""
SAVED_EVERY = 20
SIDES = (32, 64)
"""Of the maps that the detail encoder of ``faces`` gives residuals for."""


@dataclass(frozen=True)
class Face:
    """A generated face: its own rows ``[1 k d]`` and what the inversion of its picture gives."""

    own: Tensor
    inversion: Inversion


def rows_of(model: PSP, number: int) -> Tensor:
    """Of a face, ``[1 k d]``."""
    generator = model.generator
    z = torch.randn(2, generator.width, generator=torch.Generator().manual_seed(SEED + number))
    ws = generator.map(z, truncation=0.9)[:, None].repeat(1, generator.rows, 1)
    if number % 2:
        ws[0, MIXED:] = (ws[0, MIXED:] + ws[1, MIXED:]) / 2
    return ws[:1]


def faces(model: PSP, count: int, cache: Path) -> list[Face]:
    """``count`` faces; inversions that lie in the folder ``cache`` are not made again."""
    files.make_folder(cache)
    invert, found = Inverter(model), []
    for number in range(count):
        path, own = cache / f"{number}.safetensors", rows_of(model, number)
        if not path.is_file():
            with torch.no_grad():
                picture = pooled(model.decode(own).clamp(-1, 1))
            one = invert(picture).inversion
            stored = {str(side): part.half() for side, part in one.features.items()}
            safetensors.write({"ws": one.ws.detach(), **stored}, path)
        read = safetensors.read(path)
        ws = read.pop("ws")
        found.append(Face(own, Inversion(ws, {int(side): part.float() for side, part in read.items()})))
        if (number + 1) % 20 == 0:
            print(f"{number + 1} of {count} faces inverted", flush=True)
    return found


def moves(model: PSP, known: list[Direction], source: torch.Generator) -> Tensor:
    """An edit ``[1 k d]``: a bundled direction, two of them, or a part of the way to another face."""
    generator = model.generator
    total = torch.zeros(1, generator.rows, generator.width)
    kind = float(torch.rand((), generator=source))
    if kind < 0.3:
        z = torch.randn(2, generator.width, generator=source)
        first, second = generator.map(z, truncation=0.9)
        share = 0.2 + 0.4 * float(torch.rand((), generator=source))
        return total.add(first - second, alpha=share)
    for _ in range(1 if kind < 0.7 else 2):
        number = int(torch.randint(len(known), (), generator=source))
        amount = 0.4 + 1.8 * float(torch.rand((), generator=source))
        sign = 1.0 if float(torch.rand((), generator=source)) < 0.5 else -1.0
        total = known[number].apply(total, sign * amount)
    return total


def tried(model: PSP, editor: Editor, face: Face, along: Tensor, lpips: LPIPS, batch: int) -> Tensor:
    """The loss of an edit without and with the editor, ``[2]``; adds gradients of the latter, and of what is added."""
    with torch.no_grad():
        truth = model.decode(face.own + along, COMPARE_SIZE).clamp(-1, 1)
    ws, added = face.inversion.ws + along, []

    def loss(editor: Editor | None) -> Tensor:
        maps = Carrier(model.generator, face.inversion, editor).maps(ws)
        drawn = model.generator.draw(ws, maps, COMPARE_SIZE)
        found: Tensor = (drawn - truth).square().mean() + 0.8 * lpips(drawn, truth).mean()
        return found

    with torch.no_grad():
        before = loss(None)
    hook = editor.register_forward_hook(lambda _, given, made: added.append((made[0].square().mean(), given[0].var())))
    after = loss(editor)
    hook.remove()
    small = sum((square / variance for square, variance in added), torch.zeros(()))
    ((after + ADDED * small) / batch).backward()  # type: ignore[no-untyped-call]
    return torch.stack([before, after.detach()])


class Run:
    """The optimiser, the moving average and the state of a run, kept in a file."""

    def __init__(self, editor: Editor, path: Path, lr: float, steps: int):
        self.editor, self.path, self.lr, self.steps, self.step = editor, path, lr, steps, 0
        self.optimizer = torch.optim.AdamW(editor.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
        self.average = {key: value.detach().clone() for key, value in editor.state_dict().items()}
        if path.is_file():
            state = torch.load(path, weights_only=True)
            self.step, self.average = state["step"], state["average"]
            editor.load_state_dict(state["editor"])
            self.optimizer.load_state_dict(state["optimizer"])

    def advance(self) -> None:
        """A step with the gradients that there are."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1, (self.step + 1) / 20) * max(0.05, 1 - self.step / self.steps)
        torch.nn.utils.clip_grad_norm_(self.editor.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        for key, value in self.editor.state_dict().items():
            self.average[key].lerp_(value, 1 - min(0.98, self.step / (self.step + 10)))

    def save(self) -> None:
        """Write the state."""
        state = {"step": self.step, "average": self.average, "editor": self.editor.state_dict()}
        with files.replacing(self.path) as partial:
            torch.save(state | {"optimizer": self.optimizer.state_dict()}, partial)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="faces")
    parser.add_argument("--faces", type=int, default=160)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=2, help="edits in a step, each of another face")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--bundle", action="store_true", help="bundle the moving average, and train no further")
    given = parser.parse_args()
    runtime.keep_freed_memory()
    files.make_folder(given.out)
    model = checkpoints.load(given.model)
    model.requires_grad_(False)
    torch.manual_seed(0)
    editor = Editor({side: model.generator.map_channels()[side] for side in SIDES})
    run = Run(editor, given.out / "state.pt", given.lr, given.steps)
    if given.bundle:
        editor.load_state_dict(run.average)
        write_editor(editor, model.generator, assets.FOLDER / "editor_ffhq.safetensors")
        return
    known, lpips = list(edit.bundled(model.generator).values()), LPIPS("alex")
    pool = faces(model, given.faces, given.out / "faces")
    shown, began = torch.zeros(2), time.perf_counter()
    while run.step < given.steps:
        source = torch.Generator().manual_seed(10_000 + run.step)
        for number in torch.randperm(len(pool), generator=source)[: given.batch].tolist():
            shown += tried(model, editor, pool[number], moves(model, known, source), lpips, given.batch)
        run.advance()
        if run.step % SAVED_EVERY == 0 or run.step == given.steps:
            run.save()
            before, after = (shown / given.batch / SAVED_EVERY).tolist()
            spent = time.perf_counter() - began
            print(f"step {run.step}: {before:.4f} without, {after:.4f} with, {spent:.0f} s", flush=True)
            shown = torch.zeros(2)


if __name__ == "__main__":
    main()
