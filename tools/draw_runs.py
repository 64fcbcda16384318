"""Curves and pictures of training runs, for the documents: ``python tools/draw_runs.py RUN... --out docs/images/runs``.

For each run: NAME.svg, its training and validation loss by step, and NAME.jpg, results of its best model on pictures
that may be published: NASA's astronaut and faces drawn by the generator (seeds 0 to 2). Label maps are drawn here. Rows
are pictures; columns are source, output and, where the source was made from one, target. ``--curves-only`` leaves the
pictures out.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import pixel2style as p2s
from pixel2style import images, tasks
from pixel2style.faces import align
from pixel2style.models import input_channels
from pixel2style.training.dataset import mirrored, step_rng
from sheets import drawn_faces

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"
SIDE = 256
COLOURS = {"train": "#9aa7b8", "validation": "#c2410c"}


def curves(log: Path) -> dict[str, list[tuple[int, float]]]:
    """Loss by step, of training (of one batch) and of validation."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    found = {
        kind: [(line["step"], line[f"{kind}/loss"]) for line in lines if f"{kind}/loss" in line] for kind in COLOURS
    }
    return {kind: points for kind, points in found.items() if points}


def drawn(found: dict[str, list[tuple[int, float]]], title: str) -> str:
    """The curves as SVG."""
    width, height, left, low = 420, 240, 48, 28
    points = [point for line in found.values() for point in line]
    last, most, least = max(p[0] for p in points), max(p[1] for p in points), min(p[1] for p in points)
    span = max(most - least, 1e-6)

    def place(step: int, value: float) -> str:
        x = left + (width - left - 12) * step / last
        return f"{x:.1f},{24 + (height - low - 32) * (most - value) / span:.1f}"

    body = [f'<text x="{left}" y="15" font-weight="bold">{title}</text>']
    for value in (least, (least + most) / 2, most):
        y = place(0, value).split(",")[1]
        body.append(f'<text x="{left - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{value:.3f}</text>')
        body.append(f'<line x1="{left}" x2="{width - 12}" y1="{y}" y2="{y}" stroke="#ddd"/>')
    for step in (0, last // 2, last):
        x = place(step, least).split(",")[0]
        body.append(f'<text x="{x}" y="{height - 8}" text-anchor="middle">{step}</text>')
    for number, (kind, line) in enumerate(found.items()):
        path = " ".join(place(*point) for point in line)
        body.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"/>')
        column = width - 100 * (len(found) - number)
        body.append(f'<text x="{column}" y="15" fill="{COLOURS[kind]}">{kind} loss</text>')
    frame = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11"'
    paper = '<rect width="100%" height="100%" fill="white"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>{paper}{"".join(body)}</svg>\n'


def faces() -> Tensor:
    """Pictures that may be published: ``[4 3 256 256]``."""
    astronaut = images.to_tensor(align.FaceAligner().align(images.load(ASTRONAUT), SIDE))
    invented = torch.nn.functional.adaptive_avg_pool2d(drawn_faces(range(3), 0.8), SIDE).clamp(-1, 1)
    return torch.cat([astronaut[None], invented])


def label_map(long_hair: bool, glasses: bool) -> Image.Image:
    """A face of ellipses, with the class numbers of CelebAMask-HQ."""
    picture = Image.new("L", (SIDE, SIDE), 0)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((50, 225, 206, 256), fill=18)
    pen.ellipse((58, 14, 198, 170 if not long_hair else 262), fill=13)
    pen.rectangle((100, 190, 156, 240), fill=17)
    pen.ellipse((62, 105, 82, 150), fill=8)
    pen.ellipse((174, 105, 194, 150), fill=9)
    pen.ellipse((72, 50, 184, 222), fill=1)
    for left, eye, brow in ((92, 4, 6), (140, 5, 7)):
        pen.ellipse((left, 112, left + 26, 124), fill=eye)
        pen.ellipse((left - 4, 96, left + 30, 104), fill=brow)
        if glasses:
            pen.ellipse((left - 8, 104, left + 34, 134), fill=3)
            pen.ellipse((left, 112, left + 26, 124), fill=eye)
    pen.polygon([(128, 112), (112, 158), (144, 158)], fill=2)
    pen.ellipse((104, 176, 152, 196), fill=11)
    pen.ellipse((108, 184, 148, 200), fill=12)
    pen.ellipse((112, 184, 144, 190), fill=10)
    return picture


def sources(model: p2s.PSP, targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """Sources of the model's task, and their targets if they were made from some."""
    task, made = tasks.find_task(model.config.task), model.config.source
    if task.source is None:
        maps = [label_map(long_hair, glasses) for long_hair in (False, True) for glasses in (False, True)]
        numbers = torch.from_numpy(np.stack([np.array(found) for found in maps])).long()
        return torch.nn.functional.one_hot(numbers, made.classes).permute(0, 3, 1, 2).float(), None
    found = [task.source(target, step_rng(3, index), made) for index, target in enumerate(targets)]
    return torch.stack([mirrored(one, task.mirror == "apart") for one in found]), targets


@torch.no_grad()
def grid(file: Path, targets: Tensor) -> Image.Image:
    """Sources, outputs and targets of the model in ``file``."""
    model = p2s.load(file)
    shown, known = sources(model, targets)
    outputs = torch.nn.functional.adaptive_avg_pool2d(model.decode(model.encode(shown)), SIDE).clamp(-1, 1)
    columns = [input_channels.to_rgb(shown, tasks.find_task(model.config.task).classes), outputs] + (
        [known] if known is not None else []
    )
    return images.grid(torch.stack(columns, 1).flatten(0, 1), len(columns))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--curves-only", action="store_true")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    for run in given.runs:
        (given.out / f"{run.name}.svg").write_text(drawn(curves(run / "log.jsonl"), run.name))
    if given.curves_only:
        return
    targets = faces()
    for run in given.runs:
        sheet = grid(run / "best.safetensors", targets)
        sheet = sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.BOX)
        sheet.save(given.out / f"{run.name}.jpg", quality=88)
        print(given.out / f"{run.name}.jpg")


if __name__ == "__main__":
    main()
