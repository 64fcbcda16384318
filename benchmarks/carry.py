"""How features should be carried over to an edit, on generated faces, whose edits are known.

    python benchmarks/carry.py --directions FOLDER --faces 12

A face is drawn from rows, half of them mixed from two faces. Its picture is inverted as a photograph's is; then both
its own rows and those found are moved by the same edit. What the own rows draw is the truth for what the edited
inversion draws: L2 and LPIPS between them, on the 256-pixel head, by how features are carried over
(``editing.carry``). The constants there were chosen by such tables. ``FOLDER`` is that of `edits.py`.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import photographs
from edits import EDITS, Inverter, read_directions
from pixel2style import checkpoints
from pixel2style.checkpoints.editor import bundled_editor
from pixel2style.editing import carry
from pixel2style.metrics.lpips import LPIPS
from pixel2style.models.inversion import Inversion
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE, pooled

Carry = Callable[[PSP, Inversion, Tensor], Inversion]
STRENGTHS = (-3.0, -1.0, 1.0, 3.0)
MIXED = 4
"""Rows from here on are half those of another face in every second one."""


def carry_with(fade: float, trained: bool = False, **constants: float) -> Carry:
    """``carried`` with other constants of its module, by rules alone or with the trained editor."""

    def edit(model: PSP, inversion: Inversion, ws: Tensor) -> Inversion:
        before = {name: getattr(carry, name) for name in constants}
        try:
            for name, value in constants.items():
                setattr(carry, name, value)
            editor = bundled_editor(model.generator) if trained else None
            return carry.carried(model.generator, inversion, ws, fade, editor)
        finally:
            for name, value in before.items():
                setattr(carry, name, value)

    return edit


WAYS: dict[str, Carry] = {
    "rows alone": lambda model, inversion, ws: Inversion(ws),
    "kept as they are": lambda model, inversion, ws: Inversion(ws, inversion.features),
    "faded, not moved": carry_with(carry.FADE, REACH=0.0),
    "moved, not faded": carry_with(0.0),
    "moved, faded and edited": carry_with(carry.FADE, trained=True),
    **{f"moved and faded, strength {fade:g}": carry_with(fade) for fade in (0.3, carry.FADE, 3.0)},
    "the same, without fine changes": carry_with(carry.FADE, FINEST=0.0, FINE=1e-6),
    "the same, with coarser changes": carry_with(carry.FADE, FINE=1 / 16),
    "the same, reach 4 / 32": carry_with(carry.FADE, REACH=4 / 32),
    "the same, stiffness .01": carry_with(carry.FADE, STIFFNESS=0.01),
    "the same, sharpness 200": carry_with(carry.FADE, SHARPNESS=200.0),
}


def faces(model: PSP, count: int) -> Tensor:
    """Rows ``[count k d]`` of faces of seeds, every second one mixed with another."""
    generator = model.generator
    z = torch.randn(2 * count, generator.width, generator=torch.Generator().manual_seed(7))
    ws = generator.map(z, truncation=0.9)[:, None].repeat(1, generator.rows, 1)
    own, other = ws[:count], ws[count:]
    own[1::2, MIXED:] = (own[1::2, MIXED:] + other[1::2, MIXED:]) / 2
    return own


@torch.no_grad()
def run(arguments: argparse.Namespace) -> None:
    model, lpips = checkpoints.load(arguments.model), LPIPS("alex")
    invert = Inverter(model)
    directions = read_directions(arguments.directions, model.generator)
    found: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for number, rows in enumerate(faces(model, arguments.faces).split(1)):
        inversion = invert(pooled(model.decode(rows).clamp(-1, 1))).inversion
        for edit, along in directions.items():
            for strength in STRENGTHS:
                truth = model.decode(rows + strength * along, COMPARE_SIZE).clamp(-1, 1)
                for name, way in WAYS.items():
                    edited = way(model, inversion, inversion.ws + strength * along)
                    drawn = model.decode(edited.ws, COMPARE_SIZE, edited.features).clamp(-1, 1)
                    found[name, edit].append((float((drawn - truth).square().mean()), float(lpips(drawn, truth))))
        print(f"\r{number + 1} of {arguments.faces}", end="", file=sys.stderr, flush=True)
    print(f"\n| features | {' | '.join(EDITS)} | mean |\n|---|{'---|' * (len(EDITS) + 1)}")
    for name in WAYS:
        each = {edit: torch.tensor(found[name, edit]).mean(0) for edit in EDITS}
        cells = [*each.values(), torch.stack(list(each.values())).mean(0)]
        print(f"| {name} | {' | '.join(f'{float(l2):.4f} / {float(distance):.4f}' for l2, distance in cells)} |")
    print(f"\n{photographs.circumstances(arguments.threads)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directions", type=Path, required=True, help="folder of age, smile and pose")
    parser.add_argument("--faces", type=int, default=12)
    parser.add_argument("--model", default="faces", help="bundled name or file")
    parser.add_argument("--threads", type=int, default=1)
    return photographs.exit_code(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
