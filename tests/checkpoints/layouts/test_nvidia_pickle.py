"""NVIDIA's networks are read from their pickles unchanged, and nothing in the pickles runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixel2style.checkpoints import foreign
from pixel2style.checkpoints.layouts import nvidia_pickle
from pixel2style.config import GeneratorConfig
from pixel2style.errors import CheckpointError
from pixel2style.formats import pickle
from pixel2style.generators.stylegan2 import nvidia
from pixel2style.generators.stylegan2.network import StyleGAN2
from tests.support import golden_rule, nvidia_pickles
from tests.support.golden_rule import GOLDEN, arr, figures, relative_error, small

pytestmark = pytest.mark.usefixtures("one_thread")

TOLD = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 16, "img_channels": 3}


def tiny(seed: int = 0, **changes: object) -> StyleGAN2:
    torch.manual_seed(seed)
    made = StyleGAN2(GeneratorConfig(size=16, width=8, mapping_layers=2, channels=(8, 8, 4), **changes))  # type: ignore[arg-type]
    made.w_avg.normal_()
    return made


@pytest.fixture
def state() -> dict[str, Tensor]:
    return nvidia.stylegan2_state(tiny())[0]


def written(path: Path, state: dict[str, Tensor], **kwargs: object) -> Path:
    return nvidia_pickles.written(path / "network.pkl", {"G_ema": nvidia_pickles.module(state, **kwargs)})  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_network_holds_the_tensors_that_were_written(state: dict[str, Tensor], tmp_path: Path, protocol: int) -> None:
    path = nvidia_pickles.written(tmp_path / "g.pkl", {"G_ema": nvidia_pickles.module(state)}, protocol)
    network = nvidia_pickle.networks(path)["G_ema"]
    found = network.weights()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    assert network.shapes() == {key: tuple(value.shape) for key, value in state.items()}
    assert (network.family, network.class_name) == ("stylegan2", "Generator")


def test_keys_are_those_of_the_state_dict(state: dict[str, Tensor], tmp_path: Path) -> None:
    module = nvidia_pickles.module(state)
    path = nvidia_pickles.written(tmp_path / "g.pkl", {"G_ema": module})
    assert set(nvidia_pickle.networks(path)["G_ema"].shapes()) == set(module.state_dict())


def test_source_text_is_never_run(state: dict[str, Tensor], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    source = nvidia_pickles.marking(mark)
    exec(source)
    assert mark.exists(), "the text must be one that would tell"
    mark.unlink()
    before = set(sys.modules)
    foreign.load_generator(written(tmp_path, state, source=source))
    assert not mark.exists()
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] in ("torch_utils", "dnnlib")}


def test_the_average_is_preferred_and_named_ones_are_all_there(tmp_path: Path) -> None:
    ways = {name: nvidia.stylegan2_state(tiny(seed))[0] for seed, name in enumerate(("G", "D", "G_ema"))}
    modules = {name: nvidia_pickles.module(value) for name, value in ways.items()}
    modules["D"] = nvidia_pickles.module({"b4.out.weight": torch.ones(1, 8)}, "Discriminator")
    path = nvidia_pickles.written(tmp_path / "g.pkl", modules)
    found = nvidia_pickle.networks(path)
    assert {name: network.family for name, network in found.items()} == {
        "G": "stylegan2", "D": "discriminator", "G_ema": "stylegan2", "augment_pipe": "other"
    }  # fmt: skip
    expected = nvidia.stylegan2(ways["G_ema"], {}, "here")
    torch.testing.assert_close(foreign.load_generator(path).w_avg, expected.w_avg)


def test_a_generator_draws_as_the_one_that_was_written(tmp_path: Path) -> None:
    generator = tiny(clamp=256.0)
    state, told = nvidia.stylegan2_state(generator)
    found = foreign.load_generator(written(tmp_path, state, kwargs=told))
    assert found.config == generator.config
    z = torch.randn(2, 8)
    torch.testing.assert_close(
        found.synthesize(found.map(z, 0.7)), generator.synthesize(generator.map(z, 0.7)), rtol=1e-5, atol=1e-5
    )


def test_arguments_given_by_place_and_by_name_are_one(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path, state, args=(8, 0, 8), kwargs={"img_resolution": 16, "img_channels": 3})
    assert nvidia_pickle.networks(path)["G_ema"].built_with == TOLD


@pytest.mark.parametrize("clamp", [None, 256])
@pytest.mark.parametrize("told", [{}, {"synthesis_kwargs": {"channel_base": 8}}, {"channel_base": 8}])
def test_the_clamp_is_what_the_layers_keep_whatever_the_arguments_leave_out(
    state: dict[str, Tensor], tmp_path: Path, clamp: int | None, told: dict[str, object]
) -> None:
    module = nvidia_pickles.module(state, kwargs=told)
    module.synthesis.b4.conv1.conv_clamp = clamp  # type: ignore[union-attr]
    path = nvidia_pickles.written(tmp_path / "g.pkl", {"G_ema": module})
    assert foreign.load_generator(path).config.clamp == clamp


def test_buffers_that_are_not_part_of_the_state_are_left_out(state: dict[str, Tensor], tmp_path: Path) -> None:
    module = nvidia_pickles.module(state)
    module.synthesis.register_buffer("scratch", torch.zeros(3), persistent=False)  # type: ignore[union-attr]
    path = nvidia_pickles.written(tmp_path / "g.pkl", {"G_ema": module})
    assert "synthesis.scratch" not in nvidia_pickle.networks(path)["G_ema"].shapes()


def test_half_precision_becomes_single(state: dict[str, Tensor], tmp_path: Path) -> None:
    halves = {key: value.half() for key, value in state.items()}
    found = nvidia_pickle.networks(written(tmp_path, halves))["G_ema"].weights()
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert torch.equal(found["mapping.fc0.weight"], halves["mapping.fc0.weight"].float())


def test_modules_of_pytorch_itself_are_read_too(tmp_path: Path) -> None:
    module = nvidia_pickles.module({"synthesis.b4.const": torch.ones(2)})
    module.add_module("list", nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    path = nvidia_pickles.written(tmp_path / "g.pkl", {"G_ema": module})
    assert set(nvidia_pickle.networks(path)["G_ema"].shapes()) == set(module.state_dict())


def test_without_numbers_the_state_has_shapes_only(state: dict[str, Tensor], tmp_path: Path) -> None:
    outline = nvidia_pickle.read(written(tmp_path, state), numbers=False)[0]["G_ema"]
    assert {key: value.shape for key, value in outline.items()} == {key: value.shape for key, value in state.items()}
    assert all(value.is_meta for value in outline.values())


REFUSED = {
    "a discriminator alone": {"D": nvidia_pickles.module({"b4.out.weight": torch.ones(1)}, "Discriminator")},
    "an augmentation pipe": {"augment_pipe": nvidia_pickles.pipe()},
    "features": {"mean": [1.0], "num_items": 3},
    "a number": 3,
    "text": "generator",
    "nothing": {},
    "no networks": (None, None, None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_generator_is_refused_by_what_it_is(name: str, tmp_path: Path) -> None:
    path = nvidia_pickles.written(tmp_path / "file.pkl", REFUSED[name])
    with pytest.raises(CheckpointError, match=r"file\.pkl: (holds no StyleGAN2|is a pickle)") as caught:
        foreign.load_generator(path)
    assert str(caught.value).isprintable()


def test_a_discriminator_is_called_one(tmp_path: Path) -> None:
    path = nvidia_pickles.written(tmp_path / "file.pkl", REFUSED["a discriminator alone"])
    with pytest.raises(CheckpointError, match=r"D \(Discriminator\)"):
        foreign.load_generator(path)


def test_tensors_on_the_same_numbers_cannot_take_more_than_the_file_explains(tmp_path: Path) -> None:
    shared = torch.zeros(1 << 20)
    module = nvidia_pickles.module({"synthesis.b4.const": shared})
    for place in range(40):
        module.register_buffer(f"again{place}", module.synthesis.b4._buffers.get("const", shared))  # type: ignore[union-attr]
    parameter = module.synthesis.b4.const  # type: ignore[union-attr]
    for place in range(40):
        module._buffers[f"again{place}"] = parameter
    path = nvidia_pickles.written(tmp_path / "file.pkl", {"G_ema": module})
    assert path.stat().st_size < 5 << 20
    with pytest.raises(CheckpointError, match="claims more numbers"):
        nvidia_pickle.networks(path)["G_ema"].weights()


@pytest.mark.parametrize("name", ["ada_64", "ada_128_auto", "stylegan3_t_64", "stylegan3_r_64"])
def test_a_pickle_gives_the_published_figures(name: str, tmp_path: Path) -> None:
    told = json.loads((GOLDEN / f"{name}.init_kwargs.json").read_text())
    path = written(tmp_path, golden_rule.weights(name), kwargs=told)
    generator = foreign.load_generator(path)
    expected = figures(name)
    ws = generator.map(arr("z", 2, 512))
    shown = expected["w"] if expected["w"].ndim == 2 else expected["w"][:, 0]
    assert relative_error(ws, shown) < 1e-4
    assert relative_error(small(generator.synthesize(ws)), expected["image"]) < 1e-3


def test_pickles_are_distinguished_from_other_files(state: dict[str, Tensor], tmp_path: Path) -> None:
    assert pickle.is_pickle(written(tmp_path, state))
    for zipped in (True, False):
        torch.save({"g_ema": state}, tmp_path / "saved.pt", _use_new_zipfile_serialization=zipped)
        assert not pickle.is_pickle(tmp_path / "saved.pt")
    for head in (0x0280, 0x0380, 0x0480):
        (tmp_path / "a.safetensors").write_bytes(head.to_bytes(8, "little") + b"{}".ljust(head))
        assert not pickle.is_pickle(tmp_path / "a.safetensors")
    assert not pickle.is_pickle(tmp_path / "missing.pkl")


def test_a_pickle_is_loaded_as_a_generator_and_not_as_a_model(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = written(tmp_path, state)
    assert isinstance(foreign.load_generator(path), StyleGAN2)
    assert isinstance(foreign.load_any(path), StyleGAN2)
    with pytest.raises(CheckpointError, match="is a StyleGAN2-ADA generator, not a model"):
        foreign.load_model(path)


@pytest.mark.parametrize("array", [False, True])
def test_a_pickle_of_tensors_or_arrays_alone_is_read_too(state: dict[str, Tensor], tmp_path: Path, array: bool) -> None:
    content = {key: value.numpy() if array else value for key, value in state.items()}
    path = nvidia_pickles.written(tmp_path / "state.pkl", {"g_ema": content})
    torch.testing.assert_close(foreign.load_generator(path).state_dict(), tiny().state_dict())


def test_tensors_beside_networks_do_not_hide_them(state: dict[str, Tensor], tmp_path: Path) -> None:
    content = {"G_ema": nvidia_pickles.module(state), "cur_nimg": torch.tensor(3), "stats": {"mean": torch.ones(2)}}
    path = nvidia_pickles.written(tmp_path / "file.pkl", content)
    assert nvidia_pickle.read(path)[0].keys() == {"G_ema", "init_kwargs"}


def test_a_generator_of_classes_is_read_as_cifar10s_is_built(tmp_path: Path) -> None:
    generator = StyleGAN2(GeneratorConfig(size=32, width=8, mapping_layers=2, channels=(8, 8, 8, 4), classes=10))
    state, told = nvidia.stylegan2_state(generator)
    found = foreign.load_generator(written(tmp_path, state, kwargs=told))
    assert found.config == generator.config
    z, labels = torch.randn(2, 8), torch.eye(10)[[3, 7]]
    torch.testing.assert_close(found.map(z, labels=labels), generator.map(z, labels=labels))


def test_arguments_that_numpy_counted_are_numbers(state: dict[str, Tensor], tmp_path: Path) -> None:
    told = {"conv_clamp": np.float32(256), "channel_base": np.int64(64), "odd": np.arange(3)}
    path = written(tmp_path, state, kwargs=told)
    assert nvidia_pickle.networks(path)["G_ema"].built_with == {"conv_clamp": 256.0, "channel_base": 64, "odd": None}
    assert foreign.load_generator(path).config.clamp == 256


def test_a_stylegan2_of_stylegan3s_code_clamps_as_its_layers_do(tmp_path: Path) -> None:
    generator = tiny(clamp=256.0)
    state, told = nvidia.stylegan2_state(generator)
    flat = {**{key: value for key, value in told.items() if key != "synthesis_kwargs"}, **told["synthesis_kwargs"]}
    del flat["conv_clamp"]
    flat |= {"fused_modconv_default": "inference_only"}
    module = nvidia_pickles.module(state, kwargs=flat)
    module.synthesis.b4.conv1.conv_clamp = 256  # type: ignore[union-attr]
    path = nvidia_pickles.written(tmp_path / "g.pkl", {"G_ema": module})
    found = foreign.load_generator(path)
    assert found.config == generator.config
    z = torch.randn(2, 8)
    torch.testing.assert_close(found.synthesize(found.map(z)), generator.synthesize(generator.map(z)))
