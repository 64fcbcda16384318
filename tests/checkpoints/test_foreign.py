"""Files of other projects are recognised and read completely, and nothing in them is executed."""

import argparse
import io
import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import pixel2style as p2s
from pixel2style import cli
from pixel2style.checkpoints import detect, foreign, inspect
from pixel2style.config import GeneratorConfig
from pixel2style.errors import CheckpointError, UnsafeFileError
from pixel2style.formats.state_dicts import below as weights_below
from pixel2style.generators.sampling import average_w
from pixel2style.generators.stylegan2 import rosinality
from pixel2style.models.backbones.ir_se import ArcFace, CurricularFace
from pixel2style.models.psp import PSP
from tests.support import official_layout
from tests.support.golden_rule import GOLDEN, arr, img, relative_error, weights
from tests.support.narrow import PUBLISHED, narrow_trunks
from tests.support.official_layout import ROWS, SIDE, WIDTH, generator_state, psp_state, random_generator, random_psp


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Trunks of other widths than the published ones, so that less is written and read."""
    with pytest.MonkeyPatch.context() as patch:
        narrow_trunks(patch)
        yield


@pytest.fixture(scope="module")
def model() -> PSP:
    return random_psp()


@pytest.fixture(scope="module")
def official(model: PSP) -> dict[str, Tensor]:
    return psp_state(model)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(content: Any, **options: Any) -> Path:
        file = tmp_path / "file.pt"
        torch.save(content, file, **options)
        return file

    return write


@pytest.fixture
def load_state(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], PSP]:
    """``load_model`` where it does not matter how the file was stored: hundreds of megabytes need not be written."""

    def load(content: Any) -> PSP:
        monkeypatch.setattr(foreign, "_read", lambda path, numbers: (content, {}))
        return foreign.load_model("file.pt")

    return load


AVERAGE = arr("latent_avg", WIDTH, scale=0.3)


def same(a: nn.Module, b: nn.Module, but: str = "") -> bool:
    """Whether two networks hold the same numbers under the same names, ``but`` one."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours if key != but)


# What a file is


@pytest.mark.parametrize(
    ("manifest", "kind"),
    [
        ("psp_256", "psp"),
        ("psp_w_256", "psp"),
        ("psp_wplus_256", "psp"),
        ("generator_64_cm2", "stylegan2"),
        ("arcface_ir_se50", "arcface"),
        ("curricularface_ir101", "curricularface"),
        ("moco_resnet50", "moco"),
        ("restyle_psp_256", "restyle"),
        ("restyle_resnet_256", "restyle"),
        ("ada_64", "nvidia2"),
        ("stylegan3_r_64", "nvidia3"),
    ],
)
def test_a_published_file_is_recognised_by_its_keys(manifest, kind):
    keys = dict.fromkeys(json.loads((GOLDEN / f"{manifest}.manifest.json").read_text()))
    assert detect.find(keys).kind == kind
    for wrapped in ({"state_dict": keys, "opts": {}}, {f"module.{key}": None for key in keys}, {"G_ema": keys}):
        assert detect.find(wrapped).kind == kind


@pytest.mark.parametrize("parts", [("encoder",), ("decoder",), ("encoder", "decoder")])
def test_a_model_whose_parts_are_wrapped_by_dataparallel_is_a_model(parts, official, load_state):
    wrapped = {key: value for key, value in official.items() if key.partition(".")[0] not in parts}
    for part in parts:
        wrapped |= {f"{part}.module.{key}": value for key, value in weights_below(official, f"{part}.").items()}
    for content in ({"state_dict": wrapped, "latent_avg": AVERAGE}, {**wrapped, "latent_avg": AVERAGE}):
        assert detect.find(content).kind == "psp"
        assert same(load_state(content), load_state({"state_dict": official, "latent_avg": AVERAGE}))


@pytest.fixture
def encoder_alone(official, tmp_path) -> Path:
    alone = {key: value for key, value in official.items() if key.startswith("encoder.")}
    torch.save({"state_dict": alone, "latent_avg": AVERAGE, "opts": {"output_size": SIDE}}, tmp_path / "encoder.pt")
    return tmp_path / "encoder.pt"


def test_an_encoder_without_its_generator_is_called_that(encoder_alone):
    for call in (p2s.load, p2s.load_generator, inspect.examine):
        with pytest.raises(CheckpointError, match="without its generator"):
            call(encoder_alone)


def test_an_encoder_is_completed_by_the_generator_that_is_given(encoder_alone, model, official, tmp_path):
    p2s.save(model.generator, tmp_path / "generator.safetensors")
    loaded = p2s.load(encoder_alone, generator=tmp_path / "generator.safetensors")
    assert same(loaded.encoder, model.encoder) and same(loaded.generator, model.generator)
    assert torch.equal(loaded.w_avg, AVERAGE.expand(ROWS, WIDTH))
    session = p2s.Session(encoder_alone, "cpu", generator=tmp_path / "generator.safetensors")
    assert same(session.model, loaded)
    command = ["convert", encoder_alone, tmp_path / "whole.safetensors"]
    assert cli.main([*map(str, command), "--generator", str(tmp_path / "generator.safetensors")]) == 0
    assert same(p2s.load(tmp_path / "whole.safetensors"), loaded)


def test_an_encoder_of_other_rows_than_the_generator_given_is_refused(encoder_alone, tmp_path):
    p2s.save(random_generator(size=8, channels=(4, 4)), tmp_path / "small.safetensors")
    with pytest.raises(CheckpointError, match="do not belong together"):
        p2s.load(encoder_alone, generator=tmp_path / "small.safetensors")


@pytest.mark.parametrize(
    "beside",
    [
        {"opts": argparse.Namespace(encoder_type="Encoder4Editing")},
        {"opts": {"encoder_type": "Encoder4Editing", "stylegan_size": 512}},
        {"opts": {"progressive_steps": [0, 20000]}},
        {"discriminator_state_dict": {}},
    ],
    ids=["options", "dictionary", "training", "discriminator"],
)
def test_e4e_is_recognised_by_options_or_entries_beside_the_same_keys(beside, official, load_state):
    assert detect.find({"state_dict": official, **beside}).kind == "e4e"
    loaded = load_state({"state_dict": official, **beside, "latent_avg": AVERAGE})
    assert loaded.config.encoder.kind == "e4e"
    plain = load_state({"state_dict": official, "latent_avg": AVERAGE})
    assert plain.config.encoder.kind == "pyramid"
    pictures = img("pictures", 1, 3, 64, 64)
    with torch.no_grad():
        codes = plain.encoder(pictures)
        expected = torch.cat([codes[:, :1], codes[:, :1] + codes[:, 1:]], 1)
        assert torch.equal(loaded.encoder(pictures), expected)


def test_an_encoder_of_another_name_is_not_e4e_whatever_the_options(official):
    options = {"encoder_type": "GradualStyleEncoder", "progressive_steps": None}
    assert detect.find({"state_dict": official, "opts": options}).kind == "psp"


@pytest.mark.parametrize("wrap", ["model", "model.inner", "inside"])
def test_entries_beside_a_wrapped_model_count_as_beside_a_bare_one(wrap, official, load_state):
    inner: dict[str, Any] = {
        "opts": {"encoder_type": "Encoder4Editing"},
        "latent_avg": AVERAGE,
        "decoder_avg": -AVERAGE,
    }
    inner |= official if wrap == "inside" else {"state_dict": official}
    for name in reversed(wrap.split(".")):
        inner = {name: inner, "epoch": 3}
    loaded = load_state(inner)
    assert loaded.config.encoder.kind == "e4e"
    assert torch.equal(loaded.w_avg, AVERAGE.expand(ROWS, WIDTH))
    assert torch.equal(loaded.generator.w_avg, -AVERAGE)
    told = {"z_dim": 24, "synthesis_kwargs": {"num_fp16_res": 4, "conv_clamp": 256}}
    layout = dict.fromkeys(json.loads((GOLDEN / "ada_64.manifest.json").read_text()))
    assert detect.find({"a": {"G_ema": layout, "init_kwargs": told}}).built_with == told


def test_encoder_and_decoder_may_be_dictionaries_of_their_own(official, load_state):
    parts = {name: weights_below(official, f"{name}.") for name in ("encoder", "decoder")}
    for content in (
        {**parts, "latent_avg": AVERAGE, "optimizer": {"state": {}}},
        {"model": {**parts, "latent_avg": AVERAGE}},
    ):
        assert same(load_state(content), load_state({"state_dict": official, "latent_avg": AVERAGE}))


def test_a_model_whose_decoder_has_no_noise_gets_that_of_a_generator_without(official, load_state, write):
    quiet = {key: value for key, value in official.items() if ".noises." not in key}
    loaded = load_state({"state_dict": quiet, "latent_avg": AVERAGE})
    alone = rosinality.generator(rosinality.plain(weights_below(quiet, "decoder.")), AVERAGE[None], "file.pt")
    assert same(loaded.generator, alone)
    assert abs(alone.noises.noise_4.std() - 1) < 0.2


@pytest.mark.parametrize("dots", [True, False])
def test_names_of_a_hundred_thousand_letters_take_no_time(dots):
    before = ("a." if dots else "aa") * 60_000
    start = time.process_time()
    for content in (
        {f"{before}.to_rgb1.conv.weight": torch.zeros(1), f"{before}.conv1.conv.weight": torch.zeros(1)},
        {before: {f"{index}": {"to_rgb1.conv.weight": None} for index in range(1000)}},
    ):
        with pytest.raises(CheckpointError, match="holds no network known here"):
            detect.find(content)
    assert time.process_time() - start < 0.5


def test_a_restyle_encoder_is_not_recognised_as_psp(official):
    without = {key: value for key, value in official.items() if "latlayer" not in key}
    assert detect.find({"state_dict": without}).kind == "restyle"


def test_what_is_nothing_known_is_refused_with_its_first_keys(write):
    with pytest.raises(CheckpointError, match=r"file\.pt: holds no network known here .*first keys: epoch, model"):
        foreign.load_generator(write({"epoch": 3, "model": {}}))


@pytest.mark.parametrize(
    ("load", "error"),
    [
        (foreign.load_model, "is a StyleGAN2 generator, not a model of pSp, e4e or ReStyle"),
        (foreign.load_arcface, "is a StyleGAN2 generator, not an ArcFace network"),
        (foreign.load_curricularface, "is a StyleGAN2 generator, not a CurricularFace network"),
        (foreign.load_moco, "is a StyleGAN2 generator, not a ResNet-50, as MoCo's"),
    ],
)
def test_one_network_is_not_loaded_as_another(load, error, write):
    file = write({"g_ema": generator_state(random_generator())})
    with pytest.raises(CheckpointError, match=error):
        load(file)


# Generators


@pytest.mark.parametrize(
    ("size", "multiplier", "mapping"), [(8, 2, 1), (16, 1, 8), (64, 1, 2), (64, 4, 3), (128, 2, 2)]
)
def test_a_generators_sizes_are_read_off_its_tensors(size, multiplier, mapping, write):
    original = random_generator(size=size, channel_multiplier=multiplier, mapping_layers=mapping)
    file = write({"g_ema": generator_state(original), "latent_avg": AVERAGE})
    loaded = foreign.load_generator(file)
    shown = multiplier if size > 32 else GeneratorConfig.channel_multiplier  # smaller ones have 512 channels either way
    assert loaded.config == GeneratorConfig(size=size, width=WIDTH, mapping_layers=mapping, channel_multiplier=shown)
    assert same(loaded, original, but="w_avg")


@pytest.mark.parametrize("wrap", ["g_ema", "bare", "training"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_generator_is_found_however_it_was_saved(wrap, zipped, write):
    state = generator_state(random_generator())
    content = {
        "g_ema": {"g_ema": state, "latent_avg": AVERAGE[None]},
        "bare": {**state, "latent_avg": AVERAGE},
        "training": {"g": {}, "d": {}, "g_ema": state, "args": argparse.Namespace(size=1024), "latent_avg": AVERAGE},
    }[wrap]
    loaded = foreign.load_generator(write(content, _use_new_zipfile_serialization=zipped))
    assert torch.equal(loaded.w_avg, AVERAGE)
    assert loaded.size == SIDE


@pytest.mark.parametrize("prefix", ["g_ema.", "g.", "generator.", "params_ema.", "module.", "module.g_ema.", "net.G."])
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "flat"])
def test_a_generator_is_found_under_any_prefix(prefix, nested, write):
    state, content = generator_state(random_generator(size=8)), {"latent_avg": AVERAGE}
    if nested:
        inner = state
        for name in reversed(prefix.rstrip(".").split(".")):
            inner = {name: inner}
        content |= inner
    else:
        content |= {f"{prefix}{key}": value for key, value in state.items()}
    loaded = foreign.load_generator(write(content))
    assert same(loaded, random_generator(size=8), but="w_avg")
    assert torch.equal(loaded.w_avg, AVERAGE)


@pytest.mark.parametrize("averaged", ["g_ema", "params_ema", "generator_ema", "G_ema"])
def test_of_several_generators_the_averaged_one_is_read(averaged, write):
    learning, kept = generator_state(random_generator(size=8)), generator_state(random_generator(size=8))
    kept["input.input"] = kept["input.input"] + 1
    loaded = foreign.load_generator(write({"g": learning, "d": {}, averaged: kept, "latent_avg": AVERAGE}))
    assert torch.equal(loaded.input.input, kept["input.input"])


def test_dictionaries_that_hold_each_other_are_walked_once():
    inner = {"a": {}, "b": {}}
    for _ in range(30):  # a thousand million entries, walked naively
        inner = dict.fromkeys("abc", inner)
    inner["self"] = inner
    with pytest.raises(CheckpointError, match="holds no network known here"):
        detect.find(inner)


def test_a_toon_generator_is_a_generator_and_a_toonify_checkpoint_is_psp(official, write, load_state):
    """The released files: a rosinality generator blended from two, and pSp trained into it."""
    toon = foreign.load_generator(write({"g_ema": generator_state(random_generator()), "latent_avg": AVERAGE}))
    assert same(toon, random_generator(), but="w_avg")
    options = {"dataset_type": "toonify", "encoder_type": "GradualStyleEncoder", "start_from_latent_avg": True}
    loaded = load_state({"state_dict": official, "opts": options, "latent_avg": AVERAGE.expand(ROWS, WIDTH)})
    assert (loaded.config.task, loaded.config.encoder.kind) == ("toonify", "pyramid")


def test_a_generator_without_an_average_gets_that_of_100000_samples(write):
    loaded = foreign.load_generator(write({"g_ema": generator_state(random_generator())}))
    assert torch.equal(loaded.w_avg, average_w(loaded, samples=100_000))
    assert loaded.w_avg.norm() > 0


def test_the_decoder_of_a_psp_checkpoint_is_a_generator(model, official, write):
    loaded = foreign.load_generator(write({"state_dict": official, "latent_avg": AVERAGE.expand(ROWS, WIDTH)}))
    ws = arr("ws", 1, ROWS, WIDTH)
    assert torch.equal(loaded.synthesize(ws), model.generator.synthesize(ws))
    assert torch.equal(loaded.w_avg, AVERAGE)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_generator_in_numpys_arrays_beside_numpys_numbers_is_read(zipped, write):
    state = {key: value.numpy() for key, value in generator_state(random_generator()).items()}
    options = argparse.Namespace(lr=np.float64(1e-3), out=Path("/runs/1"), steps=np.int64(3))
    content = {"g_ema": state, "latent_avg": AVERAGE.numpy(), "args": options, "ada_aug_p": np.float64(0.1)}
    loaded = foreign.load_generator(write(content, _use_new_zipfile_serialization=zipped))
    assert same(loaded, random_generator(), but="w_avg")
    assert torch.equal(loaded.w_avg, AVERAGE)


def test_half_precision_weights_become_float32(write):
    state = {key: value.half() for key, value in generator_state(random_generator()).items()}
    loaded = foreign.load_generator(write({"g_ema": state, "latent_avg": AVERAGE.half()}))
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


def test_a_loaded_generator_is_frozen(write):
    loaded = foreign.load_generator(write({"g_ema": generator_state(random_generator()), "latent_avg": AVERAGE}))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_large_generator_is_never_read_as_a_smaller_one(write):
    state = generator_state(random_generator(size=64))
    assert foreign.load_generator(write({"g_ema": state, "latent_avg": AVERAGE})).size == 64
    # Even where the layers of the last doubling are gone, what is left of it shows.
    stripped = {key: value for key, value in state.items() if not key.startswith(("convs.6", "convs.7", "to_rgbs.3"))}
    with pytest.raises(CheckpointError, match=r"2 not part of it \(noises.noise_7, noises.noise_8\)"):
        foreign.load_generator(write({"g_ema": stripped, "latent_avg": AVERAGE}))


# Models


@pytest.mark.parametrize(("kind", "channels"), [("pyramid", 3), ("pyramid", 19), ("single_w", 1), ("last_layer", 3)])
def test_every_encoder_is_read_off_its_tensors_whatever_the_options_say(kind, channels, write):
    original = random_psp(kind, input_channels=channels)
    options = argparse.Namespace(output_size=1024, input_nc=5, encoder_type="GradualStyleEncoder", learn_in_w=False)
    file = write({"state_dict": psp_state(original), "opts": options, "latent_avg": AVERAGE})
    loaded = foreign.load_model(file)
    assert loaded.config == original.config
    assert same(loaded, original, but="generator.w_avg")


def test_a_bare_state_dict_of_psp_is_read_too(official, model, load_state):
    loaded = load_state(official)
    assert torch.equal(loaded.encoder.heads[0].linear.weight, model.encoder.heads[0].linear.weight)


@pytest.mark.parametrize("shape", [(WIDTH,), (1, WIDTH), (ROWS, WIDTH)])
def test_the_average_may_have_one_row_or_all(shape, official, load_state):
    loaded = load_state({"state_dict": official, "latent_avg": AVERAGE.expand(shape)})
    assert torch.equal(loaded.w_avg, AVERAGE.expand(ROWS, WIDTH))
    assert torch.equal(loaded.generator.w_avg, AVERAGE)
    assert loaded.config.add_average


def test_an_average_that_differs_by_row_is_kept_by_row(official, load_state):
    rows = arr("rows", ROWS, WIDTH)
    loaded = load_state({"state_dict": official, "latent_avg": rows})
    assert torch.equal(loaded.w_avg, rows)
    assert torch.equal(loaded.generator.w_avg, average_w(loaded.generator))


@pytest.mark.parametrize("told", [False, None, torch.zeros(3), "no"])
def test_without_an_average_none_is_added(official, load_state, told):
    loaded = load_state({"state_dict": official, "opts": {"start_from_latent_avg": told}})
    pictures = img("pictures", 1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.encode(pictures), loaded.encoder(pictures))


def test_an_average_that_training_used_but_did_not_save_is_computed(official, load_state):
    loaded = load_state({"state_dict": official, "opts": {"start_from_latent_avg": True}})
    pictures = img("pictures", 1, 3, 64, 64)
    with torch.no_grad():
        expected = loaded.encoder(pictures) + average_w(loaded.generator)
        assert relative_error(loaded.encode(pictures), expected) < 1e-6


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("pyramid", {"output_size": 1024}),
        ("e4e", {"encoder_type": "Encoder4Editing", "stylegan_size": 1024}),
        ("top", {"n_iters_per_batch": 4, "encoder_type": "BackboneEncoder"}),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_models_are_read_from_safetensors_of_the_same_names(kind, options, name, tmp_path):
    feedback = kind == "top"
    original = random_psp(kind, feedback=feedback, **({"input_channels": 6} if feedback else {}))
    state = {key: value.clone() for key, value in psp_state(original).items()}
    file = tmp_path / name
    save_file({**state, "latent_avg": AVERAGE}, file, {"format": "pt", "opts": json.dumps(options), "note": "{[("})
    loaded = p2s.load(file)
    iterations = 4 if feedback else 1
    assert loaded.config == replace(original.config, iterations=iterations)
    assert same(loaded, original, but="generator.w_avg")
    assert torch.equal(p2s.load_generator(file).w_avg, AVERAGE)


def test_pretrained_networks_and_generators_are_read_from_safetensors_too(resnet, tmp_path):
    generator, judge = tmp_path / "generator.safetensors", tmp_path / "moco.safetensors"
    save_file({f"g_ema.{key}": value for key, value in generator_state(random_generator(size=8)).items()}, generator)
    save_file({f"module.{key}": value for key, value in resnet.items()}, judge)
    assert same(p2s.load_generator(generator), random_generator(size=8), but="w_avg")
    assert torch.equal(foreign.load_moco(judge).trunk.conv1.weight, resnet["conv1.weight"])
    with pytest.raises(CheckpointError, match="is a StyleGAN2 generator, not a model of pSp, e4e or ReStyle"):
        p2s.load(generator)


@pytest.mark.parametrize("told", [None, 3])
def test_a_restyle_model_has_the_iterations_of_its_file_or_five(told, load_state):
    original = random_psp("top", feedback=True, input_channels=6)
    options = {} if told is None else {"n_iters_per_batch": told}
    loaded = load_state({"state_dict": psp_state(original), "opts": options, "latent_avg": AVERAGE})
    assert loaded.corrects_itself
    assert loaded.config.iterations == told or (told is None and loaded.config.iterations == 5)
    assert loaded.config.add_average


@pytest.mark.parametrize("network", [ArcFace, CurricularFace])
def test_identity_networks_are_read_in_eval_mode(network, write):
    original = network().eval()
    load = foreign.load_arcface if network is ArcFace else foreign.load_curricularface
    loaded = load(write(original.state_dict()))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert same(loaded, original)


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    return weights("moco_resnet50")


@pytest.mark.parametrize("prefix", ["", "module.", "module.encoder_q."])
def test_mocos_network_is_found_among_what_its_training_keeps(prefix, resnet, monkeypatch):
    state = {f"{prefix}{key}": value for key, value in resnet.items()}
    if prefix == "module.encoder_q.":
        head = {f"{prefix}fc.0.weight": torch.zeros(4, 4), f"{prefix}fc.2.bias": torch.zeros(4)}
        others = {key.replace("_q", "_k"): torch.zeros_like(value) for key, value in state.items()}
        state = {key: value for key, value in state.items() if ".fc." not in key}
        state = {"module.queue": torch.zeros(8, 4), "module.queue_ptr": torch.zeros(1), **others, **state, **head}
    monkeypatch.setattr(
        foreign, "_read", lambda path, numbers: ({"arch": "resnet50", "epoch": 800, "state_dict": state}, {})
    )
    loaded = foreign.load_moco("moco.pth.tar")
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert all(torch.equal(value, resnet[key.removeprefix("trunk.")]) for key, value in loaded.state_dict().items())


def test_a_deeper_resnet_is_not_recognised_as_moco(resnet, monkeypatch):
    deeper = {key.replace("layer3.5", "layer3.22"): value for key, value in resnet.items() if "layer3.5" in key}
    monkeypatch.setattr(foreign, "_read", lambda path, numbers: ({"state_dict": {**resnet, **deeper}}, {}))
    with pytest.raises(CheckpointError, match=r"does not fit MoCo: .* not part of it \(trunk\.layer3\.22\."):
        foreign.load_moco("moco.pth.tar")


def test_mocos_file_is_not_a_generator(resnet, monkeypatch):
    monkeypatch.setattr(foreign, "_read", lambda path, numbers: (resnet, {}))
    with pytest.raises(CheckpointError, match="is a ResNet-50, as MoCo's, not a generator"):
        foreign.load_generator("moco.pth.tar")


# Files that do not fit


def test_wrong_and_missing_keys_are_listed_in_one_error(official, load_state):
    state = dict(official)
    del state["encoder.body.3.res_layer.1.weight"], state["decoder.noises.noise_0"]
    state["encoder.extra"] = torch.zeros(1)
    state["decoder.input.input"] = torch.zeros(1, 8, 4, 4)
    with pytest.raises(CheckpointError) as caught:
        load_state({"state_dict": state, "latent_avg": AVERAGE})
    said = str(caught.value)
    assert "2 missing (encoder.body.3.res_layer.1.weight, decoder.noises.noise_0)" in said or (
        "2 missing (decoder.noises.noise_0, encoder.body.3.res_layer.1.weight)" in said
    )
    assert "1 not part of it (encoder.extra)" in said
    assert "1 of another kind (decoder.input.input [1, 8, 4, 4] for [1, 512, 4, 4])" in said
    assert "\n" not in said


def test_a_list_of_wrong_keys_stays_readable(official, load_state):
    state = {key: value for key, value in official.items() if "res_layer" not in key}
    state |= {f"decoder.\x1b[2J{'long' * 500}{index}\n": torch.zeros(1) for index in range(300)}
    with pytest.raises(CheckpointError) as caught:
        load_state({"state_dict": state, "latent_avg": AVERAGE})
    said = str(caught.value)
    assert "300 not part of it" in said
    assert "and 292 more" in said
    assert len(said) < 4000
    assert said.isprintable()


@pytest.mark.parametrize("key", ["decoder.convs.0.conv.blur.kernel", "decoder.to_rgbs.1.upsample.kernel"])
def test_another_upsampling_filter_is_refused(key, official, load_state):
    state = official | {key: torch.full((4, 4), 0.25)}
    with pytest.raises(CheckpointError, match=r"is not \[1, 3, 3, 1\]"):
        load_state({"state_dict": state, "latent_avg": AVERAGE})


def test_old_files_without_batch_counts_are_read(official, load_state):
    state = {key: value for key, value in official.items() if not key.endswith("num_batches_tracked")}
    load_state({"state_dict": state, "latent_avg": AVERAGE})


@pytest.mark.parametrize("shape", [(3, WIDTH), (WIDTH + 1,), (1, 1, WIDTH), ()])
def test_an_average_of_another_shape_is_refused(shape, official, load_state):
    with pytest.raises(CheckpointError, match="latent_avg has shape"):
        load_state({"state_dict": official, "latent_avg": torch.zeros(shape)})


def test_an_encoder_for_another_generator_is_refused(official, load_state):
    state = {key: value for key, value in official.items() if key.startswith("encoder.")}
    state |= {f"decoder.{key}": value for key, value in generator_state(random_generator(size=8)).items()}
    with pytest.raises(CheckpointError, match=r"writes 6 rows of 24, its 8-pixel decoder reads 4 of 24"):
        load_state({"state_dict": state, "latent_avg": AVERAGE})


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(512, 512, 16, 4),
        torch.zeros(1, 512, 4, 4).to_sparse(),
        torch.zeros(1, 512, 4, 4, dtype=torch.complex64),
        torch.zeros(1, 512, 4, 4, dtype=torch.int64),
        [0.0] * 512,
        "zeros",
        None,
    ],
    ids=["expanded", "sparse", "complex", "whole", "list", "text", "none"],
)
def test_a_weight_that_is_no_plain_tensor_is_refused(value, write):
    state = generator_state(random_generator()) | {"input.input": value}
    with pytest.raises(CheckpointError, match=r"input\.input"):
        foreign.load_generator(write({"g_ema": state, "latent_avg": AVERAGE}))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_weight_that_was_never_stored_is_refused(zipped, write):
    state = generator_state(random_generator()) | {"input.input": torch.zeros(1, 512, 4, 4, device="meta")}
    with pytest.raises(CheckpointError, match="or is damaged"):
        foreign.load_generator(write({"g_ema": state}, _use_new_zipfile_serialization=zipped))


@pytest.mark.parametrize("key", ["convs.999999999.conv.weight", "style.99999999999.bias", "to_rgbs.4000000.bias"])
def test_a_senseless_index_builds_no_endless_network(key, write):
    state = generator_state(random_generator()) | {key: torch.zeros(1)}
    with pytest.raises(CheckpointError, match="does not fit"):
        foreign.load_generator(write({"g_ema": state, "latent_avg": AVERAGE}))


# Hostile and damaged files


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class Stranger:
    """A class of somebody else's program."""


def hostile(form: str, marker: Path) -> bytes:
    content = {"g_ema": Command(marker), "latent_avg": AVERAGE}
    buffer = io.BytesIO()
    if form == "archive":
        torch.save(content, buffer)
    elif form == "old":
        torch.save(content, buffer, _use_new_zipfile_serialization=False)
    else:
        pickle.dump(content, buffer, protocol=int(form))
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["archive", "old", "0", "2", "4", "5"])
def test_a_file_that_wants_to_run_a_command_is_refused_and_runs_nothing(form, tmp_path):
    marker, file = tmp_path / "ran", tmp_path / "hostile.pt"
    content = hostile(form, marker)
    file.write_bytes(content)
    with pytest.raises(UnsafeFileError, match=r"hostile\.pt: asks for \w+\.system"):
        foreign.read(file)
    assert not marker.exists()
    if form.isdigit():  # it would have run
        pickle.loads(content)
        assert marker.exists()


def test_a_class_of_another_program_is_named_and_refused(write):
    with pytest.raises(UnsafeFileError, match=r"asks for [\w.]*Stranger"):
        foreign.read(write({"g_ema": Stranger()}))


def test_only_options_pass_beside_weights(write):
    options = argparse.Namespace(device="cuda:0", batch_size=8, nested={"a": [1, None]})
    assert foreign.read(write({"opts": options}))["opts"] == options
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def damaged() -> dict[str, bytes]:
    state = {"g_ema": generator_state(random_generator(size=8, width=8, channels=(4, 4))), "latent_avg": torch.zeros(8)}
    whole = {}
    for form, zipped in (("zip", True), ("old", False)):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
        whole[form] = buffer.getvalue()
    cut = {
        f"{form} cut at {part}": content[: int(len(content) * part)]
        for form, content in whole.items()
        for part in (0.0001, 0.01, 0.5, 0.99, 0.99999)
    }
    randomness = np.random.default_rng(0)
    deflated = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(whole["zip"])) as source,
        zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as to,
    ):
        for name in source.namelist():
            to.writestr(name, source.read(name))
    return {
        **cut,
        "empty": b"",
        "text": b"<html>404 Not Found</html>",
        "zip of nothing": b"PK\x05\x06" + bytes(18),
        "compressed": deflated.getvalue(),
        "tail missing, head doubled": whole["zip"][:5000] * 2,
        **{f"random {size}": randomness.bytes(size) for size in (1, 10, 1000, 100_000)},
        **{f"pickle of random {seed}": b"\x80\x02" + randomness.bytes(300) for seed in range(20)},
    }


DAMAGED = damaged()


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_in_one_sentence(name, tmp_path):
    file = tmp_path / "damaged.pt"
    file.write_bytes(DAMAGED[name])
    with pytest.raises(CheckpointError, match=r"damaged\.pt: ") as caught:
        foreign.load_any(file)
    assert str(caught.value).isprintable()


def test_a_flipped_byte_in_the_pickle_breaks_nothing_else(tmp_path):
    """Every outcome is a generator or a CheckpointError; nothing else escapes."""
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(2), "opts": argparse.Namespace(b=1)}, buffer, _use_new_zipfile_serialization=False)
    content, file = buffer.getvalue(), tmp_path / "flipped.pt"
    randomness = np.random.default_rng(1)
    refused = 0
    for place in randomness.integers(0, len(content), 300):
        changed = bytearray(content)
        changed[place] ^= int(randomness.integers(1, 256))
        file.write_bytes(changed)
        try:
            foreign.read(file)
        except CheckpointError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("content", [[1, 2, 3], torch.zeros(3), "text", 5])
def test_a_file_that_holds_no_dictionary_is_refused(content, write):
    with pytest.raises(CheckpointError, match="not a dictionary of weights"):
        foreign.read(write(content))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.pt: there is no such file"):
        foreign.read(tmp_path / "gone.pt")
    with pytest.raises(CheckpointError, match="there is no such file"):
        foreign.read(tmp_path)


def test_the_helper_writes_the_published_layout(monkeypatch):
    narrow_trunks(monkeypatch, PUBLISHED)
    manifest = json.loads((GOLDEN / "generator_64_cm2.manifest.json").read_text())
    layout = generator_state(random_generator(size=64, width=512, mapping_layers=8))
    assert {key: list(value.shape) for key, value in layout.items()} == {
        key: how["shape"] for key, how in manifest.items()
    }
    assert {key for key in psp_state(random_psp()) if "styles" not in key} < set(
        json.loads((GOLDEN / "psp_256.manifest.json").read_text())
    )
    assert official_layout.SIDE == 16
