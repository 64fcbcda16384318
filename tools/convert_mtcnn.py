"""Convert the published MTCNN weights to the bundled file ``assets/mtcnn.safetensors``.

Reads the three state dicts inside facenet-pytorch's wheel (pinned version and SHA-256) without installing it or running
its code. Run: ``python tools/convert_mtcnn.py facenet_pytorch-2.6.0-py3-none-any.whl [OUT.safetensors]``; get the wheel
with ``pip download --no-deps facenet-pytorch==2.6.0``.
"""

import io
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from pinned import verified
from pixel2style.checkpoints import save_tensors
from pixel2style.faces.mtcnn import MTCNN

SHA256 = "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca"
OUT = Path(__file__).parents[1] / "src/pixel2style/assets/mtcnn.safetensors"

# Ours to theirs: position in our trunk, or head, to their layer.
LAYERS = {
    "propose": (
        "pnet",
        ["conv1", "prelu1", "", "conv2", "prelu2", "conv3", "prelu3"],
        {"face": "conv4_1", "offsets": "conv4_2"},
    ),
    "refine": (
        "rnet",
        ["conv1", "prelu1", "", "conv2", "prelu2", "", "conv3", "prelu3", "", "dense4", "prelu4"],
        {"face": "dense5_1", "offsets": "dense5_2"},
    ),
    "output": (
        "onet",
        [
            "conv1",
            "prelu1",
            "",
            "conv2",
            "prelu2",
            "",
            "conv3",
            "prelu3",
            "",
            "conv4",
            "prelu4",
            "",
            "dense5",
            "prelu5",
        ],
        {"face": "dense6_1", "offsets": "dense6_2", "landmarks": "dense6_3"},
    ),
}
FLATTENED = {"dense4.weight": (64, 3, 3), "dense5.weight": (128, 3, 3)}


def channels_first(weight: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Their first dense layer reads its map as width, height, channels; ours as channels, height, width."""
    channels, height, width = shape
    return weight.reshape(-1, width, height, channels).permute(0, 3, 2, 1).flatten(1)


def convert(wheel: Path) -> dict[str, Tensor]:
    """Our state dict, float32, from the wheel's three files."""
    tensors: dict[str, Tensor] = {}
    content = verified(wheel, SHA256, "facenet-pytorch 2.6.0")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for ours, (theirs, trunk, heads) in LAYERS.items():
            data = io.BytesIO(archive.read(f"facenet_pytorch/data/{theirs}.pt"))
            state: dict[str, Tensor] = torch.load(data, map_location="cpu", weights_only=True)
            names = {f"trunk.{index}": layer for index, layer in enumerate(trunk) if layer} | heads
            for place, layer in names.items():
                for part in ("weight", "bias"):
                    key = f"{layer}.{part}"
                    if key in state:
                        value = state.pop(key)
                        shape = FLATTENED.get(key) if theirs != "pnet" else None
                        tensors[f"{ours}.{place}.{part}"] = channels_first(value, shape) if shape else value
            if state:
                raise SystemExit(f"{theirs}.pt holds tensors that were not expected: {sorted(state)}")
    return tensors


def main() -> None:
    wheel = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else OUT
    tensors = convert(wheel)
    MTCNN().load_state_dict(tensors)
    save_tensors(tensors, out)
    print(f"{out}: {len(tensors)} tensors, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
