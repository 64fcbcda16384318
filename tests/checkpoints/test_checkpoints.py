"""Files of ours: what is written is read again, files are complete or absent, and false ones are refused."""

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import pixel2style as p2s
from pixel2style import assets, checkpoints, cli
from pixel2style.errors import CheckpointError, ConfigError, OutputError
from pixel2style.formats import safetensors, torch_files
from pixel2style.inference import folder as pipeline
from tests.support import official_layout, stand_in
from tests.support.golden_rule import arr, img, relative_error


@pytest.fixture(scope="module")
def model() -> "p2s.PSP":
    return stand_in.random_model()


@pytest.fixture(scope="module")
def content(model: "p2s.PSP", tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """``model`` as one of our files."""
    file = tmp_path_factory.mktemp("ours") / "model.safetensors"
    p2s.save(model, file)
    return file.read_bytes()


@pytest.fixture
def file(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        return opened.metadata()


def rewrite(path: Path, **changes: str | None) -> Path:
    """The file at ``path`` again, its metadata changed; None takes an entry out."""
    told = {key: value for key, value in (metadata(path) | changes).items() if value is not None}
    safetensors.write(load_file(path), path, told)
    return path


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# There and back


def test_a_saved_model_comes_back_with_the_same_outputs(model, file):
    loaded = p2s.load(file)
    assert loaded.config == model.config
    assert not loaded.training
    pictures = img("pictures", 2, 3, 64, 64)
    with torch.no_grad():
        ws = loaded.encode(pictures)
        assert torch.equal(ws, model.encode(pictures))
        assert torch.equal(loaded.decode(ws), model.decode(ws))


def test_a_loaded_model_asks_for_no_gradients_unless_it_is_to_be_trained(file):
    loaded = p2s.load(file)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    pictures = img("pictures", 1, 3, 64, 64).requires_grad_()
    drawn = loaded.decode(loaded.encode(pictures))
    drawn.sum().backward()
    assert pictures.grad.abs().sum() > 0
    assert not loaded.decode(loaded.encode(pictures.detach())).requires_grad


def test_a_model_to_be_trained_asks_for_gradients_of_its_encoder_only(file):
    loaded = p2s.load(file, trainable=True)
    assert all(parameter.requires_grad for parameter in loaded.encoder.parameters())
    assert not any(parameter.requires_grad for parameter in loaded.generator.parameters())


@pytest.mark.parametrize("source", [None, 3, b"faces", ["faces"]])
def test_what_names_no_model_is_refused_in_a_sentence(source):
    for call in (p2s.load, p2s.load_generator):
        with pytest.raises(CheckpointError, match="bundled"):
            call(source)


def test_a_generator_for_a_file_that_has_one_is_refused(file):
    with pytest.raises(ConfigError, match="leave out"):
        p2s.load(file, generator="mobilestylegan_ffhq_1024")


@pytest.mark.parametrize("form", ["ours", "official"])
def test_what_is_done_to_a_loaded_model_never_reaches_its_file(form, file):
    if form == "official":
        generator = official_layout.random_generator(size=8)
        torch.save({"g_ema": official_layout.generator_state(generator), "latent_avg": generator.w_avg}, file)
        file = file.rename(file.with_suffix(".pt"))
    before = file.read_bytes()
    loaded = p2s.load_generator(file)
    for value in loaded.state_dict().values():
        value.add_(1)
    assert file.read_bytes() == before
    p2s.save(loaded, file)
    assert same(p2s.load_generator(file), loaded)


def test_a_file_carries_its_configuration(model, file):
    told = metadata(file)
    assert told["format"] == "pixel2style 1"
    assert json.loads(told["config"])["encoder"]["rows"] == stand_in.ROWS


def test_half_precision_halves_a_file_and_changes_little(model, file, tmp_path):
    smaller = tmp_path / "half.safetensors"
    p2s.save(model, smaller, dtype=torch.float16)
    assert smaller.stat().st_size < 0.55 * file.stat().st_size
    loaded = p2s.load(smaller)
    assert {value.dtype for value in loaded.state_dict().values()} <= {torch.float32, torch.int64}
    pictures = img("pictures", 1, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(loaded.encode(pictures), model.encode(pictures)) < 5e-3


def test_a_weight_beyond_half_precision_is_stored_whole(tmp_path):
    generator = official_layout.random_generator()
    generator.style[1].weight.fill_(1e5)
    p2s.save(generator, tmp_path / "large.safetensors", dtype=torch.float16)
    assert torch.equal(p2s.load_generator(tmp_path / "large.safetensors").style[1].weight, generator.style[1].weight)


def test_another_precision_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match="float32, float16 or int8"):
        p2s.save(model, tmp_path / "model.safetensors", dtype=torch.bfloat16)


def test_a_generator_alone_is_saved_and_loaded(tmp_path):
    generator = official_layout.random_generator()
    generator.w_avg.copy_(arr("average", generator.width))
    path = tmp_path / "generator.safetensors"
    p2s.save(generator, path)
    assert same(p2s.load_generator(path), generator)
    with pytest.raises(CheckpointError, match=r"generator\.safetensors: is a generator, not a model"):
        p2s.load(path)


def test_the_generator_of_a_model_is_found_in_its_file(model, file):
    assert same(p2s.load_generator(file), model.generator)


def test_our_file_is_known_by_its_content_under_any_name(file):
    renamed = file.rename(file.with_name("model.pt"))
    assert p2s.load(renamed).generator.size == stand_in.SIZE


def test_channels_last_weights_are_saved(model, tmp_path):
    other = stand_in.random_model().to(memory_format=torch.channels_last)
    p2s.save(other, tmp_path / "model.safetensors")
    assert same(p2s.load(tmp_path / "model.safetensors"), model)


# Bundled


@pytest.fixture
def bundled(model: "p2s.PSP", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of bundled files with the generator of ``model`` in it, called ``tiny``."""
    folder = tmp_path / "assets"
    folder.mkdir()
    monkeypatch.setattr(assets, "FOLDER", folder)
    p2s.save(model.generator, folder / "tiny.safetensors")
    return folder


def test_a_bundled_generator_is_referred_to_and_not_stored_again(model, bundled, file):
    p2s.save(model, bundled / "lean.safetensors", generator="tiny")
    assert not any(key.startswith("generator.") for key in load_file(bundled / "lean.safetensors"))
    assert (bundled / "lean.safetensors").stat().st_size < 0.5 * file.stat().st_size
    assert same(p2s.load("lean"), model)
    assert same(p2s.load_generator("lean"), model.generator)


def test_what_a_user_saves_of_a_bundled_model_needs_no_other_file(model, bundled, tmp_path):
    p2s.save(model, bundled / "lean.safetensors", generator="tiny")
    p2s.save(p2s.load("lean"), tmp_path / "mine.safetensors")
    (bundled / "tiny.safetensors").unlink()
    assert same(p2s.load(tmp_path / "mine.safetensors"), model)
    with pytest.raises(CheckpointError, match="refers to a generator that is not bundled here"):
        p2s.load("lean")


def test_a_generator_that_is_no_longer_the_bundled_one_is_not_referred_to(bundled, tmp_path):
    tuned = stand_in.random_model()
    tuned.generator.input.input.mul_(1.01)
    with pytest.raises(ValueError, match="is not the bundled tiny"):
        p2s.save(tuned, tmp_path / "model.safetensors", generator="tiny")
    assert not (tmp_path / "model.safetensors").exists()


def test_which_bundled_generator_a_file_is_or_refers_to(model, bundled, file, tmp_path):
    p2s.save(model, bundled / "lean.safetensors", generator="tiny")
    assert checkpoints.bundled_generator("lean") == checkpoints.bundled_generator("tiny") == "tiny"
    p2s.save(model.generator, tmp_path / "tiny.safetensors")
    assert checkpoints.bundled_generator(file) is checkpoints.bundled_generator(tmp_path / "tiny.safetensors") is None


def test_a_generator_given_by_path_is_stored(model, bundled, tmp_path):
    p2s.save(model, tmp_path / "model.safetensors", generator=str(bundled / "tiny.safetensors"))
    assert "generator" not in metadata(tmp_path / "model.safetensors")
    assert same(p2s.load(tmp_path / "model.safetensors"), model)


@pytest.mark.parametrize("name", ["../model", "gone", "/etc/passwd", ""])
def test_a_reference_out_of_the_box_is_refused(name, file, bundled):
    with pytest.raises(CheckpointError, match="refers to a generator that is not bundled here"):
        p2s.load(rewrite(file, generator=name))


def test_a_reference_to_another_generator_is_refused(model, bundled):
    p2s.save(model, bundled / "lean.safetensors", generator="tiny")
    p2s.save(official_layout.random_generator(), bundled / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="was made for another generator than the bundled tiny"):
        p2s.load("lean")


def test_an_unknown_name_is_answered_with_the_names_there_are(bundled):
    with pytest.raises(
        CheckpointError,
        match="nobody: there is no such file; the bundled ones are tiny, and one on the hub is hf://USER",
    ):
        p2s.load("nobody")


def test_bundled_weights_that_are_no_model_are_refused():
    with pytest.raises(CheckpointError, match="mtcnn: is a network for losses or face alignment"):
        p2s.load("mtcnn")


def test_a_name_that_is_nearly_right_is_recognised():
    with pytest.raises(CheckpointError, match=r"facse: there is no such file; did you mean faces\?"):
        p2s.load("facse")


# Converting


def test_an_official_model_converted_is_the_same_model(tmp_path):
    original = official_layout.random_psp(input_channels=1)
    source, out = tmp_path / "official.pt", tmp_path / "ours.safetensors"
    torch.save({"state_dict": official_layout.psp_state(original), "latent_avg": original.w_avg}, source)
    direct = p2s.load(source)
    assert "6 rows, 16 pixels" in checkpoints.convert(source, out)
    source.unlink()
    loaded = p2s.load(out)
    assert loaded.config == direct.config == original.config
    pictures = (img("pictures", 1, 1, 64, 64) + 1) / 2
    assert same(loaded, direct)
    with torch.no_grad():  # where numbers lie in a file decides in which order they are added
        ws = loaded.encode(pictures)
        assert relative_error(ws, original.encode(pictures)) < 1e-5
        assert relative_error(loaded.decode(ws), original.decode(ws)) < 1e-5


def test_a_published_generator_converted_is_the_same_generator(tmp_path):
    original = official_layout.random_generator(size=8)
    source, out = tmp_path / "published.pt", tmp_path / "ours.safetensors"
    state = official_layout.generator_state(original)
    torch.save({"g_ema": state, "latent_avg": original.w_avg}, source)
    assert checkpoints.convert(source, out) == "stylegan2 generator, 4 rows, 8 pixels"
    assert same(p2s.load_generator(out), original)


def test_converting_our_own_file_gives_it_again(file, tmp_path):
    again = tmp_path / "again.safetensors"
    checkpoints.convert(file, again)
    assert metadata(again) == metadata(file)
    ours, theirs = load_file(again), load_file(file)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# Writing


def test_a_file_that_cannot_be_written_leaves_the_old_one(model, file, content, monkeypatch):
    def fail(values, path, told):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "save_file", fail)
    with pytest.raises(OutputError, match=r"(?i)no space left on device"):
        p2s.save(model, file)
    assert file.read_bytes() == content
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("target", ["no/such/folder/model.safetensors", "model.safetensors/below.safetensors"])
def test_a_place_that_is_not_there_is_named(target, model, file):
    with pytest.raises(OutputError, match="cannot be written"):
        p2s.save(model, file.parent / target)


def test_a_written_file_is_as_readable_as_any_other(file, model):
    plain = file.with_name("plain")
    plain.touch()
    p2s.save(model, file.with_name("new.safetensors"))
    assert file.with_name("new.safetensors").stat().st_mode == plain.stat().st_mode


# Damaged and false files


@pytest.mark.parametrize("part", [0, 4, 8, 9, 100, 0.1, 0.5, 0.99, -1])
def test_a_truncated_file_is_refused(part, file, content):
    end = int(len(content) * part) if isinstance(part, float) else part
    file.write_bytes(content[:end])
    for load in (p2s.load, p2s.load_generator):
        with pytest.raises(CheckpointError, match=r"model\.safetensors: is no safetensors file, or is damaged"):
            load(file)


def lying(content: bytes) -> dict[str, bytes]:
    """Files whose header does not say what follows."""
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    tensors = {key: told for key, told in header.items() if key != "__metadata__"}
    first = next(key for key, told in tensors.items() if told["dtype"] == "F32" and told["data_offsets"][0] > 0)

    def built(**changes: object) -> bytes:
        text = json.dumps(header | {first: header[first] | changes}).encode()
        return struct.pack("<Q", len(text)) + text + data

    start, end = header[first]["data_offsets"]
    return {
        "honest": built(),
        "shape": built(shape=[1 << 40]),
        "negative": built(shape=[-1]),
        "overflow": built(shape=[1 << 62, 1 << 62]),
        "beyond": built(data_offsets=[start, end + (1 << 40)]),
        "backwards": built(data_offsets=[end, start]),
        "overlap": built(data_offsets=[start - 4, end]),
        "dtype": built(dtype="F64"),
        "strange": built(dtype="PICKLE"),
        "long": struct.pack("<Q", 2**62) + content[8:],
        "short": struct.pack("<Q", length - 10) + content[8:],
        "deep": struct.pack("<Q", 200_000) + b"[" * 200_000 + data,
        "text": b"not a model at all",
        "random": np.random.default_rng(0).bytes(10_000),
        "more": content + b"more",
    }


LIES = ["shape", "negative", "overflow", "beyond", "backwards", "overlap", "dtype", "strange", "long", "short"]
LIES += ["deep", "text", "random", "more"]


def test_the_header_is_built_rightly_when_it_tells_the_truth(file, content):
    file.write_bytes(lying(content)["honest"])
    p2s.load(file)


@pytest.mark.parametrize("lie", LIES)
def test_a_false_header_is_refused(lie, file, content):
    file.write_bytes(lying(content)[lie])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: "):
        p2s.load(file)


def changed(file: Path, **values: object) -> str:
    """The configuration in ``file`` with dotted entries changed."""
    config = json.loads(metadata(file)["config"])
    for name, value in values.items():
        part, _, key = name.partition("__")
        (config[part] if key else config)[key or part] = value
    return json.dumps(config)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"encoder__rows": 10**9}, "asks for rows above 64"),
        ({"encoder__width": 10**30}, "asks for width above 65536|wrong at"),
        ({"generator__mapping_layers": 10**6}, "asks for mapping_layers above 64"),
        ({"encoder__neck": 1000}, "asks for neck above 64"),
        ({"generator__size": 65}, "describes no network: .* power of two"),
        ({"generator__size": 2}, "describes no network"),
        ({"encoder__rows": 9}, "describes no network: .*writes 9 rows"),
        ({"encoder__kind": "pyramid", "encoder__input_size": 8}, "describes no network"),
        ({"encoder__input_size": -64}, "wrong at 'encoder.input_size|wrong at"),
        ({"encoder__trunk": "vgg"}, "wrong at"),
        ({"encoder__secret": 1}, "wrong at"),
        ({"encoder": None}, "wrong at"),
        ({"encoder__input_channels": 4}, "does not fit PSP: 1 of another kind"),
        ({"generator__mapping_layers": 3}, r"does not fit PSP: 2 missing"),
    ],
)
def test_a_configuration_that_does_not_belong_is_refused(values, error, file):
    with pytest.raises(CheckpointError, match=error) as caught:
        p2s.load(rewrite(file, config=changed(file, **values)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("config", ["", "{", "[]", "null", "3", '"model"', "[" * 100_000, "\x1b[2J{}"])
def test_a_configuration_that_is_none_is_refused(config, file):
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its configuration is wrong"):
        p2s.load(rewrite(file, config=config))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format": "pixel2style 2"}, "is of format '2', this version reads 1; update pixel2style"),
        ({"format": "pt"}, "holds no configuration of a model"),
        ({"format": None}, "holds no configuration of a model"),
        ({"config": None}, "holds no configuration of a model"),
    ],
)
def test_a_file_of_another_format_is_refused(changes, error, file):
    with pytest.raises(CheckpointError, match=error):
        p2s.load(rewrite(file, **changes))


def test_missing_and_unknown_tensors_are_listed(file):
    state, told = load_file(file), metadata(file)
    del state["w_avg"]
    state["generator.extra"] = torch.zeros(1)
    safetensors.write(state, file, told)
    with pytest.raises(CheckpointError, match=r"1 missing \(w_avg\); 1 not part of it \(generator\.extra\)"):
        p2s.load(file)


# Other layouts


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest model that pSp's code has room for, as one of our files."""
    generator = official_layout.random_generator(size=8, width=512, mapping_layers=8)
    generator.w_avg.copy_(arr("latent_avg", 512, scale=0.3))
    file = tmp_path_factory.mktemp("paper") / "paper.safetensors"
    p2s.save(official_layout.random_psp("single_w", generator), file)
    return file


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_model_of_no_numbers_is_not_written(number: float, tmp_path: Path) -> None:
    model = stand_in.tiny_model()
    model.generator.get_parameter("style.1.weight")[0, 0] = number
    with pytest.raises(CheckpointError, match=r"NaN or infinite.*style\.1\.weight"):
        p2s.save(model, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_model_survives_a_round_trip_through_psps_layout(paper, tmp_path):
    out, again = tmp_path / "psp.pt", tmp_path / "again.safetensors"
    said = checkpoints.convert(paper, out, "psp")
    assert said == "pSp model, single_w encoder, 4 rows, 8 pixels for psp"
    content = torch.load(out, weights_only=True)
    assert set(content) == {"state_dict", "opts", "latent_avg"}
    assert content["opts"]["learn_in_w"] is True
    checkpoints.convert(out, again)
    ours, theirs = load_file(again), load_file(paper)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert metadata(again) == metadata(paper)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "p2s.PSP"]:
    """A model whose generator has the usual channels, which rosinality's code builds, and its file."""
    model = stand_in.random_model(maps=())
    file = tmp_path_factory.mktemp("usual") / "model.safetensors"
    p2s.save(model, file)
    return file, model


@pytest.mark.parametrize("to", ["rosinality", "nvidia-state"])
def test_the_generator_of_a_model_is_written_alone(to, usual, tmp_path):
    file, model = usual
    out = tmp_path / "generator.pt"
    assert checkpoints.convert(file, out, to) == f"stylegan2 generator, 6 rows, 16 pixels for {to}"
    assert set(torch.load(out, weights_only=True)) == (
        {"g_ema", "latent_avg"} if to == "rosinality" else {"G_ema", "init_kwargs"}
    )
    back = p2s.load_generator(out)
    ours, theirs = model.generator.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("source", "to", "error"),
    [
        ("model", "psp", "no compact encoders|decoder has rows of 512"),
        ("generator", "psp", "this is a generator: choose --to rosinality"),
        ("mobile", "rosinality", "rosinality is a layout for StyleGAN2, and this generator is a MobileStyleGAN"),
        ("mobile", "nvidia-state", "a layout for StyleGAN2 and StyleGAN3, and this generator is a MobileStyleGAN"),
    ],
)
def test_a_model_that_does_not_fit_a_layout_leaves_no_file(source, to, error, file, tmp_path):
    given = file
    if source == "generator":
        given = tmp_path / "generator.safetensors"
        p2s.save(official_layout.random_generator(), given)
    elif source == "mobile":
        given = checkpoints.DEFAULT_GENERATOR
    with pytest.raises(ConfigError, match=error):
        checkpoints.convert(given, tmp_path / "out.pt", to)
    assert not list(tmp_path.glob("*.pt")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("to", "name"), [("ours", "out.pt"), ("psp", "out.safetensors"), ("rosinality", "out")])
def test_a_name_with_an_unusual_suffix_is_refused(to, name, file, tmp_path):
    with pytest.raises(OutputError, match=r"call it NAME\.(pt|safetensors)"):
        pipeline.convert(file, tmp_path / name, to=to)


def test_a_bundled_model_is_converted_by_its_name(tmp_path, capsys):
    assert cli.main(["convert", "faces", str(tmp_path / "faces.pt"), "--to", "psp"]) == 2
    assert "pSp's code draws with StyleGAN2 only, and this generator is a mobilestylegan" in capsys.readouterr().err


def test_the_command_says_what_it_wrote(usual, tmp_path, capsys):
    file, _ = usual
    out = tmp_path / "generator.pt"
    assert cli.main(["convert", str(file), str(out), "--to", "rosinality"]) == 0
    assert capsys.readouterr().out == f"{file} -> {out}: stylegan2 generator, 6 rows, 16 pixels for rosinality\n"
    assert cli.main(["convert", str(file), str(out), "--to", "rosinality"]) == 2


# Writing PyTorch files


def test_a_pytorch_file_holds_the_numbers_and_no_others(tmp_path):
    large = torch.arange(1000.0)
    content = {
        "view": large[10:12], "turned": large.reshape(10, 100).t(), "nan": torch.tensor([float("nan"), -0.0]),
        "none": torch.zeros(0), "count": torch.tensor(3), "inner": {"options": {"size": 8, "name": None, "list": [1]}},
    }  # fmt: skip
    file = tmp_path / "state.pt"
    torch_files.write(content, file)
    found = torch.load(file, weights_only=True)
    assert found["inner"] == content["inner"]
    assert torch.equal(found["turned"], content["turned"])
    assert found["view"].untyped_storage().nbytes() == 8
    (tmp_path / "any").touch()
    assert file.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_file_that_reads_otherwise_than_it_was_written_takes_no_name(tmp_path, monkeypatch):
    file = tmp_path / "state.pt"
    torch_files.write({"a": torch.zeros(2)}, file)
    before = file.read_bytes()
    monkeypatch.setattr(torch_files, "read", lambda path: {"a": torch.tensor([0.0, -0.0])})
    with pytest.raises(OutputError, match=r"state\.pt: cannot be written"):
        torch_files.write({"a": torch.zeros(2)}, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"gone/state\.pt: cannot be written"):
        torch_files.write({"a": torch.zeros(2)}, tmp_path / "gone" / "state.pt")
