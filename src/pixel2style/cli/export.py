"""``pixel2style export``."""

from typing import Annotated, Literal

import tyro

from .arguments import Flag, Folder, Model


def export(
    form: Annotated[Literal["onnx", "torch"], tyro.conf.Positional, tyro.conf.arg(metavar="onnx|torch")],
    model: Model,
    /,
    out: Folder,
    part: Literal["encoder", "generator", "whole", "all"] = "all",
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None,
    overwrite: Flag = False,
) -> int:
    """Write a model as graphs that run without this package.

    DIR receives NAME.PART.onnx, or NAME.PART.pt2 for torch.export.load. The encoder turns pictures into W+ rows, the
    generator rows into pictures; whole does both. The batch size is open. Each file is opened again, compared with the
    model, and deleted if it gives other numbers.

    Args:
        form: onnx, for ONNX Runtime and others (needs: pip install 'pixel2style[onnx]'), or torch, for torch.export.
        model: A bundled model, one of our files, or any checkpoint that convert reads; a lone generator too.
        out: Folder for the graphs; created if it does not exist.
        part: What to write. all: whatever the model has.
        size: Side of the pictures that are drawn, up to the generator's. Left out: the generator's.
        overwrite: Replace earlier graphs instead of refusing.
    """
    from ..export import OPSET, export_into
    from ..export.graphs import PARTS

    parts = PARTS if part == "all" else (part,)
    for made in export_into(out, model, form, parts, size=size, overwrite=overwrite):
        kind = f"opset {OPSET}, " if form == "onnx" else ""
        print(f"{made.file} ({kind}{made.file.stat().st_size / 1e6:.1f} MB): {made.takes} -> {', '.join(made.gives)}")
        for name, found in made.gives.items():
            print(f"  {name}: differs by at most {found.error:.1e}; the model's values go up to {found.largest:.1f}")
    return 0
