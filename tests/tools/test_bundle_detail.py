"""Bundling of a detail encoder: in int8, and named by a model whose tensors do not change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bundle_detail
import pixel2style as p2s
from pixel2style import assets, checkpoints
from pixel2style.config import DetailConfig
from pixel2style.formats import safetensors
from pixel2style.models.detail import DetailEncoder
from tests.support import stand_in


def test_a_model_finds_the_bundled_detail_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    p2s.save(stand_in.random_model(), tmp_path / "model.safetensors")
    before = safetensors.read(tmp_path / "model.safetensors")
    before = {key: value.clone() for key, value in before.items()}
    maps = stand_in.random_model().generator.map_channels()
    torch.manual_seed(0)
    detail = DetailEncoder(DetailConfig(side=8, channels=(maps[8], maps[16]), width=16, units=1, fine_width=8))
    torch.nn.init.normal_(detail.coarse.weight)
    bundle_detail.bundle(detail, "detail", "model", tmp_path)
    after = safetensors.read(tmp_path / "model.safetensors")
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) and after[key].dtype == value.dtype for key, value in before.items())
    found = p2s.load(tmp_path / "model.safetensors").detail
    assert isinstance(found, DetailEncoder)
    again = checkpoints.load_detail("detail").state_dict()
    for key, value in detail.state_dict().items():
        assert torch.equal(found.state_dict()[key], again[key])
        assert torch.allclose(again[key], value, atol=float(value.abs().max()) / 127)


def test_a_generator_cannot_have_a_detail_encoder(tmp_path: Path) -> None:
    p2s.save(stand_in.random_model().generator, tmp_path / "generator.safetensors")
    with pytest.raises(p2s.Pixel2StyleError, match="generator"):
        bundle_detail.bundle(DetailEncoder(DetailConfig(width=16, units=1)), "detail", "generator", tmp_path)


def test_a_model_stores_the_difference_to_a_bundled_detail_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    model = stand_in.random_model()
    model.config = replace(model.config, task="superres")
    p2s.save(model, tmp_path / "model.safetensors")
    maps = model.generator.map_channels()
    torch.manual_seed(0)
    first = DetailEncoder(DetailConfig(side=8, channels=(maps[8], maps[16]), width=16, units=1, fine_width=8))
    bundle_detail.bundle(first, "detail", "model", tmp_path)
    whole = (tmp_path / "detail.safetensors").stat().st_size
    before = (tmp_path / "model.safetensors").stat().st_size
    continued = checkpoints.load_detail("detail")
    for weight in continued.parameters():
        weight.data += 0.01 * torch.randn_like(weight)
    bundle_detail.bundle_difference(continued, "detail", "model", 4, tmp_path)
    found = p2s.load(tmp_path / "model.safetensors")
    assert found.detail is not None
    assert found.detail.config.needs_task
    for key, value in continued.state_dict().items():
        assert (found.detail.state_dict()[key] - value).square().mean().sqrt() < 0.003  # of 0.01
        assert value.ndim < 2 or not torch.equal(found.detail.state_dict()[key], first.state_dict()[key])
    assert (tmp_path / "model.safetensors").stat().st_size - before < 0.7 * whole
    p2s.save(stand_in.random_model(), tmp_path / "other.safetensors")
    for weight in first.parameters():
        weight.data += 0.01
    bundle_detail.bundle(first, "detail", "other", tmp_path)  # another base, and the model keeps its own
    kept = p2s.load(tmp_path / "model.safetensors").detail
    assert kept is not None and p2s.load(tmp_path / "other.safetensors").detail is not None
    for key, value in found.detail.state_dict().items():
        assert (kept.state_dict()[key] - value).square().mean().sqrt() < 0.003
    bundle_detail.bundle_difference(checkpoints.load_detail("detail"), "detail", "model", 4, tmp_path)
    assert "detail_digest" not in safetensors.read_metadata(tmp_path / "model.safetensors")
