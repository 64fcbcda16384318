"""Models of pSp, e4e and ReStyle are read and written with the same names, shapes and bits; others are refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import pixel2style as p2s
from pixel2style import images
from pixel2style.checkpoints import detect, inspect
from pixel2style.checkpoints.layouts import options, psp
from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig, SourceConfig
from pixel2style.errors import ConfigError
from pixel2style.export import graphs
from pixel2style.generators.stylegan2.network import StyleGAN2
from pixel2style.models import encoders
from pixel2style.models.psp import PSP
from tests.support import official_layout
from tests.support.golden_rule import GOLDEN as MANIFESTS
from tests.support.golden_rule import arr, img, relative_error
from tests.support.narrow import narrow_trunks
from tests.support.official_layout import WIDTH, psp_state, random_generator, random_psp
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")

slow = pytest.mark.slow
TOLERANCE = 1e-4


def read(content: dict[str, Any]) -> PSP:
    return psp.model(detect.find(content), "file.pt")


# Odd sizes and kinds, there and back

ROUND = [
    ("pyramid", {"input_channels": 19}, {"size": 16}),
    ("pyramid", {"input_size": 128, "pyramid_width": 48, "width": 32}, {"size": 32, "width": 32, "mapping_layers": 3}),
    ("pyramid", {"trunk": "resnet34", "input_channels": 6, "feedback": True}, {"size": 8}),
    ("single_w", {"input_channels": 1}, {"size": 64, "channel_multiplier": 1}),
    ("last_layer", {}, {"size": 8, "mapping_layers": 1}),
    ("e4e", {}, {"size": 16}),
    ("top", {"input_channels": 6, "feedback": True}, {"size": 8, "width": 40}),
    ("top_e4e", {"trunk": "resnet34", "input_channels": 6, "feedback": True}, {"size": 16}),
]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of other widths than the published ones, so that less is computed."""
    narrow_trunks(monkeypatch)


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(("kind", "sizes", "drawer"), ROUND, ids=[f"{kind}-{n}" for n, (kind, *_) in enumerate(ROUND)])
def test_ours_to_theirs_to_ours_is_the_identity(kind: str, sizes: dict[str, Any], drawer: dict[str, Any]) -> None:
    generator = random_generator(**drawer)
    generator.w_avg.copy_(arr("latent_avg", generator.width, scale=0.3))
    model = random_psp(kind, generator, **sizes)
    state = psp.layout(model)
    expected = psp_state(model)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())
    options = {"encoder_type": {"e4e": "Encoder4Editing", "top_e4e": "ProgressiveBackboneEncoder"}.get(kind, "?")}
    if model.config.feedback:
        options["n_iters_per_batch"] = 5
    back = read({"state_dict": state, "latent_avg": model.w_avg, "opts": options})
    assert back.config == model.config
    ours, theirs = model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, narrow: None) -> None:
    """Their code, had its authors chosen narrow rows and small pictures."""
    monkeypatch.setattr(psp, "WIDTH", WIDTH)
    monkeypatch.setattr(psp, "LAYERS", 2)
    monkeypatch.setattr(psp, "INPUT_SIZE", 64)
    monkeypatch.setattr(psp, "PYRAMID", 512)


TAUGHT = [
    ("e4e", {}, {}),
    ("pyramid", {}, {"task": "frontalize"}),
    ("pyramid", {"input_channels": 1}, {"task": "sketch", "source": SourceConfig(sketches=("lines",))}),
    ("pyramid", {"input_channels": 7}, {"task": "segmentation", "source": SourceConfig(classes=7)}),
    ("pyramid", {}, {"task": "superres", "source": SourceConfig(factors=(4, 8)), "add_average": False}),
    ("top", {"input_channels": 6}, {"task": "domain", "feedback": True, "iterations": 7}),
]


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize(("kind", "sizes", "changes"), TAUGHT, ids=[change.get("task", "e4e") for *_, change in TAUGHT])
@pytest.mark.parametrize("average", ["one", "own", "rows"])
def test_task_and_averages_of_a_model_survive_a_round_trip(
    kind: str, sizes: dict[str, Any], changes: dict[str, Any], average: str
) -> None:
    generator = random_generator()
    generator.w_avg.copy_(arr("average", WIDTH))
    plain = random_psp(kind, generator, **sizes, feedback=changes.get("feedback", False))
    config = replace(plain.config, **changes)
    rows = {"one": generator.w_avg, "own": arr("own", WIDTH), "rows": arr("rows", generator.rows, WIDTH)}[average]
    if not config.add_average:
        rows = generator.w_avg  # nothing is added, so no other is kept
    model = PSP(plain.encoder, generator, config, rows)
    back = read(psp.state(model))
    assert back.config == model.config
    assert torch.equal(back.w_avg, model.w_avg)
    assert torch.equal(back.generator.w_avg, generator.w_avg)


@pytest.mark.usefixtures("narrow")
@torch.no_grad()
@pytest.mark.parametrize("kind", ["pyramid", "e4e", "single_w", "last_layer", "top"])
def test_units_of_rows_become_part_of_the_last_layers(kind: str) -> None:
    plain = random_psp(kind)
    unit = arr("unit", WIDTH).abs() + 0.1
    model = PSP(plain.encoder, plain.generator, plain.config, plain.w_avg, unit).eval()
    options = {"encoder_type": "Encoder4Editing"} if kind == "e4e" else {}
    back = read({"state_dict": psp.layout(model), "latent_avg": model.w_avg, "opts": options})
    pictures = img("pictures", 1, 3, plain.encoder.config.input_size, plain.encoder.config.input_size)
    assert torch.equal(back.w_unit, torch.ones(WIDTH))
    assert relative_error(back.encode(pictures), model.encode(pictures)) < 1e-5
    assert relative_error(back.encode(pictures), plain.encode(pictures)) > 1e-2


# What their code is told

TRAINING = {
    "exp_dir", "dataset_type", "encoder_type", "batch_size", "test_batch_size", "workers", "test_workers",
    "learning_rate", "optim_name", "train_decoder", "start_from_latent_avg", "lpips_lambda", "id_lambda", "l2_lambda",
    "stylegan_weights", "checkpoint_path", "max_steps", "image_interval", "board_interval", "val_interval",
    "save_interval",
    "device",  # set by the program, and where latent_avg is put
    "n_styles",  # set by the program
    "pixel2style",  # ours, unseen by theirs
}  # fmt: skip
"""What all three families' training is told, and stores."""

PSP_ONLY = {
    "input_nc", "label_nc", "output_size", "learn_in_w", "w_norm_lambda", "lpips_lambda_crop", "l2_lambda_crop",
    "moco_lambda", "use_wandb",
    "resize_factors",  # looked up for every task
}  # fmt: skip

RESTYLE_ONLY = {"input_nc", "output_size", "w_norm_lambda", "moco_lambda", "n_iters_per_batch"}

DELTAS_ONLY = {
    "w_discriminator_lambda", "w_discriminator_lr", "r1", "d_reg_every", "use_w_pool", "w_pool_size", "delta_norm",
    "delta_norm_lambda", "progressive_steps", "progressive_start", "progressive_step_every", "save_training_data",
    "sub_exp_dir", "keep_optimizer", "resume_training_from_ckpt", "update_param_list",
}  # fmt: skip

TOLD = [
    ("pyramid", "ir_se50", False, "GradualStyleEncoder", TRAINING | PSP_ONLY),
    ("single_w", "ir_se50", False, "BackboneEncoderUsingLastLayerIntoW", TRAINING | PSP_ONLY),
    ("last_layer", "ir_se50", False, "BackboneEncoderUsingLastLayerIntoWPlus", TRAINING | PSP_ONLY),
    # e4e's generator has its own option for the size; it has neither input_nc nor learn_in_w
    ("e4e", "ir_se50", False, "Encoder4Editing", TRAINING | DELTAS_ONLY | {"stylegan_size", "lpips_type"}),
    ("pyramid", "ir_se50", True, "GradualStyleEncoder", TRAINING | RESTYLE_ONLY),
    ("pyramid", "resnet34", True, "ResNetGradualStyleEncoder", TRAINING | RESTYLE_ONLY),
    ("top", "ir_se50", True, "BackboneEncoder", TRAINING | RESTYLE_ONLY),
    ("top", "resnet34", True, "ResNetBackboneEncoder", TRAINING | RESTYLE_ONLY),
    ("top_e4e", "ir_se50", True, "ProgressiveBackboneEncoder", TRAINING | RESTYLE_ONLY | DELTAS_ONLY),
    ("top_e4e", "resnet34", True, "ResNetProgressiveBackboneEncoder", TRAINING | RESTYLE_ONLY | DELTAS_ONLY),
]


def configured(kind: str = "pyramid", trunk: str = "ir_se50", feedback: bool = False, **changes: Any) -> ModelConfig:
    """A configuration of paper size."""
    encoder = EncoderConfig(kind=kind, trunk=trunk, input_channels=3 + 3 * feedback, rows=14)
    return replace(ModelConfig(encoder, GeneratorConfig(size=256), feedback=feedback), **changes)


@pytest.mark.parametrize(("kind", "trunk", "feedback", "name", "keys"), TOLD)
def test_all_options_that_their_code_reads_are_written(
    kind: str, trunk: str, feedback: bool, name: str, keys: set[str]
) -> None:
    told = options.write(configured(kind, trunk, feedback))
    assert told["encoder_type"] == name
    assert set(told) == keys
    assert told["n_styles"] == 14
    assert told.get("output_size", told.get("stylegan_size")) == 256
    assert told["start_from_latent_avg"] is True
    assert options.read(configured(kind, trunk, feedback), told, feedback) == replace(
        configured(kind, trunk, feedback), iterations=1
    )


def test_every_published_encoder_has_a_name() -> None:
    assert {(kind, trunk, feedback) for kind, trunk, feedback, *_ in TOLD} == set(options.ENCODER_TYPES)


@pytest.mark.parametrize(
    ("task", "channels", "told"),
    [
        ("invert", 3, {"dataset_type": "ffhq_encode", "input_nc": 3, "label_nc": 0, "resize_factors": None}),
        ("frontalize", 3, {"dataset_type": "ffhq_frontalize", "label_nc": 0}),
        ("sketch", 1, {"dataset_type": "celebs_sketch_to_face", "input_nc": 1, "label_nc": 1}),
        ("segmentation", 19, {"dataset_type": "celebs_seg_to_face", "input_nc": 19, "label_nc": 19}),
        ("superres", 3, {"dataset_type": "celebs_super_resolution", "resize_factors": "1,2,4,8,16,32"}),
        ("toonify", 3, {"dataset_type": "ffhq_encode"}),
    ],
)
def test_the_task_is_written_by_the_name_that_psps_code_has(task: str, channels: int, told: dict[str, Any]) -> None:
    config = configured(task=task)
    config = replace(config, encoder=replace(config.encoder, input_channels=channels))
    written = options.write(config)
    assert {key: written[key] for key in told} == told
    assert written["learn_in_w"] is False
    if task != "toonify":  # theirs has no word for it
        theirs = {key: value for key, value in written.items() if key != "pixel2style"}
        assert options.read(config, theirs, restyle=False) == config


@pytest.mark.parametrize(("size", "name"), [(1024, "ffhq_encode"), (256, "church_encode"), (512, "church_encode")])
def test_e4es_scripts_find_the_size_by_the_name_of_the_data(size: int, name: str) -> None:
    told = options.write(configured("e4e", generator=GeneratorConfig(size=size)))
    assert (told["dataset_type"], told["stylegan_size"]) == (name, size)


@pytest.mark.parametrize(
    "told",
    [
        {"n_iters_per_batch": -1},
        {"n_iters_per_batch": True},
        {"n_iters_per_batch": 10**9},
        {"n_iters_per_batch": "5"},
        {"dataset_type": "celebs_sketch_to_face"},
        {"dataset_type": ["ffhq_encode"]},
        {"pixel2style": {"task": "nonsense", "source": {}}},
        {"pixel2style": {"task": "invert", "source": {"classes": "many"}}},
        {"pixel2style": {"task": "invert", "source": {"unknown": 1}}},
        {"pixel2style": {"task": ["invert"]}},
        {"pixel2style": {"source": 5}},
        {"resize_factors": "0,1", "dataset_type": "celebs_super_resolution"},
    ],
)
def test_options_that_make_no_sense_are_not_believed(told: dict[str, Any]) -> None:
    config = configured("top", feedback=True)
    learnt = options.read(config, told, restyle=True)
    assert learnt.iterations == 5
    assert learnt.task in ("invert", "superres")
    assert learnt.source.factors == SourceConfig().factors


# What their code has no room for


def meta(config: ModelConfig) -> PSP:
    """A model of paper size that needs no memory."""
    kinds = {"stylegan2": StyleGAN2}
    with torch.device("meta"):
        drawer = kinds[config.generator.kind](config.generator)
        encoder = replace(config.encoder, rows=drawer.rows, width=drawer.width)
        config = replace(config, encoder=encoder)
        return PSP(encoders.build(encoder), drawer, config, torch.zeros(drawer.width))


def changed(**changes: Any) -> ModelConfig:
    config = configured()
    return replace(config, encoder=replace(config.encoder, **changes))


def drawn_by(**changes: Any) -> ModelConfig:
    return configured(generator=GeneratorConfig(**{"size": 256, **changes}))


REFUSED = [
    (
        changed(trunk="mobilefacenet"),
        "no compact encoders: write --to psp what was trained with --encoder.trunk ir_se50",
    ),
    (changed(heads="shared"), "no compact encoders"),
    (changed(neck=1), "no compact encoders"),
    (changed(input_size=128), "read 256 pixels through a pyramid 512 wide, and this one reads 128"),
    (changed(pyramid_width=256), "and this one reads 256 through 256"),
    (changed(input_channels=4), "reads no sources of 4 channels"),
    (changed(trunk="resnet34"), "has an encoder of kind pyramid on resnet34 without feedback"),
    (changed(kind="e4e", input_channels=1), "e4e's code reads no sources of 1 channels"),
    (changed(kind="top"), "has an encoder of kind top on ir_se50 without feedback"),
    (configured("e4e", feedback=True), "has an encoder of kind e4e on ir_se50 with feedback"),
    (configured("top", feedback=True, add_average=False), "ReStyle's code always adds the average"),
    (drawn_by(clamp=256.0), "write it alone, --to rosinality or --to nvidia-state"),
    (drawn_by(channel_multiplier=1), "twice the channels"),
    (drawn_by(classes=10), "no labels"),
    (drawn_by(noise_width=64), "rows of 512"),
    (drawn_by(width=256), "rows of 512"),
    (drawn_by(mapping_layers=2), "8 mapping layers"),
]


@pytest.mark.parametrize(("config", "sentence"), REFUSED)
def test_what_their_code_has_no_room_for_is_refused(config: ModelConfig, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        psp.state(meta(config))
    said = str(caught.value)
    assert sentence in said
    assert said.isprintable()


def test_an_average_for_each_row_of_a_single_w_is_refused() -> None:
    model = random_psp("single_w")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psp, "WIDTH", WIDTH)
        patch.setattr(psp, "LAYERS", 2)
        psp.state(model)
        model.w_avg[1] += 1
        with pytest.raises(ConfigError, match="one average for all rows"):
            psp.state(model)


def test_the_tests_own_writer_writes_the_published_names() -> None:
    """The layout that ``official`` is compared with, against the published one."""
    state: dict[str, Tensor] = official_layout.psp_state(random_psp("top", trunk="resnet34", input_channels=6))
    published_names = set(json.loads((MANIFESTS / "restyle_resnet_256.manifest.json").read_text()))
    assert {key for key in state if key.startswith("encoder.") and "styles" not in key} < published_names


# Cars: pictures 4 wide and 3 high, of which squares are drawn

CAR_KINDS = [("e4e", False), ("top_e4e", True), ("pyramid", True)]
CAR_TYPES = {"e4e": "Encoder4Editing", "top_e4e": "ProgressiveBackboneEncoder", "pyramid": "GradualStyleEncoder"}


def cars(kind: str, feedback: bool, size: int = 128, data: str = "cars_encode") -> tuple[PSP, dict[str, Any]]:
    """A square model, and what a file holds that was trained as it on cars."""
    channels = 6 if feedback else 3
    drawer = random_generator(size=size, channels=(16,) * (size.bit_length() - 2))
    model = random_psp(kind, drawer, feedback, input_channels=channels)
    told = {"encoder_type": CAR_TYPES.get(kind, "?"), "dataset_type": data, "n_iters_per_batch": 3}
    return model, {"state_dict": psp_state(model), "latent_avg": model.w_avg, "opts": told}


def as_their_scripts(model: PSP, pictures: Tensor, looks: int) -> tuple[Tensor, Tensor]:
    """Rows and shown pictures as the papers' scripts find them, were their encoders' pictures 64 and not 256 wide."""

    def drawn(ws: Tensor) -> Tensor:
        return model.generator.synthesize(ws)[:, :, 16:112]  # theirs: 64 to 448 of 512

    ws, seen = model.w_avg[None].repeat(len(pictures), 1, 1), pictures
    for _ in range(looks):
        if model.corrects_itself:
            seen = torch.cat([pictures, torch.nn.AdaptiveAvgPool2d((48, 64))(drawn(ws))], 1)
        ws = ws + model.encoder(seen)
    return ws, drawn(ws)


@pytest.mark.usefixtures("narrow")
@torch.no_grad()
@pytest.mark.parametrize(("kind", "feedback"), CAR_KINDS)
def test_cars_are_seen_and_shown_as_by_the_papers_scripts(kind: str, feedback: bool) -> None:
    square, content = cars(kind, feedback)
    model = read(content)
    pictures = img("cars", 2, 3, 48, 64)
    expected, shown = as_their_scripts(square, pictures, 3 if feedback else 1)
    ws = model.encode(pictures)
    assert relative_error(ws, expected) < 1e-5
    assert relative_error(model.framed(model.decode(ws)), shown) < 1e-5
    assert relative_error(square.encode(pictures), expected) > 1e-3


@pytest.mark.usefixtures("narrow")
@torch.no_grad()
@pytest.mark.parametrize("data", ["cars_encode", "cars_hypernet", "ffhq_encode", "church_encode", "supercars_", None])
def test_only_the_names_of_cars_make_pictures_wide(data: str | None) -> None:
    _, content = cars("single_w", False, size=16)
    content["opts"]["dataset_type"] = data
    wide = str(data).startswith("cars")
    model = read(content)
    assert model.encoder.config.input_shape == ((192, 256) if wide else (256, 256))
    assert model.config.encoder == model.encoder.config
    assert model.config.task == ("invert" if data in ("ffhq_encode", None) else "domain")


@pytest.mark.parametrize("size", [16, 32])
def test_an_encoder_of_few_pixels_stays_square_rather_than_uneven(size: int) -> None:
    """No such file is published, and a height of 12 or 24 has no map 16 times smaller."""
    config = configured("e4e")
    config = replace(config, encoder=replace(config.encoder, input_size=size))
    assert options.read(config, {"dataset_type": "cars_encode"}, False).encoder.input_height == 0


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize(("kind", "feedback"), CAR_KINDS)
def test_models_of_cars_survive_a_round_trip(kind: str, feedback: bool) -> None:
    _, content = cars(kind, feedback, size=16)
    content["state_dict"] = psp_state(random_psp(kind, None, feedback, input_channels=6 if feedback else 3))
    model = read(content)
    written = psp.state(model)
    assert written["opts"]["dataset_type"] == "cars_encode"
    back = read(written)
    assert back.config == model.config
    assert back.encoder.config.input_shape == (48, 64)
    ours, theirs = model.state_dict(), back.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("kind", "height", "sentence"),
    [
        ("pyramid", 192, "pSp's code reads square pictures, and these are 256 x 192"),
        ("e4e", 128, "e4e's code reads squares, or cars 4 wide and 3 high, and these are 256 x 128"),
    ],
)
def test_shapes_that_their_code_does_not_read_are_refused(kind: str, height: int, sentence: str) -> None:
    config = configured(kind)
    with pytest.raises(ConfigError, match=sentence):
        psp.state(meta(replace(config, encoder=replace(config.encoder, input_height=height))))


@pytest.mark.usefixtures("narrow")
@torch.no_grad()
def test_a_photograph_of_a_car_goes_there_and_back_in_its_shape(tmp_path: Path) -> None:
    _, content = cars("top_e4e", True, size=64)
    torch.save(content, tmp_path / "cars.pt")
    assert "256" not in (reads := inspect.examine(tmp_path / "cars.pt").facts["reads"])
    assert "64x48 pixels, with feedback, 3 iterations" in reads
    p2s.save(p2s.load(tmp_path / "cars.pt"), tmp_path / "cars.safetensors")
    with Image.open(ASTRONAUT) as astronaut:
        photograph = astronaut.convert("RGB").crop((0, 0, 400, 300))
    session = p2s.Session(tmp_path / "cars.safetensors", "cpu")
    result = session.invert(photograph, align=False)
    assert result.aligned.size == result.reconstruction.size == (64, 48)
    assert result.pair.size == (128, 48)
    assert np.array_equal(np.asarray(result.pair)[:, :64], np.asarray(result.aligned))
    model = read(content)
    assert relative_error(model.encode(images.to_tensor(result.aligned)[None])[0], result.ws) < 1e-5
    whole = images.to_picture(model.decode(result.ws[None])[0])
    assert np.array_equal(np.asarray(whole)[8:56], np.asarray(result.reconstruction))
    square = Image.new("RGB", (80, 80), "black")
    square.paste("white", (0, 10, 80, 70))
    assert np.asarray(session.prepare(square, align=False)).min() > 200
    graph = graphs.graph_of(session.model, "encoder")
    assert tuple(graph.example(2).shape) == (2, 3, 48, 64)
    assert "[batch, 3, 48, 64]" in graph.facts["images"]
