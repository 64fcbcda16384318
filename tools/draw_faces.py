"""Draw generated faces with their label maps, as a folder of training data for encoders of drawings.

    python tools/draw_faces.py generated --count 4000
    python tools/draw_faces.py labelled --photographs ffhq_train

Writes ``images/K.jpg`` and ``masks/K.png`` of 256 pixels, the layout of CelebAMask-HQ's data here. Label maps are
those of the bundled face parser. Every second face is mixed of two, since rows of one mapped latent agree with each
other more than those of photographs do. With ``--photographs`` the faces are those of a folder, square and aligned,
which are only labelled. The same command goes on where it stopped.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

import pixel2style as p2s
from pixel2style import files, images, runtime
from pixel2style.metrics import parsing
from pixel2style.models.psp import PSP
from pixel2style.ops import COMPARE_SIZE
from pixel2style.photos import find

SEED = 50_000
"""Of the first face: the editor and benchmarks use others."""
BATCH = 8


def face(model: PSP, number: int) -> Tensor:
    """The picture ``[1 3 256 256]`` of a face."""
    generator, rng = model.generator, torch.Generator().manual_seed(SEED + number)
    truncation = 0.7 + 0.3 * float(torch.rand((), generator=rng))
    one, other = generator.map(torch.randn(2, generator.width, generator=rng), truncation=truncation)
    rows = one.repeat(generator.rows, 1)
    if number % 2:
        rows[int(torch.randint(2, generator.rows - 2, (), generator=rng)) :] = other
    return model.draw_to_compare(rows[None]).float().clamp(-1, 1)


def batches(model: PSP | None, photographs: list[Path], wanted: list[int]) -> Iterator[tuple[list[int], Tensor]]:
    """Numbers and pictures ``[b 3 256 256]`` of those that are ``wanted``."""
    for start in range(0, len(wanted), BATCH):
        numbers = wanted[start : start + BATCH]
        if model is not None:
            yield numbers, torch.cat([face(model, number) for number in numbers])
        else:
            size = (COMPARE_SIZE, COMPARE_SIZE)
            yield numbers, torch.stack([images.to_tensor(images.load(photographs[n]).resize(size)) for n in numbers])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=4000, help="how many generated faces")
    parser.add_argument("--photographs", type=Path, help="label the photographs of this folder instead")
    options = parser.parse_args()
    runtime.keep_freed_memory()
    photographs = [one.path for one in find([str(options.photographs)])] if options.photographs else []
    model = None if options.photographs else p2s.load("faces")
    for name in ("images", "masks"):
        files.make_folder(options.out / name)
    numbers = range(len(photographs) or options.count)
    wanted = [number for number in numbers if not (options.out / "masks" / f"{number}.png").is_file()]
    with torch.no_grad():
        for done, (some, pictures) in enumerate(batches(model, photographs, wanted)):
            for number, picture, labels in zip(some, pictures, parsing.regions(pictures), strict=True):
                images.save(picture, options.out / "images" / f"{number}.jpg")
                images.save(parsing.picture(labels), options.out / "masks" / f"{number}.png")
            if done % 25 == 0:
                print(f"{some[-1] + 1} of {len(numbers)}", flush=True)


if __name__ == "__main__":
    main()
