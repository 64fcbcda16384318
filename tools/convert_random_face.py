"""Convert the `random-face` wheel's OpenVINO graph to ``assets/mobilestylegan_ffhq_1024.safetensors``.

The wheel (PyPI, Apache-2.0) carries MobileStyleGAN (arXiv 2104.04767), distilled from StyleGAN2-FFHQ, as an IR: an XML
graph and a file of raw constants. Both are parsed as data; no code of the package is executed. Get the wheel with

    pip download --no-deps random-face==2021.7.21.1
    python tools/convert_random_face.py random_face-2021.7.21.1-py3-none-any.whl
"""

import io
import sys
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pinned import verified
from pixel2style import assets, checkpoints
from pixel2style.checkpoints import native
from pixel2style.config import GeneratorConfig
from pixel2style.generators.mobilestylegan.network import MobileStyleGAN

NAME = "mobilestylegan_ffhq_1024"
SHA256 = "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5"
Array = NDArray[np.float32]


@dataclass
class Graph:
    """An IR graph: its layers by id, the inputs of each, and the constants."""

    layers: dict[str, ET.Element]
    inputs: dict[str, list[str]]
    constants: bytes

    @classmethod
    def read(cls, wheel: zipfile.ZipFile, name: str) -> "Graph":
        """Parse one of the wheel's networks."""
        root = ET.fromstring(wheel.read(f"random_face/data/{name}.xml"))
        layers = {layer.attrib["id"]: layer for layer in root.iter("layer")}
        edges = sorted(root.iter("edge"), key=lambda edge: int(edge.attrib["to-port"]))
        inputs: dict[str, list[str]] = {key: [] for key in layers}
        for edge in edges:
            inputs[edge.attrib["to-layer"]].append(edge.attrib["from-layer"])
        return cls(layers, inputs, wheel.read(f"random_face/data/{name}.bin"))

    def type(self, key: str) -> str:
        """The operator of a layer."""
        return self.layers[key].attrib["type"]

    def constant(self, key: str) -> Array:
        """The values of a constant layer."""
        data = self.layers[key].find("data")
        assert data is not None and data.attrib["element_type"] == "f32"
        start, size = int(data.attrib["offset"]), int(data.attrib["size"])
        shape = [int(side) for side in data.attrib["shape"].split(",") if side.strip()]
        return np.frombuffer(self.constants[start : start + size], np.float32).reshape(shape)

    def constants_of(self, key: str) -> list[Array]:
        """The constants among a layer's inputs."""
        return [self.constant(source) for source in self.inputs[key] if self.type(source) == "Const"]

    def of_type(self, *types: str) -> list[str]:
        """Layers of these types, in the graph's order."""
        return [key for key in sorted(self.layers, key=int) if self.type(key) in types]

    def added_after(self, key: str) -> list[Array]:
        """The constants added right after a layer: its noise and bias."""
        found: list[Array] = []
        while following := [add for add in self.of_type("Add") if key in self.inputs[add] and self.constants_of(add)]:
            key = following[0]
            found += self.constants_of(key)
        return found

    def affine(self, key: str) -> tuple[Array, Array] | None:
        """Weight and bias of the style that is input to ``key``, with its constant factor; None if there is none."""
        factor = np.ones((), np.float32)
        while True:
            kind = self.type(key)
            if kind in ("Reshape", "Multiply"):
                if kind == "Multiply":
                    constants = self.constants_of(key)
                    if not constants:
                        return None
                    factor = factor * constants[0].reshape(())
                key = next(source for source in self.inputs[key] if self.type(source) != "Const")
            elif kind == "Add":
                product = next((source for source in self.inputs[key] if self.type(source) == "MatMul"), None)
                if product is None:
                    return None
                weight, bias = self.constants_of(product)[0], self.constants_of(key)[0].reshape(-1)
                return weight * factor, bias * factor
            else:
                return None


def mapping(graph: Graph) -> dict[str, Array]:
    """The eight linear layers; in the IR their biases come after a reshape."""
    out: dict[str, Array] = {}
    for i, product in enumerate(graph.of_type("MatMul")):
        add = next(key for key in graph.of_type("Add") if product in graph.inputs[key])
        reshape = next(source for source in graph.inputs[add] if source != product)
        out[f"mapping.{i}.weight"] = graph.constants_of(product)[0]
        out[f"mapping.{i}.bias"] = graph.constants_of(reshape)[0].reshape(-1)
    return out


def style_names() -> list[str]:
    blocks = [f"blocks.{i}.{part}" for i in range(7) for part in ("up_style", "conv1.style", "conv2.style")]
    return ["conv1.style", *blocks, "to_rgb.style"]


def weight_names() -> list[str]:
    parts = ("depthwise", "pointwise")
    blocks = [f"blocks.{i}.conv{j}.{part}" for i in range(7) for j in (1, 2) for part in parts]
    return ["conv1.weight", *blocks, "to_rgb.weight"]


def synthesis(graph: Graph) -> dict[str, Array]:
    """The synthesis network: along the graph every style, weight, noise and bias occurs once, in order."""
    start = next(key for key in graph.of_type("Const") if graph.layers[key].attrib["name"] == "m.input.input")
    out = {"constant": graph.constant(start)}
    products = [key for key in graph.of_type("Multiply") if not graph.constants_of(key)]
    affines = [next(found for source in graph.inputs[key] if (found := graph.affine(source))) for key in products]
    for name, (weight, bias) in zip(style_names(), affines, strict=True):
        out[f"{name}.weight"], out[f"{name}.bias"] = weight, bias
    for key, name in zip(graph.of_type("Convolution", "GroupConvolution"), weight_names(), strict=True):
        weight = graph.constants_of(key)[0]
        out[name] = weight.reshape(-1, 1, 3, 3) if name.endswith("depthwise") else weight
        for added in graph.added_after(key):
            layer = name.rsplit(".", 1)[0]
            if added.shape[-1] == 1:
                out[f"{layer}.bias"] = added.reshape(-1)
            else:
                out[f"{layer}.noise"] = added
    return out


def by_band(channels: int) -> NDArray[np.int64]:
    """Indices of our wavelet channels (band by band) in the wheel's (low bands, then three bands for each channel)."""
    low = np.arange(channels // 4)
    return np.concatenate([low, *(channels // 4 + 3 * low + band for band in range(3))])


def reorder_bands(tensors: dict[str, Array]) -> None:
    """Reorder the channels before each inverse Haar step band by band, in place."""
    for i in range(7):
        before = "conv1" if i == 0 else f"blocks.{i - 1}.conv2"
        order = by_band(len(tensors[f"{before}.bias"]))
        weight = "weight" if i == 0 else "pointwise"
        for name in (
            f"{before}.{weight}",
            f"{before}.bias",
            f"blocks.{i}.up_style.weight",
            f"blocks.{i}.up_style.bias",
        ):
            tensors[name] = tensors[name][order]
    for name in ("to_rgb.weight", "to_rgb.bias"):
        tensors[name] = tensors[name][by_band(12)]


def main(wheel: str, head: str | None = None) -> None:
    content = verified(Path(wheel), SHA256, "random-face 2021.7.21.1")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        arrays = {
            **mapping(Graph.read(archive, "MappingNetwork")),
            **synthesis(Graph.read(archive, "SynthesisNetwork")),
        }
    reorder_bands(arrays)
    tensors = {key: torch.from_numpy(np.array(value, np.float32)) for key, value in arrays.items()}
    config = GeneratorConfig(kind="mobilestylegan", size=1024)
    network = MobileStyleGAN(config)
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected and all(key.startswith("head.") or key in ("w_avg", "w_std") for key in missing), (
        missing,
        unexpected,
    )
    w = network.map(torch.randn(100_000, 512, generator=torch.Generator().manual_seed(0)))
    out = {key: value.half() for key, value in tensors.items()}
    out["w_avg"], out["w_std"] = w.mean(0), w.std(0)
    if head:
        out |= {f"head.{key}": value.half() for key, value in load_file(head).items()}
    file = assets.FOLDER / f"{NAME}.safetensors"
    checkpoints.save_tensors(out, file, native.metadata_of(config))
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, image head {'included' if head else 'missing'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
