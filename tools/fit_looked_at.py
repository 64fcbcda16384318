"""Fit the probes of ``face_scores.LookedAt`` to labels of generated faces that were looked at (``looked_at.csv``).

    python tools/fit_looked_at.py                       # writes tools/looked_at.safetensors
    python tools/fit_looked_at.py --sheets sheets       # the numbered faces, to look at

Ridge regression on features scaled to one standard deviation. Printed are figures of faces that were left out, a tenth
at a time: correlation of score and label, and the area under the ROC curve of some (label 1 or 2) against none, and of
2 against the rest, of all faces and of those of people who often have it (adult men for beards, women for make-up).

Axes: ``n`` faces, ``f`` features.
"""

import argparse
import csv
from pathlib import Path

import torch
from torch import Tensor

from face_scores import PROBES, Scorer, drawn
from find_directions import latents
from pixel2style import assets, checkpoints, images, runtime
from pixel2style.formats import safetensors
from pixel2style.metrics import parsing
from sheets import Row, save, sheet

LABELS = Path(__file__).with_name("looked_at.csv")
RIDGE = 1.0
"""Per feature."""
FOLDS, BATCH = 10, 20
ACROSS, DOWN, SIDE = 8, 5, 200
"""Of the sheets."""
AMONG = {"beard": ("adult men", 1.0, 18.0), "eye-make-up": ("women", -1.0, 14.0)}
"""Whose faces are also measured alone: their name, the sign of ``masculine``, and the least age."""


def labels() -> dict[str, Tensor]:
    """Labels by name, ``[n]`` each, nan where nothing could be seen."""
    with LABELS.open(encoding="utf-8") as lines:
        table = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    names = [name for name in table[0] if name != "face"]
    return {name: torch.tensor([float(row[name] or "nan") for row in table]) for name in names}


def fitted(features: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Weights ``[f]`` and bias of the ridge regression of labels ``[n]`` on features ``[n f]``."""
    means, deviations = features.mean(0), features.std(0) + 1e-6
    x, y = ((features - means) / deviations).double(), (label - label.mean()).double()
    damped = x @ x.T + RIDGE * x.shape[1] * torch.eye(len(x), dtype=torch.float64)
    weights = (x.T @ torch.linalg.solve(damped, y)).float() / deviations
    return weights, label.mean() - means @ weights


def held_out(features: Tensor, label: Tensor) -> Tensor:
    """Scores ``[n]``, each by a fit without a tenth of the faces."""
    found = torch.zeros_like(label)
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(0))
    for fold in range(FOLDS):
        out = torch.zeros(len(label), dtype=torch.bool)
        out[order[fold::FOLDS]] = True
        weights, bias = fitted(features[~out], label[~out])
        found[out] = features[out] @ weights + bias
    return found


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    """The share of pairs whose ``positive`` score is the larger one."""
    difference = scores[positive][:, None] - scores[~positive]
    return float((difference > 0).float().mean() + (difference == 0).float().mean() / 2)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=Path, help="a folder for sheets of the faces; nothing is fitted then")
    given = parser.parse_args()
    runtime.keep_freed_memory()
    found = labels()
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    faces = drawn(generator, latents(generator, len(found["beard"])))
    if given.sheets:
        tiles: Row = [(str(number), images.to_picture(one)) for number, one in enumerate(faces)]
        rows = [tiles[first : first + ACROSS] for first in range(0, len(tiles), ACROSS)]
        for number in range(0, len(rows), DOWN):
            save(sheet(rows[number : number + DOWN], SIDE), given.sheets / f"faces-{number // DOWN + 1}.jpg")
        return
    scorer = Scorer()
    parts = []
    for pictures in torch.split(faces, BATCH):
        says = scorer.networks(pictures)
        hair = scorer.parser(pictures).softmax(1)[:, parsing.CLASSES.index("hair")]
        read = scorer.looked_at.features(pictures, says.landmarks, hair)
        parts.append(read | {"masculine": says.male, "age": says.age})
    features = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    stored = {}
    for name, label in found.items():
        seen = ~label.isnan()
        own, label = features[name][seen], label[seen]
        scores = held_out(own, label)
        groups = {"all": torch.ones_like(label, dtype=torch.bool)}
        if name in AMONG:
            who, sign, age = AMONG[name]
            groups[who] = (sign * features["masculine"][seen] > 0) & (features["age"][seen] > age)
        print(f"{name}: correlation {float(torch.corrcoef(torch.stack([scores, label]))[0, 1]):.2f}")
        for who, those in groups.items():
            some, most = (area_under_curve(scores[those], label[those] >= least) for least in (1, 2))
            print(f"  {who} ({int(those.sum())}): some {some:.3f}, 2 {most:.3f}")
        stored[name], stored[f"{name}.bias"] = fitted(own, label)
    safetensors.write(stored, PROBES)


if __name__ == "__main__":
    main()
