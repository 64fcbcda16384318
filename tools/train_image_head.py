"""Train MobileStyleGAN's 256-pixel image head, which predicts the pooled full picture from its features.

Rows are mixed and noisy, as an encoder's are. The same command again continues; then pass the result to
``tools/convert_random_face.py WHEEL HEAD``.

    python tools/train_image_head.py --out runs/head --steps 3000
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from pixel2style import assets
from pixel2style.config import GeneratorConfig
from pixel2style.generators.mobilestylegan.network import HEAD_BLOCK, HEAD_SIZE, MobileStyleGAN
from pixel2style.training.batches import join_rows
from pixel2style.training.dataset import step_rng


@dataclass(frozen=True)
class HeadRun:
    """Options of the run."""

    out: Path = Path("runs/head")
    steps: int = 3000
    batch: int = 32
    lr: float = 2e-3
    minutes: float = 0
    start_from: Path | None = None


def rows(generator: MobileStyleGAN, count: int, rng: torch.Generator, device: torch.device) -> Tensor:
    """Rows ``[count 16 512]``: three mapped vectors mixed, moved towards the average, with noise in every row."""
    w = generator.map(torch.randn(3 * count, 512, generator=rng).to(device)).reshape(count, 3, 1, 512)
    pull = (0.4 + 0.6 * torch.rand(count, 1, 1, 1, generator=rng)).to(device)
    w = generator.w_avg + pull * (w - generator.w_avg)
    ws = join_rows(w.expand(-1, -1, 16, -1), rng)
    noise = 0.5 * torch.rand(count, 1, 1, generator=rng) * torch.randn(count, 16, 512, generator=rng)
    return ws + noise.to(device) * generator.w_std


@torch.no_grad()
def signal_to_noise(generator: MobileStyleGAN, device: torch.device) -> tuple[float, float]:
    """PSNR in dB (peak 2) against the pooled picture, on 64 unseen sets: mixed noisy rows, and plain mapped rows."""
    rng = step_rng(1, 10**9)
    found = []
    for plain in (False, True):
        errors = []
        for _ in range(8):
            ws = rows(generator, 8, rng, device)
            if plain:
                ws = generator.map(torch.randn(8, 512, generator=rng).to(device))[:, None].expand(-1, 16, -1)
            want = F.adaptive_avg_pool2d(generator.synthesize(ws), HEAD_SIZE)
            errors.append((generator.synthesize(ws, HEAD_SIZE) - want).square().mean())
        found.append(10 * math.log10(4 / float(torch.stack(errors).mean())))
    return found[0], found[1]


def main(run: HeadRun) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run.out.mkdir(parents=True, exist_ok=True)
    generator = MobileStyleGAN(GeneratorConfig(kind="mobilestylegan"))
    generator.load_state_dict(assets.read("mobilestylegan_ffhq_1024"), strict=False)
    generator.to(device).to(memory_format=torch.channels_last)
    head = generator.head.requires_grad_(True)
    file, state = run.out / "head.safetensors", run.out / "head.pt"
    optimizer = torch.optim.AdamW(head.parameters(), run.lr, (0.9, 0.99))
    step = 0
    if state.exists():
        head.load_state_dict(load_file(file, device=str(device)))
        content = torch.load(state, map_location=device, weights_only=True)
        optimizer.load_state_dict(content["optimizer"])
        step = content["step"]
    elif run.start_from:
        head.load_state_dict(load_file(run.start_from, device=str(device)))
    else:
        for layer in (head.style.weight, *head.mix.parameters()):
            torch.nn.init.zeros_(layer)
    begun = time.monotonic()
    while step < run.steps:
        rng = step_rng(0, step)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            ws = rows(generator, run.batch, rng, device)
            features = generator.features(ws, 128)
            picture = features
            for i in range(HEAD_BLOCK + 1, len(generator.blocks)):
                picture = generator.blocks[i](picture, ws[:, 1 + 2 * i], ws[:, 2 + 2 * i])
            want = F.adaptive_avg_pool2d(generator.to_rgb(picture, ws[:, -1]).float(), HEAD_SIZE)
        with torch.autocast(device.type, torch.bfloat16):
            made = head(features, ws).float()
        loss = (made - want).square().mean()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = (
                run.lr * min(1, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / run.steps)))
            )
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        over = step == run.steps or (run.minutes > 0 and time.monotonic() - begun > 60 * run.minutes)
        if step % 100 == 0 or over:
            line = {"step": step, "s": round(time.monotonic() - begun), "mse": float(loss.detach())}
            if step % 500 == 0 or over:
                line["psnr_mixed"], line["psnr_plain"] = signal_to_noise(generator, device)
                save_file({key: value.contiguous() for key, value in head.state_dict().items()}, file)
                torch.save({"optimizer": optimizer.state_dict(), "step": step}, state)
            print(json.dumps(line), flush=True)
        if over:
            return


if __name__ == "__main__":
    main(tyro.cli(HeadRun))
