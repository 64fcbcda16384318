"""Training with files of every family: generators, models and trunks to start from."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

import pixel2style as p2s
from pixel2style import images
from pixel2style.checkpoints import foreign
from pixel2style.config import AliasFreeConfig, EncoderShape, GeneratorConfig, LossConfig, TrainConfig
from pixel2style.errors import ConfigError
from pixel2style.generators.stylegan2 import nvidia
from pixel2style.generators.stylegan3 import nvidia as nvidia3
from pixel2style.generators.stylegan3.network import StyleGAN3
from pixel2style.inference.optimize import adam
from pixel2style.metrics.losses import Objective
from pixel2style.models.backbones.ir_se import ArcFace
from pixel2style.ops import pooled
from pixel2style.training import loop
from tests.support import nvidia_pickles, tensorflow_pickles
from tests.support.narrow import narrow_trunks
from tests.support.official_layout import generator_state, psp_state, random_generator, random_psp
from tests.support.small_run import small_config

pytestmark = pytest.mark.usefixtures("one_thread")

ONLY_PIXELS = LossConfig(lpips=0, identity=0)


def rosinality(path: Path) -> None:
    torch.save({"g_ema": generator_state(random_generator(size=8, channels=(6, 5)))}, path)


def ada(path: Path) -> None:
    state, told = nvidia.stylegan2_state(random_generator(size=8, channels=(8, 8), clamp=256.0, noise_width=5))
    nvidia_pickles.written(path, {"G_ema": nvidia_pickles.module(state, kwargs=told)})


def conditional_ada(path: Path) -> None:
    state, told = nvidia.stylegan2_state(random_generator(size=8, channels=(8, 8), classes=3))
    nvidia_pickles.written(path, {"G_ema": nvidia_pickles.module(state, kwargs=told)})


def tensorflow(path: Path) -> None:
    tensorflow_pickles.written(path.parent, tensorflow_pickles.variables()).rename(path)


def alias_free(kernel: int, path: Path) -> None:
    given = AliasFreeConfig(layers=4, kernel=kernel, radial=kernel == 1)  # type: ignore[arg-type]
    torch.manual_seed(0)
    made = StyleGAN3(GeneratorConfig("stylegan3", 16, 8, 2, channels=(8,) * 5, clamp=256.0, alias_free=given))
    state, told = nvidia3.stylegan3_state(made)
    nvidia_pickles.written(path, {"G_ema": nvidia_pickles.module(state, kwargs=told)})


GENERATORS: dict[str, Callable[[Path], None]] = {
    "rosinality": rosinality,
    "stylegan2-ada": ada,
    "stylegan2-ada with labels": conditional_ada,
    "stylegan2 of tensorflow": tensorflow,
    "stylegan3-t": lambda path: alias_free(3, path),
    "stylegan3-r": lambda path: alias_free(1, path),
}


def with_slow(families: Iterable[str], *slow: str) -> list[Any]:
    """Those of ``slow`` take the way of another one: their files are read in tests of their own."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in families]


def trained(folder: Path, **changes: Any) -> tuple[p2s.PSP, TrainConfig]:
    """A run of two steps that looks at pixels only."""
    config = small_config(folder, **{"steps": 2, "save_every": 2, "loss": ONLY_PIXELS, **changes})
    return loop.fit(config).model, config


@pytest.mark.parametrize("family", with_slow(GENERATORS, "stylegan2-ada with labels", "stylegan3-r"))
def test_training_goes_into_a_generator_of_any_family(family: str, tmp_path: Path) -> None:
    file = tmp_path / "generator.file"
    GENERATORS[family](file)
    before = p2s.load_generator(file)
    model, config = trained(tmp_path / "run", generator=str(file))
    assert model.generator.config == before.config
    assert (model.encoder.config.rows, model.encoder.config.width) == (before.rows, before.width)
    after = model.generator.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.state_dict().items())
    saved = p2s.load(Path(config.out) / "model.safetensors")
    photograph = torch.zeros(1, 3, 32, 32)
    assert saved.decode(saved.encode(photograph)).shape == (1, 3, before.size, before.size)


MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "psp": ("pyramid", {}, {}),
    "psp, one w": ("single_w", {}, {}),
    "psp, last layer": ("last_layer", {}, {}),
    "e4e": ("e4e", {}, {"encoder_type": "Encoder4Editing", "stylegan_size": 16}),
    "restyle": ("top", {"feedback": True, "input_channels": 6}, {"n_iters_per_batch": 3}),
    "restyle, resnet": ("top", {"feedback": True, "input_channels": 6, "trunk": "resnet34"}, {"n_iters_per_batch": 3}),
}


@pytest.mark.parametrize("family", with_slow(MODELS, "psp, one w", "psp, last layer", "restyle, resnet"))
def test_training_starts_from_a_model_of_any_family(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow_trunks(monkeypatch)
    kind, sizes, told = MODELS[family]
    original = random_psp(kind, random_generator(channels=(16, 16, 16)), **sizes)
    file = tmp_path / "model.pt"
    torch.save({"state_dict": psp_state(original), "latent_avg": original.w_avg[0], "opts": told}, file)
    looks = {"feedback": bool(sizes.get("feedback")), "iterations": 2 if "feedback" in sizes else 1}
    model, _ = trained(
        tmp_path / "run", start_from=str(file), generator=None, encoder=EncoderShape(), steps=1, save_every=1,
        lr=1e-6, warmup=0, optimizer="adam", ema=0.0, batch=2, generated=0, **looks,
    )  # fmt: skip
    assert dataclasses.replace(model.config.encoder, input_channels=3) == dataclasses.replace(
        original.config.encoder, input_channels=3
    )
    learned = dict(model.encoder.named_parameters())
    moved = {name: (value - learned[name]).abs().max() for name, value in original.encoder.named_parameters()}
    read = {name: distance for name, distance in moved.items() if not name.startswith("pyramid.fine")}  # no fine rows
    assert {name: distance for name, distance in read.items() if not 0 < distance < 3e-6} == {}  # one step of Adam


def write_arcface(path: Path) -> dict[str, Tensor]:
    torch.manual_seed(3)
    torch.save(state := ArcFace().state_dict(), path)
    return {f"trunk.{name}": value for name, value in state.items() if not name.startswith("output_layer.")}


def write_resnet(path: Path) -> dict[str, Tensor]:
    torch.manual_seed(3)
    torch.save(torchvision.models.resnet34().state_dict(), path)
    return {f"trunk.{name}": value for name, value in foreign.load_resnet(path).state_dict().items()}


@pytest.mark.parametrize(
    ("trunk", "write"), [("ir_se50", write_arcface), pytest.param("resnet34", write_resnet, marks=pytest.mark.slow)]
)
def test_training_starts_from_a_pretrained_trunk(
    trunk: Any, write: Callable[[Path], dict[str, Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trunk == "ir_se50":  # torchvision's ResNet-34 has one width
        narrow_trunks(monkeypatch)
    file = tmp_path / "trunk.pth"
    known = write(file)
    shape = EncoderShape(trunk=trunk, input_size=64, pyramid_width=32)
    model, _ = trained(
        tmp_path / "run", trunk_weights=str(file), encoder=shape, steps=1, lr=1e-6, warmup=0, optimizer="adam", ema=0.0
    )
    learned = dict(model.encoder.named_parameters())
    weights = {name: value for name, value in known.items() if name in learned}
    assert len(weights) > 100
    for name, value in weights.items():  # of the first layer's channels, the first three are the picture
        found = learned[name][:, :3] if value.ndim == 4 and value.shape[1] == 3 else learned[name]
        torch.testing.assert_close(found.data, value, rtol=0, atol=3e-6)


@pytest.mark.slow
def test_a_run_uses_the_similarity_of_mocos_file(tmp_path: Path) -> None:
    file = tmp_path / "moco.pth"
    torch.manual_seed(3)
    state = {f"module.encoder_q.{key}": v for key, v in torchvision.models.resnet50().state_dict().items()}
    torch.save({"arch": "resnet50", "state_dict": state}, file)
    loss = LossConfig(lpips=0, identity=0, similarity=0.5, similarity_network=str(file))
    _, config = trained(tmp_path / "run", loss=loss, steps=1)
    log = (Path(config.out) / "log.jsonl").read_text()
    assert "train/similarity" in log


def drawing_cars(folder: Path, feedback: bool) -> tuple[p2s.PSP, str]:
    """A model that draws the average whatever it sees, and a folder of what of that picture is 4 wide and 3 high."""
    shape = {"input_height": 48, "trunk": "mobilefacenet", "input_channels": 6 if feedback else 3}
    model = random_psp("top", random_generator(size=64, channels=(16,) * 5), feedback, **shape)
    for head in model.encoder.heads:
        torch.nn.init.zeros_(head.linear.weight)
        torch.nn.init.zeros_(head.linear.bias)
    with torch.no_grad():
        loudest = model.decode(model.w_avg[None]).abs().max()
        for name, weight in model.generator.named_parameters():
            weight.mul_(0.9 / loudest if "to_rgb" in name else 1)  # no colour that a file would clip
    data = folder / "cars"
    data.mkdir()
    with torch.no_grad():
        images.to_picture(model.framed(model.decode(model.w_avg[None]))[0]).save(data / "average.png")
    return model, str(data)


@pytest.mark.parametrize(("feedback", "generated"), [(False, 0), (True, 2)])
def test_training_of_wide_images_compares_the_middle_of_generated_ones(
    feedback: bool, generated: int, tmp_path: Path
) -> None:
    original, data = drawing_cars(tmp_path, feedback)
    p2s.save(original, tmp_path / "cars.safetensors")
    model, config = trained(
        tmp_path / "run", start_from=str(tmp_path / "cars.safetensors"), generator=None, encoder=EncoderShape(),
        task="domain", data=(data,), validation=(data,), feedback=feedback, iterations=1 + feedback,
        one_iteration_until=0, mirror=False, augment=False, steps=1, judge_every=1, generated=generated, batch=2,
        lr=0.0, warmup=0,
    )  # fmt: skip
    log = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
    losses = {key: value for line in log for key, value in line.items() if key in ("train/l2", "validation/l2")}
    with torch.no_grad():
        average = original.decode(original.w_avg[None])
        squeezed = (pooled(average) - pooled(original.framed(average))).square().mean()
    assert losses["validation/l2"] < 0.1 * squeezed
    assert generated or losses["train/l2"] < 0.1 * squeezed
    assert model.encoder.config.input_shape == (48, 64)


def test_an_encoder_of_wide_images_is_refused_for_faces(tmp_path: Path) -> None:
    shape = EncoderShape(trunk="mobilefacenet", input_size=64, input_height=48)
    with pytest.raises(ConfigError, match="aligned faces, which are square, and this encoder reads 64 x 48 pixels"):
        trained(tmp_path / "run", encoder=shape)


@torch.no_grad()
def test_rows_are_refined_towards_wide_pictures_by_the_middle_of_what_they_draw(tmp_path: Path) -> None:
    model, _ = drawing_cars(tmp_path, False)
    cars = model.framed(model.decode(model.w_avg[None]))
    losses: list[float] = []
    adam.optimize(model, cars, steps=1, objective=Objective(ONLY_PIXELS), callback=lambda _, loss: losses.append(loss))
    drawn = model.decode(model.w_avg[None])
    assert losses[0] < 0.1 * (pooled(drawn) - pooled(cars)).square().mean()
