"""Train the face parser on CelebAMask-HQ.

    python tools/train_parser.py head celebahq_train celebahq_val runs/parser
    python tools/train_parser.py all celebahq_train celebahq_val runs/parser --minutes 60 --labelled generated labelled

"head" fits the classifier of pixels to the frozen features of ``faces``, in some minutes of one thread; "all" then
trains the whole network, from what lies in ``out``, or from the bundled parser. Folders hold ``images/K.jpg``
and ``masks/K.png`` (palette pictures whose numbers are classes). ``--labelled`` are such folders whose masks the
bundled parser made (``tools/draw_faces.py``): a third of each batch is of them (self-training). The same command
resumes "all"; the rate falls linearly from half of ``--minutes`` of the processor on. Writes ``parser.safetensors``
(float32, of "all" the moving average), which ``tools/bundle_parser.py`` stores in int8.

Cross-entropy with rare classes weighted up, and the Dice loss of the classes in a picture.
"""

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import pixel2style as p2s
from pixel2style import runtime
from pixel2style.metrics import parsing
from pixel2style.metrics.parsing import CLASSES, SIDED, FaceParser
from pixel2style.models.encoders import PyramidEncoder
from pixel2style.tasks.degrade import often
from pixel2style.training.dataset import mirrored

BATCH, RATE, WARMUP, AVERAGE = 12, 1e-3, 50, 0.995
POINTS, PIXELS, EPOCHS, HEAD_RATE = 256, 4096, 10, 2e-3
PRETRAINED = ("trunk.", "neck.", "pyramid.")
SIDE = 256
SWAPPED = list(range(len(CLASSES)))
for first, second in SIDED:
    SWAPPED[first], SWAPPED[second] = second, first


def pairs(folder: Path) -> tuple[Tensor, Tensor]:
    """Pictures ``[n 3 s s]`` and their classes ``[n 1 s s]``, both bytes."""
    files = sorted((folder / "images").iterdir())
    photographs = [np.array(Image.open(file).convert("RGB").resize((SIDE, SIDE))) for file in files]
    masks = [Image.open(folder / "masks" / f"{file.stem}.png") for file in files]
    labels = np.stack([np.array(mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)) for mask in masks])
    return torch.from_numpy(np.stack(photographs)).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)[:, None]


def start() -> FaceParser:
    """A parser with the trunk, neck and pyramid of ``faces``."""
    parser, model = FaceParser(), p2s.load("faces")
    encoder = model.encoder
    assert isinstance(encoder, PyramidEncoder)
    trunk = {name: value.clone() for name, value in encoder.trunk.state_dict().items()}
    stem = trunk["stem.0.weight"]  # the encoder also sees a picture of the average; here, its mean colour
    trunk["stem.0.bias"] += (stem[:, 3:].sum((2, 3)) * model.average_image().mean((0, 2, 3))).sum(1)
    trunk["stem.0.weight"] = stem[:, :3]
    parser.trunk.load_state_dict(trunk)
    parser.neck.load_state_dict(encoder.neck.state_dict())
    parser.pyramid.load_state_dict(encoder.pyramid.state_dict())
    return parser


@torch.no_grad()
def sampled(parser: FaceParser, images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Features ``[n p c]`` (fp16), places ``[n p 2]`` and classes ``[n p]`` of ``POINTS`` pixels of every picture.

    Half of them are drawn evenly, the others with rare classes more often.
    """
    counts = torch.bincount(labels.flatten().long(), minlength=len(CLASSES)).float()
    found = []
    for some, true in zip(torch.split(images, 10), torch.split(labels, 10), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            maps, whole = parser.features(some.float() / 127.5 - 1)
        flat = true.flatten(1).long()
        rare = counts.clamp(min=1).pow(-0.5)[flat]
        even = torch.randint(flat.shape[1], (len(some), POINTS // 2), generator=rng)
        chosen = torch.cat([even, torch.multinomial(rare, POINTS // 2, generator=rng)], 1)
        places = torch.stack([chosen % SIDE, chosen // SIDE], 2).add(0.5) * (2 / SIDE) - 1
        grid = places[:, :, None]
        points = [F.grid_sample(one.float(), grid, padding_mode="border", align_corners=False)[..., 0] for one in maps]
        features = torch.cat([*points, whole.float()[:, :, None].expand(-1, -1, POINTS)], 1).mT
        found.append((features.half(), places, flat.gather(1, chosen)))
    features, places, classes = (torch.cat(part) for part in zip(*found, strict=True))
    return features, places, classes


def fit_head(parser: FaceParser, images: Tensor, labels: Tensor) -> None:
    """Fit what classifies pixels to the network's frozen features, of pictures as they are and mirrored."""
    rng = torch.Generator().manual_seed(0)
    turned = torch.tensor(SWAPPED, dtype=labels.dtype)[mirrored(labels, True).long()]
    both = [sampled(parser, images, labels, rng), sampled(parser, mirrored(images, True), turned, rng)]
    features, places, classes = (torch.cat(part).flatten(0, 1) for part in zip(*both, strict=True))
    print(f"{len(features)} pixels of {features.shape[1]} features", flush=True)
    deviation = features[::50].float().std(0).clamp(min=1e-3)
    weights = [weight for name, weight in parser.named_parameters() if not name.startswith((*PRETRAINED, "spread."))]
    optimizer = torch.optim.AdamW(weights, HEAD_RATE, weight_decay=0.001)
    project = [layer.weight for layer in parser.project.children() if isinstance(layer, torch.nn.Conv2d)]
    widths = [weight.shape[1] for weight in (*project, parser.whole.weight)]
    steps = EPOCHS * len(features) // PIXELS
    with torch.no_grad():  # features of one scale, so that one rate fits all of them
        for layer, own in zip([*project, parser.whole.weight], torch.split(deviation, widths), strict=True):
            layer /= 2 * own.reshape(1, -1, *(1,) * (layer.ndim - 2))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = HEAD_RATE * min(1.0, (step + 1) / 100) * (1 - step / steps)
        chosen = torch.randint(len(features), (PIXELS,), generator=rng)
        *points, whole = torch.split(features[chosen].float(), widths, 1)
        place = F.grid_sample(parser.place, places[chosen][None, None], padding_mode="border", align_corners=False)
        with torch.autocast("cpu", torch.bfloat16):
            total = parser.whole(whole) + place[0, :, 0].T
            for layer, own in zip(project, points, strict=True):
                total = total + F.linear(own, layer[:, :, 0, 0])
            hidden = F.linear(F.relu(total), parser.mix.weight[:, :, 0, 0], parser.mix.bias)
            logits = F.linear(F.relu(hidden), parser.out.weight[:, :, 0, 0], parser.out.bias)
        loss = F.cross_entropy(logits.float(), classes[chosen], label_smoothing=0.02)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: {float(loss.detach()):.4f}", flush=True)


def varied(images: Tensor, labels: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """One picture ``[1 3 s s]`` in [-1, 1] and its classes ``[1 1 s s]``, moved, coloured, blurred and mirrored."""

    def normal(width: float, *shape: int) -> Tensor:
        return torch.randn(shape, generator=rng).clamp(-2, 2) * width

    if often(0.8, rng):
        angle, scale = normal(0.12), normal(0.12).exp()
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2) * scale
        affine = torch.cat([turn, normal(0.08, 2, 1)], 1)[None]
        grid = F.affine_grid(affine, [1, 1, SIDE, SIDE], align_corners=False)
        bend = F.interpolate(normal(0.02, 1, 2, 5, 5), (SIDE, SIDE), mode="bicubic").permute(0, 2, 3, 1)
        grid = grid + bend * often(0.4, rng)
        images = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        labels = F.grid_sample(labels, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    if often(0.3, rng):
        fewer = int(2 ** (5.5 + 2.3 * float(torch.rand((), generator=rng))))
        images = F.interpolate(F.interpolate(images, (fewer, fewer), mode="area"), (SIDE, SIDE), mode="bilinear")
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * (0.0 if often(0.08, rng) else float(normal(0.3).exp()))
    images = images * float(normal(0.2).exp()) + float(normal(0.15)) + normal(0.08, 1, 3, 1, 1)
    if often(0.3, rng):
        images = images + normal(0.05) * torch.randn(images.shape, generator=rng)
    labels = labels.long()
    if often(0.5, rng):
        images, labels = mirrored(images, True), torch.tensor(SWAPPED)[mirrored(labels, True)]
    return images.clamp(-1, 1), labels


def loss_of(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Of logits ``[b 19 s s]`` and classes ``[b s s]``."""
    entropy = F.cross_entropy(logits, labels, weights)
    shares, there = logits.softmax(1), F.one_hot(labels, len(CLASSES)).permute(0, 3, 1, 2).float()
    both, each = (shares * there).sum((2, 3)), (shares + there).sum((2, 3))
    present = (there.sum((2, 3)) > 0).float()
    dice = ((1 - 2 * both / (each + 1)) * present).sum() / present.sum()
    return entropy + 0.5 * dice


@torch.no_grad()
def scores(parser: FaceParser, images: Tensor, labels: Tensor) -> tuple[float, float, Tensor]:
    """``parsing.scores`` over all pictures."""
    table = torch.zeros(len(CLASSES), len(CLASSES))
    for some, true in zip(torch.split(images, 10), torch.split(labels, 10), strict=True):
        with torch.autocast("cpu", torch.bfloat16):
            logits = parser(some.float() / 127.5 - 1).float()
        found = F.interpolate(logits, (SIDE, SIDE), mode="bilinear").argmax(1)
        table += parsing.confusion(found, true[:, 0])
    return parsing.scores(table)


def write(parser: FaceParser, file: Path, held_out: tuple[Tensor, Tensor]) -> None:
    """Save the weights and print their scores."""
    save_file({name: value.contiguous() for name, value in parser.state_dict().items()}, file)
    mean, right, by_class = scores(parser, *held_out)
    listed = " ".join(f"{share:.2f}" for share in by_class.tolist())
    print(f"  validation: mIoU {mean:.4f}, pixels {right:.4f}: {listed}", flush=True)


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("what", choices=["head", "all"])
    for name in ("data", "validation", "out"):
        reader.add_argument(name, type=Path)
    reader.add_argument("--minutes", type=float, default=60.0)
    reader.add_argument("--labelled", type=Path, nargs="+", default=[])
    given = reader.parse_args()
    torch.set_num_threads(1)
    runtime.keep_freed_memory()
    folder = given.out
    folder.mkdir(parents=True, exist_ok=True)
    (images, labels), held_out = pairs(given.data), pairs(given.validation)
    own = [pairs(one) for one in given.labelled] or [(images, labels)]
    counts = torch.bincount(labels.flatten().long(), minlength=len(CLASSES)).float()
    weights = (counts.sum() / counts).pow(0.35)
    weights = weights * counts.sum() / (weights * counts).sum()
    torch.manual_seed(0)
    parser = start().to(memory_format=torch.channels_last).train()
    file = folder / "parser.safetensors"
    if given.what == "head":
        fit_head(parser, images, labels)
        write(parser, file, held_out)
        return
    parser.load_state_dict(load_file(file) if file.exists() else parsing.pretrained().state_dict())
    average = copy.deepcopy(parser).eval().requires_grad_(False)
    new = [weight for name, weight in parser.named_parameters() if not name.startswith(PRETRAINED)]
    old = [weight for name, weight in parser.named_parameters() if name.startswith(PRETRAINED)]
    optimizer = torch.optim.AdamW([{"params": new, "factor": 1.0}, {"params": old, "factor": 0.25}], weight_decay=0.01)
    step, spent, state = 0, 0.0, folder / "state.pt"
    if state.exists():
        kept = torch.load(state)
        parser.load_state_dict(kept["parser"]), average.load_state_dict(kept["average"])
        optimizer.load_state_dict(kept["optimizer"])
        step, spent = kept["step"], kept["spent"]
    limit, saved, before, total = 60 * given.minutes, spent, time.process_time(), 0.0
    while spent < limit:
        rng = torch.Generator().manual_seed(step)
        left = min(1.0, 2 * (1 - spent / limit))
        for group in optimizer.param_groups:
            group["lr"] = RATE * group["factor"] * min(1.0, (step + 1) / WARMUP) * max(0.02, left)
        made = []
        for number in range(BATCH):
            pool = (images, labels) if number % 3 else own[int(torch.randint(len(own), (), generator=rng))]
            i = int(torch.randint(len(pool[0]), (), generator=rng))
            made.append(varied(pool[0][i : i + 1].float() / 127.5 - 1, pool[1][i : i + 1].float(), rng))
        batch, truth = (torch.cat(part) for part in zip(*made, strict=True))
        with torch.autocast("cpu", torch.bfloat16):
            logits = parser(batch)
        logits = F.interpolate(logits.float(), (SIDE, SIDE), mode="bilinear")
        loss = loss_of(logits, truth[:, 0], weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(parser.parameters(), 1.0)
        if math.isfinite(norm):
            optimizer.step()
        with torch.no_grad():
            decay = min(AVERAGE, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(parser.parameters()), 1 - decay)
        step, total = step + 1, total + float(loss.detach())
        now = time.process_time()
        spent, before = spent + now - before, now
        if step % 25 == 0:
            print(f"step {step} of {BATCH}, {spent / 60:.1f} min, loss {total / 25:.4f}", flush=True)
            total = 0.0
        if spent - saved > 180 or spent >= limit:
            saved = spent
            kept = {"parser": parser.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**kept, "step": step, "spent": spent}, folder / "state.tmp")
            (folder / "state.tmp").rename(state)
            write(average, file, held_out)


if __name__ == "__main__":
    main()
