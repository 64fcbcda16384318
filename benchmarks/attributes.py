"""How well `metrics.attributes` tells age, gender and landmarks, for several crops of FFHQ-aligned faces and by race.

    python benchmarks/attributes.py --utkface utkface.tar --every 3 --data celebahq_val.tar ffhq_val.tar

UTKFace names its files AGE_GENDER_RACE_N.jpg; every third face is aligned as in FFHQ (parts outside the photograph are
mirrored) and judged. The bundled crops come first in the tables. Landmarks have no truth here: they are compared with
MTCNN's five points in the photographs of ``--data``, as a share of the distance between the eyes. Nor have expressions:
a photograph and its mirror image are compared, and `edits.py` measures edits of smiles.
"""

import argparse
import io
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import photographs
from pixel2style import images
from pixel2style.errors import ConfigError, NoFaceError
from pixel2style.faces.align import FaceAligner
from pixel2style.metrics import attributes
from pixel2style.metrics.attributes import AGE_CROP, EXPRESSION_CROP, LANDMARK_CROP, Attributes, FaceAttributes
from pixel2style.metrics.identity import Crop
from pixel2style.ops import COMPARE_SIZE

RACES = ("white", "black", "Asian", "Indian", "other")
"""As UTKFace numbers them."""
CROPS = ((48, 28, 200), (64, 28, 192), (72, 40, 176), (80, 48, 160), (88, 52, 152), (96, 62, 132))
"""First row, first column, side."""
BANDS = (0, 15, 30, 45, 60, 75)
"""First ages of groups."""


def read(archive: Path, every: int) -> Iterator[tuple[Tensor, tuple[int, int, int]]]:
    """Aligned faces ``[3 256 256]`` with age, gender and race, every ``every``-th; left out where none is found."""
    aligner = FaceAligner()
    with tarfile.open(archive) as tar:
        members = sorted((member for member in tar.getmembers() if member.isfile()), key=lambda member: member.name)
        for member in members[::every]:
            words, content = Path(member.name).name.split("_"), tar.extractfile(member)
            if len(words) < 4 or content is None:
                raise ConfigError(f"{archive}: {member.name} is not called AGE_GENDER_RACE_N.jpg: give UTKFace's tar")
            try:
                with Image.open(io.BytesIO(content.read())) as face:
                    aligned = aligner.align(face.convert("RGB"), COMPARE_SIZE)
            except NoFaceError:
                continue
            yield images.to_tensor(aligned), (int(words[0]), int(words[1]), int(words[2]))


@torch.no_grad()
def judged(network: FaceAttributes, faces: Tensor, crop: Crop) -> tuple[Tensor, Tensor]:
    """Age in years and log-odds of male, ``[n]``."""
    ages, odds = [], []
    for batch in faces.split(64):
        age, gender = network.age_gender(network.inputs(batch, crop))
        ages.append(age)
        odds.append(gender[:, 0] - gender[:, 1])
    return torch.cat(ages), torch.cat(odds)


def row(name: str, age: Tensor, odds: Tensor, labels: Tensor) -> str:
    """One line: how far from the labels ``[n 3]``."""
    true, male = labels[:, 0].float(), labels[:, 1] == 0
    right = (odds > 0) == male
    errors = f"{(age - true).abs().mean():.1f} | {(age - true).mean():+.1f} | {np.corrcoef(age, true)[0, 1]:.3f}"
    by_gender = " | ".join(f"{right[chosen].float().mean():.3f}" for chosen in (male, ~male))
    return f"| {name} | {len(true)} | {errors} | {right.float().mean():.3f} | {by_gender} |"


def five(points: Tensor) -> Tensor:
    """MTCNN's five of 68 landmarks: ``[b 68 2] -> [b 5 2]``."""
    left, right = (points[:, first : first + 6].mean(1) for first in (36, 42))
    return torch.stack([left, right, points[:, 30], points[:, 48], points[:, 54]], 1)


def found(photos: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
    """The photographs in which MTCNN finds a face ``[n 3 256 256]``, and its five landmarks ``[n 5 2]``."""
    aligner, faces, known = FaceAligner(), [], []
    for photo in photos:
        small = photo.resize((COMPARE_SIZE, COMPARE_SIZE), Image.Resampling.BOX)
        try:
            known.append(torch.from_numpy(aligner.find(small).landmarks).float())
        except NoFaceError:
            continue
        faces.append(images.to_tensor(small))
    return torch.stack(faces), torch.stack(known)


@torch.no_grad()
def apart(network: FaceAttributes, faces: Tensor, known: Tensor, crop: Crop) -> list[float]:
    """Median distance to MTCNN's eyes, nose and mouth corners, in distances between the eyes."""
    within = torch.cat([network.landmark(network.inputs(batch, crop)) for batch in faces.split(64)]).view(-1, 68, 2)
    ours = five(within * crop.side + torch.tensor([float(crop.left), float(crop.top)]))
    unit = (known[:, 1] - known[:, 0]).norm(dim=1, keepdim=True)
    distance = ((known - ours).norm(dim=2) / unit).median(0).values
    return [float(distance[:2].mean()), float(distance[2]), float(distance[3:].mean())]


@torch.no_grad()
def mirrored(network: FaceAttributes, faces: Tensor, crop: Crop) -> float:
    """Mean change of the log-odds of a smile when a photograph is mirrored: an error, as nothing has changed."""
    odds = []
    for batch in (faces, faces.flip(3)):
        logs = [network.expression(network.inputs(some, crop)).log_softmax(1) for some in batch.split(64)]
        odds.append(Attributes(faces, faces, torch.cat(logs), faces).log_odds("happy"))
    return float((odds[0] - odds[1]).abs().mean())


def check_age_and_gender(network: FaceAttributes, archive: Path, every: int) -> None:
    """Print tables by crop, by race and by age."""
    pairs = list(read(archive, every))
    faces, labels = torch.stack([face for face, _ in pairs]), torch.tensor([label for _, label in pairs])
    head = "faces | mean error, years | bias | correlation | gender right | of males | of females |"
    print(f"| crop (top, left, side) | {head}\n|{'---|' * 8}")
    for crop in crops(AGE_CROP):
        print(row(f"{crop.top}, {crop.left}, {crop.side}", *judged(network, faces, crop), labels), flush=True)
    age, odds = judged(network, faces, AGE_CROP)
    groups = {race: labels[:, 2] == number for number, race in enumerate(RACES)}
    for low, above in zip(BANDS, (*BANDS[1:], 200), strict=True):
        name = f"{low} to {above - 1}" if above < 200 else f"{low} and more"
        groups[name] = (labels[:, 0] >= low) & (labels[:, 0] < above)
    print(f"\n| race, age | {head}\n|{'---|' * 8}")
    for name, chosen in groups.items():
        print(row(name, age[chosen], odds[chosen], labels[chosen]))


def check_the_rest(network: FaceAttributes, photos: Sequence[Image.Image]) -> None:
    """Print tables of landmarks and expressions by crop."""
    faces, known = found(photos)
    print("\n| landmarks' crop | from MTCNN's eyes | nose | mouth corners |\n|---|---|---|---|")
    for crop in crops(LANDMARK_CROP):
        distances = " | ".join(f"{distance:.3f}" for distance in apart(network, faces, known, crop))
        print(f"| {crop.top}, {crop.left}, {crop.side} | {distances} |", flush=True)
    print("\n| expressions' crop | change of a smile's log-odds when mirrored |\n|---|---|")
    for crop in crops(EXPRESSION_CROP):
        print(f"| {crop.top}, {crop.left}, {crop.side} | {mirrored(network, faces, crop):.2f} |", flush=True)


def crops(chosen: Crop) -> list[Crop]:
    """The chosen one first."""
    others = [Crop(*crop, size=attributes.INPUT_SIZE) for crop in CROPS]
    return [chosen, *(crop for crop in others if crop != chosen)]


def run(arguments: argparse.Namespace) -> None:
    if not arguments.utkface and not arguments.data:
        raise ConfigError("there is nothing to judge: give --utkface, --data or both")
    network = attributes.pretrained()
    if arguments.utkface:
        check_age_and_gender(network, arguments.utkface, arguments.every)
    if arguments.data:
        check_the_rest(network, photographs.read(arguments.data))
    print(f"\n{photographs.circumstances(arguments.threads)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utkface", type=Path, help="tar of UTKFace")
    parser.add_argument("--every", type=int, default=1, help="judge every Nth face")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders or tars of aligned photographs")
    parser.add_argument("--threads", type=int, default=1)
    return photographs.exit_code(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
