"""Generators as TensorFlow's training writes them, small: their variables, and a pickle of the three networks."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support import nvidia_pickles

WIDTH, CHANNELS = 6, {4: 8, 8: 5, 16: 4}


def variables(seed: int = 0, labels: int = 0, mapped: int = WIDTH) -> dict[str, Tensor]:
    """All variables of a small configuration F, by the names of the whole network."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    def layer(i: int, o: int, side: int = 3) -> dict[str, Tensor]:
        made = {"weight": normal(side, side, i, o), "mod_weight": normal(WIDTH, i), "mod_bias": normal(i) * 0.1}
        return (
            {**made, "bias": normal(o)} if side == 1 else {**made, "noise_strength": normal() * 0.1, "bias": normal(o)}
        )

    found: dict[str, Tensor] = {"lod": torch.zeros(()), "dlatent_avg": normal(WIDTH)}
    if labels:
        found |= {"mapping/LabelEmbed/weight": normal(labels, WIDTH), "mapping/LabelEmbed/bias": normal(WIDTH)}
    for n in range(3):
        width = 2 * WIDTH if labels and not n else WIDTH
        found |= {f"mapping/Dense{n}/weight": normal(width, WIDTH) * 100, f"mapping/Dense{n}/bias": normal(WIDTH) * 10}
    found["synthesis/4x4/Const/const"] = normal(1, CHANNELS[4], 4, 4)
    layers = {"4x4/Conv": layer(8, 8), "4x4/ToRGB": layer(8, 3, 1)}
    for i, side, o in ((8, 8, 5), (5, 16, 4)):
        layers |= {f"{side}x{side}/Conv0_up": layer(i, o), f"{side}x{side}/Conv1": layer(o, o)}
        layers[f"{side}x{side}/ToRGB"] = layer(o, 3, 1)
    for name, parts in layers.items():
        found |= {f"synthesis/{name}/{part}": value for part, value in parts.items()}
    for n in range(5):
        found[f"synthesis/noise{n}"] = normal(1, 1, 4 << (n + 1) // 2, 4 << (n + 1) // 2)
    return found


def written(
    path: Path, found: dict[str, Tensor], build: str = "G_main", version: int = 4, protocol: int = 4, **static: Any
) -> Path:
    """The tuple of three networks as TensorFlow's training leaves it; the discriminator has a variable only."""

    def part(prefix: str, name: str) -> nvidia_pickles.Network:
        own = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
        return nvidia_pickles.network(own, func=name, version=version, func_name=name, **static)

    def whole() -> nvidia_pickles.Network:
        functions = {"mapping_func": "G_mapping", "synthesis_func": "G_synthesis_stylegan2"}
        parts = {"mapping": part("mapping/", "G_mapping"), "synthesis": part("synthesis/", "G_synthesis_stylegan2")}
        own = {key: value for key, value in found.items() if "/" not in key}
        return nvidia_pickles.network(own, parts, build, version, **functions, **static)

    judge = nvidia_pickles.network({"Output/weight": torch.zeros(3, 1)}, func="D_stylegan2", version=version)
    return nvidia_pickles.written(path / "network.pkl", (whole(), judge, whole()), protocol)
