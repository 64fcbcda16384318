"""Commands about files of models: what they are, and how they leave.

One function a command, as in ``cli``. Heavy imports stand inside the functions, so that help comes at once.
"""

import textwrap
from pathlib import Path
from typing import Annotated, Literal

import tyro

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


def convert(
    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    to: Literal["ours", "psp", "rosinality", "nvidia-state"] = "ours",
    overwrite: Flag = False,
) -> int:
    """Rewrite a published checkpoint as one of our files, or a model of ours as the original code loads it.

    Sizes, channels and rows are read off the tensors. Our file needs no other beside it, and loading it cannot run
    code.

    Args:
        file: A model or a generator: a bundled name, one of our files, any checkpoint that docs/checkpoints.md lists,
            or the address of one.
        out: The file to write: NAME.safetensors for ours, NAME.pt for others.
        to: Whose layout. psp: that of pSp, e4e or ReStyle, whichever the model is of. rosinality and nvidia-state: of
            the generator alone.
        overwrite: Replace OUT if it exists.
    """
    from ..inference.folder import convert as convert_file

    print(f"{file} -> {out}: {convert_file(file, out, to=to, overwrite=overwrite)}")
    return 0


def inspect(
    file: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")],
    /,
    json: Flag = False,
) -> int:
    """Say what model files are, what sizes they have and what can be done with them, without loading them.

    Nothing in a file is run. A file that would be refused elsewhere is refused here, in the same words.

    Args:
        file: Model files of any kind, bundled names, addresses or places on the hub.
        json: Print one line of JSON for each file instead.
    """
    from ..checkpoints import inspect as inspection
    from ..errors import CheckpointError, Pixel2StyleError, complain

    if not file:
        raise CheckpointError("no file was given: name at least one model file")
    wrong = 0
    for source in file:
        try:
            finding = inspection.examine(source)
        except Pixel2StyleError as error:
            complain(str(error))
            if json:
                print(inspection.failure_as_json(source, str(error)))
            wrong = 2
        else:
            print(*([inspection.as_json(finding)] if json else inspection.lines(finding)), sep="\n")
    return wrong


def export(
    form: Annotated[Literal["onnx", "torch"], tyro.conf.Positional, tyro.conf.arg(metavar="onnx|torch")],
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|FILE")],
    /,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    part: Literal["encoder", "generator", "whole", "all"] = "all",
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None,
    overwrite: Flag = False,
) -> int:
    """Write a model as graphs that run without this package.

    DIR receives NAME.PART.onnx, or NAME.PART.pt2 for torch.export.load. The encoder turns pictures into W+ rows, the
    generator rows into pictures; whole does both. Any number of pictures go in at once. Each file is opened again,
    compared with the model, and deleted if it gives other numbers.

    Args:
        form: onnx, for ONNX Runtime and others (needs: pip install 'pixel2style[onnx]'), or torch, for torch.export.
        model: A bundled model, one of our files, or any checkpoint that convert reads; a lone generator too.
        out: Folder for the graphs; made if need be.
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
            print(f"  {name}: off by {found.error:.1e} at most, where the model's go to {found.largest:.1f}")
    return 0


def fetch(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ADDRESS|USER/REPO")],
    /,
    trust: Flag = False,
) -> int:
    """Bring a file from an address or the Hugging Face Hub, and say where it lies and what its SHA-256 is.

    Every command that takes a model's file takes these too; what was fetched once is not fetched again.

    Args:
        source: https://HOST/FILE#sha256=DIGEST, or USER/REPO[@REVISION][/FILE], also as hf://USER/REPO.
        trust: Take what the address brings now for the right file, where no digest is known, and record its digest.
    """
    from ..checkpoints.cache import digest_of
    from ..checkpoints.fetch import local
    from ..errors import CheckpointError

    file = local(source, trust=trust)
    if not file.is_file():
        raise CheckpointError(
            f"{source}: is no address, nothing on the hub, and no file; give hf://USER/REPO for a model"
        )
    print(f"{file}\n  sha256 {digest_of(file)}")
    return 0


def models() -> int:
    """List what is bundled, from whom and under which terms."""
    from .. import assets
    from ..assets import cards

    for card in sorted(cards.all_cards(), key=lambda card: cards.ROLES.index(card.role)):
        print(f"{card.name}  ({card.role}, {card.size / 1e6:.1f} MB)")
        facts = [f"{key.capitalize()}: {card.facts[key]}" for key in ("origin", "data", "licence") if key in card.facts]
        for text in (card.about, *facts):
            print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    "))
        print()
    print(f"The cards in full: {assets.FOLDER}")
    return 0
