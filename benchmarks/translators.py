"""Image-to-image networks trained from nothing, beside ``benchmarks/drawings.py``: what the same data and time give.

    python benchmarks/translators.py --train celebahq_train --data celebahq_val --task segmentation --minutes 15

Two small relatives of the networks that the pSp paper compares with, at 256 pixels: of pix2pixHD (Wang et al., arXiv
1711.11585: a convolutional generator with residual blocks, least-squares discriminators) and of SPADE (Park et al.,
arXiv 1903.07291: the drawing modulates every normalisation, hinge discriminators). Both have two PatchGAN
discriminators at two scales, feature matching and a perceptual loss; that is LPIPS-alex here, in place of VGG's. They
draw one face for each drawing. ``--minutes`` are of the processor, of one thread; an interrupted training goes on from
its last state in ``--out``.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

import drawings
import task_scores
from drawings import Example
from pixel2style import files, runtime
from pixel2style.metrics.lpips import LPIPS
from pixel2style.metrics.scores import Scorer

SLOPE = 0.2
MATCHING, PERCEPTUAL = 10.0, 10.0
"""Weights of feature matching and of LPIPS beside the adversarial loss, as in both papers."""
SAVE_EVERY = 50
BF16 = runtime.fast_in_bf16(torch.device("cpu"))
CHANNELS = {"segmentation": drawings.CLASSES, "sketch": 1}


def normalised(x: Tensor) -> Tensor:
    """Instance normalisation without weights."""
    return F.instance_norm(x)


class Plain(nn.Module):
    """A residual block: ``[b c h w]`` to the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect") for _ in "ab")

    def forward(self, x: Tensor) -> Tensor:
        """``x`` and two convolutions of it."""
        first, second = self.convs
        return x + normalised(second(F.relu(normalised(first(x)))))


class Pix2PixHD(nn.Module):
    """Drawings ``[b c 256 256]`` to pictures ``[b 3 256 256]``: four halvings, residual blocks, four doublings."""

    def __init__(self, channels: int, width: int = 32, blocks: int = 6):
        super().__init__()
        widths = [width << level for level in range(5)]
        self.first = nn.Conv2d(channels, width, 7, padding=3, padding_mode="reflect")
        self.down = nn.ModuleList(nn.Conv2d(i, o, 3, 2, 1) for i, o in itertools.pairwise(widths))
        self.middle = nn.Sequential(*(Plain(widths[-1]) for _ in range(blocks)))
        self.up = nn.ModuleList(nn.Conv2d(o, i, 3, padding=1) for i, o in list(itertools.pairwise(widths))[::-1])
        self.last = nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect")

    def forward(self, drawing: Tensor) -> Tensor:
        """Pictures of drawings."""
        x = F.relu(normalised(self.first(drawing)))
        for down in self.down:
            x = F.relu(normalised(down(x)))
        x = self.middle(x)
        for up in self.up:
            x = F.relu(normalised(up(F.interpolate(x, scale_factor=2.0))))
        return self.last(x).tanh()


class Modulated(nn.Module):
    """SPADE: normalised maps, scaled and shifted at each place by what two convolutions make of the drawing."""

    def __init__(self, channels: int, drawn: int, hidden: int = 32):
        super().__init__()
        self.shared = nn.Conv2d(drawn, hidden, 3, padding=1)
        self.scale, self.shift = (nn.Conv2d(hidden, channels, 3, padding=1) for _ in "ab")

    def forward(self, x: Tensor, drawing: Tensor) -> Tensor:
        """``[b c h w]`` to the same, for drawings ``[b c 256 256]``."""
        seen = F.relu(self.shared(F.interpolate(drawing, x.shape[-2:])))
        return normalised(x) * (1 + self.scale(seen)) + self.shift(seen)


class ModulatedBlock(nn.Module):
    """A residual block of modulated maps: ``[b i h w]`` to ``[b o h w]``."""

    def __init__(self, i: int, o: int, drawn: int):
        super().__init__()
        self.norms = nn.ModuleList([Modulated(i, drawn), Modulated(i, drawn)])
        self.convs = nn.ModuleList(
            [spectral_norm(nn.Conv2d(i, i, 3, padding=1)), spectral_norm(nn.Conv2d(i, o, 3, padding=1))]
        )
        self.skip = nn.Conv2d(i, o, 1, bias=False)

    def forward(self, x: Tensor, drawing: Tensor) -> Tensor:
        """``[b i h w]`` to ``[b o h w]``, for drawings ``[b c 256 256]``."""
        y = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            y = conv(F.leaky_relu(norm(y, drawing), SLOPE))
        return self.skip(x) + y


class Spade(nn.Module):
    """Drawings ``[b c 256 256]`` to pictures ``[b 3 256 256]``, from 8 x 8 pixels of the drawing on."""

    WIDTHS = (256, 256, 256, 128, 64, 32)

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, self.WIDTHS[0], 3, padding=1)
        pairs = zip(self.WIDTHS, [*self.WIDTHS[1:], self.WIDTHS[-1]], strict=True)
        self.blocks = nn.ModuleList(ModulatedBlock(i, o, channels) for i, o in pairs)
        self.last = nn.Conv2d(self.WIDTHS[-1], 3, 3, padding=1)

    def forward(self, drawing: Tensor) -> Tensor:
        """Pictures of drawings."""
        x = self.first(F.interpolate(drawing, (8, 8), mode="area"))
        for at, block in enumerate(self.blocks):
            x = block(x if at == 0 else F.interpolate(x, scale_factor=2.0), drawing)
        return self.last(F.leaky_relu(x, SLOPE)).tanh()


class Discriminators(nn.Module):
    """Two PatchGANs, of the picture with its drawing and of both at half the size; each gives all its maps."""

    def __init__(self, channels: int, width: int = 32):
        super().__init__()
        self.networks = nn.ModuleList(self._network(channels + 3, width) for _ in range(2))

    @staticmethod
    def _network(channels: int, width: int) -> nn.ModuleList:
        widths = [channels, width, 2 * width, 4 * width]
        convs = [spectral_norm(nn.Conv2d(i, o, 4, 2, 1)) for i, o in itertools.pairwise(widths)]
        return nn.ModuleList([*convs, nn.Conv2d(widths[-1], 1, 3, padding=1)])

    def forward(self, drawing: Tensor, picture: Tensor) -> list[list[Tensor]]:
        """The maps of each network, the last of which are its judgements."""
        x, found = torch.cat([drawing, picture], 1), []
        for network in self.networks:
            maps, y = [], x
            for conv in network:
                y = conv(y if not maps else F.leaky_relu(y, SLOPE))
                maps.append(y)
            found.append(maps)
            x = F.avg_pool2d(x, 3, 2, 1)
        return found


Judged = Callable[[Tensor, bool], Tensor]
"""Judgements of real or drawn pictures to the loss of the discriminator."""


def least_squares(judged: Tensor, real: bool) -> Tensor:
    """LSGAN."""
    return (judged - float(real)).square().mean()


def hinge(judged: Tensor, real: bool) -> Tensor:
    """Geometric GAN."""
    return F.relu(1 - judged if real else 1 + judged).mean()


class Rival:
    """A generator, its discriminators, and their training."""

    def __init__(self, name: str, task: str):
        torch.manual_seed(0)
        spade = name == "SPADE"
        self.task, self.loss = task, hinge if spade else least_squares
        self.network: nn.Module = (Spade if spade else Pix2PixHD)(CHANNELS[task])
        self.judges, self.lpips = Discriminators(CHANNELS[task]), LPIPS("alex")
        rates, betas = ((1e-4, 4e-4), (0.0, 0.9)) if spade else ((2e-4, 2e-4), (0.5, 0.999))
        parts = (self.network, self.judges)
        self.optimizers = [
            torch.optim.Adam(part.parameters(), rate, betas) for part, rate in zip(parts, rates, strict=True)
        ]
        self.spade, self.steps, self.seconds = spade, 0, 0.0

    def step(self, drawing: Tensor, photograph: Tensor) -> None:
        """One step of both."""
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            made = self.network(drawing)
            judged, real = self.judges(drawing, made), self.judges(drawing, photograph)
            fooling = [-maps[-1].float().mean() if self.spade else self.loss(maps[-1].float(), True) for maps in judged]
            matching = [
                F.l1_loss(ours.float(), theirs.float().detach())
                for some, others in zip(judged, real, strict=True)
                for ours, theirs in zip(some[:-1], others[:-1], strict=True)
            ]
            loss = torch.stack(fooling).mean() + MATCHING * torch.stack(matching).mean()
            loss = loss + PERCEPTUAL * self.lpips(made.float(), photograph).mean()
        self._update(0, loss)
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            parts = ((self.judges(drawing, made.detach()), False), (self.judges(drawing, photograph), True))
            loss = torch.stack([self.loss(maps[-1].float(), true) for judged, true in parts for maps in judged]).mean()
        self._update(1, loss)
        self.steps, self.seconds = self.steps + 1, self.seconds + time.process_time() - start

    def _update(self, which: int, loss: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[which].step()

    def save(self, file: Path) -> None:
        """Everything that a later run needs."""
        parts = [part.state_dict() for part in (self.network, self.judges, *self.optimizers)]
        with files.replacing(file) as temporary:
            torch.save({"parts": parts, "steps": self.steps, "seconds": self.seconds}, temporary)

    def restore(self, file: Path) -> None:
        """What ``save`` has written."""
        found = torch.load(file, weights_only=True)
        for part, state in zip((self.network, self.judges, *self.optimizers), found["parts"], strict=True):
            part.load_state_dict(state)
        self.steps, self.seconds = found["steps"], found["seconds"]

    @torch.no_grad()
    def drawn(self, example: Example) -> Tensor:
        """The picture ``[1 3 256 256]`` of a drawing."""
        with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
            made: Tensor = self.network.eval()(example.source(self.task))
        return made.float().clamp(-1, 1)


def batches(examples: list[Example], task: str, size: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Drawings and photographs of each step from ``start`` on, half of them mirrored."""
    for step in range(start, 1 << 30):
        rng = torch.Generator().manual_seed(step)
        pairs = []
        for index in torch.randint(len(examples), (size,), generator=rng).tolist():
            pair = examples[index].source(task), examples[index].photograph
            mirrored = bool(torch.rand((), generator=rng) < 0.5)
            pairs.append([part.flip(3) if mirrored else part for part in pair])
        yield tuple(torch.cat(part) for part in zip(*pairs, strict=True))  # type: ignore[misc]


def trained(name: str, examples: list[Example], options: argparse.Namespace) -> Rival:
    """A network of this name after ``--minutes``."""
    rival, file = Rival(name, options.task), options.out / f"{options.task}-{name}.pt"
    if file.exists():
        rival.restore(file)
    for drawing, photograph in batches(examples, options.task, options.batch, rival.steps):
        if rival.steps >= options.steps if options.steps else rival.seconds >= 60 * options.minutes:
            break
        rival.step(drawing, photograph)
        if rival.steps % SAVE_EVERY == 0:
            rival.save(file)
            print(f"{name}: {rival.steps} steps, {rival.seconds / 60:.1f} minutes", flush=True)
    rival.save(file)
    return rival


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--train", type=Path, required=True, help="a folder as --data of benchmarks/drawings.py")
    reader.add_argument("--data", type=Path, required=True)
    reader.add_argument("--task", choices=list(CHANNELS), default="segmentation")
    reader.add_argument("--names", nargs="+", default=["pix2pixHD", "SPADE"])
    reader.add_argument("--minutes", type=float, default=15)
    reader.add_argument("--steps", type=int, help="so many in place of --minutes: what another machine does in these")
    reader.add_argument("--batch", type=int, default=4)
    reader.add_argument("--limit", type=int, help="so many of the pictures of --data")
    reader.add_argument("--out", type=Path, default=Path("translators"))
    options = reader.parse_args()
    torch.set_num_threads(1)
    files.make_folder(options.out)
    examples, scorer, lines = drawings.read(options.train, None), Scorer(full=True), []
    wanted = drawings.read(options.data, options.limit)
    for name in options.names:
        rival = trained(name, examples, options)
        title = f"{name}, {rival.steps} steps of {options.batch}"
        lines.append([title, *drawings.scores(options.task, [rival.drawn(one) for one in wanted], wanted, scorer)])
    agree = ["edges, px"] if options.task == "sketch" else ["mIoU", "pixels"]
    titles = [f"{len(wanted)} pictures", *agree, "landmarks, px", "LPIPS", "identity, dlib", "Frechet"]
    print(f"\n{task_scores.markdown(titles, lines)}\n")


if __name__ == "__main__":
    main()
