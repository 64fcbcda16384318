"""The registry of generators: what adding one touches."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

import pixel2style as p2s
from pixel2style import generators
from pixel2style.checkpoints import detect
from pixel2style.config import GeneratorConfig
from pixel2style.errors import CheckpointError, ConfigError
from pixel2style.generators import GENERATORS, PUBLISHED, Generator


class Grey(Generator):
    """One grey image for each mean of a row."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config, self.rows, self.width, self.size = config, 1, config.width, config.size
        self.register_buffer("w_avg", torch.zeros(config.width))

    def map(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        return z

    def synthesize(self, ws: Tensor, size: int | None = None) -> Tensor:
        side = size or self.size
        return ws.flatten(1).mean(1)[:, None, None, None].expand(-1, 3, side, side)


def test_a_generator_in_the_registry_is_saved_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "grey", Grey)
    generator = Grey(GeneratorConfig("grey", size=8, width=4))
    generator.w_avg.fill_(0.25)
    p2s.save(generator, tmp_path / "grey.safetensors")
    again = p2s.load_generator(tmp_path / "grey.safetensors")
    assert type(again) is Grey
    assert again.config == generator.config
    assert torch.equal(again.synthesize(again.w_avg[None]), torch.full((1, 3, 8, 8), 0.25))


def test_an_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'biggan'"):
        generators.build(GeneratorConfig("biggan"))
    config = json.dumps({"kind": "biggan"})
    header = json.dumps({"__metadata__": {"format": "pixel2style 1", "config": config}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(CheckpointError, match="'biggan'"):
        p2s.load_generator(tmp_path / "a.safetensors")


def test_published_layouts_belong_to_generators_of_the_registry() -> None:
    assert {layout.network for layout in PUBLISHED.values()} <= set(GENERATORS.values())
    assert all(detect.DESCRIBED[kind] == layout.about for kind, layout in PUBLISHED.items())
    assert all(re.fullmatch(r"[a-z0-9]+", kind) for kind in PUBLISHED)
