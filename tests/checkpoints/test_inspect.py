"""``inspect`` describes what loading gives, without keeping numbers."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import pixel2style as p2s
from pixel2style import checkpoints, cli
from pixel2style.checkpoints import foreign, inspect
from pixel2style.checkpoints.layouts import psp, writers
from pixel2style.config import AliasFreeConfig, GeneratorConfig
from pixel2style.errors import CheckpointError
from pixel2style.formats import safetensors
from pixel2style.generators.stylegan2 import nvidia
from pixel2style.generators.stylegan3.network import StyleGAN3
from pixel2style.models.backbones.ir_se import ArcFace
from tests.support import nvidia_pickles, tensorflow_pickles
from tests.support.narrow import narrow_trunks
from tests.support.official_layout import generator_state, psp_state, random_generator, random_psp

pytestmark = pytest.mark.usefixtures("one_thread")


def rosinality(path: Path) -> str:
    torch.save({"g_ema": generator_state(random_generator(size=8, channels=(8, 4)))}, path)
    return "a StyleGAN2 generator"


def conditional_pickle(path: Path) -> str:
    generator = random_generator(size=8, channels=(4, 4), classes=5, clamp=256.0, noise_width=7)
    state, told = nvidia.stylegan2_state(generator)
    nvidia_pickles.written(path, {name: nvidia_pickles.module(state, kwargs=told) for name in ("G", "G_ema")})
    return "a StyleGAN2-ADA generator"


def tensorflow(path: Path) -> str:
    tensorflow_pickles.written(path.parent, tensorflow_pickles.variables()).rename(path)
    return "a StyleGAN2 generator of TensorFlow's"


def alias_free(path: Path) -> str:
    config = GeneratorConfig(
        "stylegan3", 16, 8, 2, channels=(), alias_free=AliasFreeConfig(layers=4, kernel=1, radial=True)
    )
    checkpoints.save(StyleGAN3(config), path)
    checkpoints.convert(path, path.with_suffix(".pt"), to="nvidia-state")
    path.with_suffix(".pt").replace(path)
    return "a StyleGAN3 generator"


def bare(path: Path) -> str:
    save_file(generator_state(random_generator(size=16, channels=(4, 4, 4))), path)
    return "a StyleGAN2 generator"


FACTS = {
    rosinality: {
        "generator": "stylegan2, 8 pixels, 4 rows of 24",
        "mapping": "2 layers",
        "channels": "8, 4",
        "file": "PyTorch zip",
    },
    conditional_pickle: {
        "generator": "stylegan2, 8 pixels, 4 rows of 24",
        "mapping": "2 layers, from 7 numbers",
        "labels": "5 classes",
        "clamp": "256",
        "file": "pickle",
        "networks": "G_ema, described here, beside G",
    },
    tensorflow: {"channels": "8, 5, 4", "networks": "Gs, described here, beside D, G"},
    alias_free: {"generator": "stylegan3, 16 pixels, 6 rows of 8", "layers": "4, R"},
    bare: {"generator": "stylegan2, 16 pixels, 6 rows of 24", "file": "safetensors"},
}


@pytest.mark.parametrize("write", FACTS)
def test_a_generator_is_described_as_it_is_loaded(write, tmp_path):
    about = write(tmp_path / "file.pt")
    finding = inspect.examine(tmp_path / "file.pt")
    assert finding.about == about
    assert all(told in finding.facts[name] for name, told in FACTS[write].items())
    loaded = p2s.load_generator(tmp_path / "file.pt")
    assert finding.facts["generator"].startswith(f"{loaded.config.kind}, {loaded.size} pixels, {loaded.rows} rows")
    held = loaded.state_dict().values()
    assert (
        finding.facts["weights"] == f"{sum(v.numel() for v in held) / 1e6:.1f} million numbers in {len(held)} tensors"
    )


def test_the_bundled_model_is_described_with_its_task_and_its_iterations():
    finding = inspect.examine("faces")
    model = p2s.load("faces")
    assert finding.about == "a model of ours"
    assert finding.facts["task"] == "invert"
    assert finding.facts["reads"].startswith("pictures of 3 channels, 256 pixels")
    assert f"{model.config.iterations} iterations" in finding.facts["reads"]
    assert finding.facts["bundled generator"] == "mobilestylegan_ffhq_1024"
    assert finding.uses["invert"] == "pixel2style invert PHOTO... --out DIR --model faces"
    other = inspect.examine("superres").uses
    assert other["translate"] == "pixel2style translate superres PICTURE... --out DIR --model superres"
    assert "invert" not in other
    assert not any(name.startswith("as ") for name in finding.uses)


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    """Trunks of other widths than the published ones, so that less is written and read."""
    with pytest.MonkeyPatch.context() as patch:
        narrow_trunks(patch)
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "psp.pt"
    told = {"dataset_type": "ffhq_encode", "output_size": 16, "exp_dir": "\x1b[31mred"}
    torch.save({"state_dict": psp_state(random_psp()), "latent_avg": torch.zeros(24), "opts": told}, path)
    return path


def test_a_published_model_is_described_with_options_of_its_training(published):
    finding = inspect.examine(published)
    assert finding.about == "a pSp model"
    assert finding.facts["encoder"] == "pyramid on ir_se50, 6 rows of 24"
    assert finding.facts["dataset_type"] == "ffhq_encode"
    assert finding.facts["exp_dir"] == "\\x1b[31mred"
    assert finding.uses["train"].endswith(f"--start-from {published}")


def test_shapes_are_listed_without_numbers(published, monkeypatch):
    before = inspect.examine(published)
    start = time.process_time()
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda self: pytest.fail("a tensor was copied"))
    state = foreign.read(published, numbers=False)
    assert all(value.is_meta for value in state["state_dict"].values())
    assert inspect.examine(published) == before
    assert time.process_time() - start < 2


def test_of_an_old_file_no_number_is_read_either(tmp_path):
    state = {"g_ema": generator_state(random_generator(size=8, channels=(4, 4))), "z": torch.zeros(50_000_000)}
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    del state
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    facts = inspect.examine(tmp_path / "old.pt").facts
    assert facts["generator"].startswith("stylegan2, 8 pixels") and facts["numbers"].startswith("not read")
    assert resident("VmHWM") - before < 50e6
    p2s.load_generator(tmp_path / "old.pt")
    assert resident("VmHWM") - before > 150e6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("form", ["ours", "zip", "safetensors"])
def test_a_file_with_a_number_that_is_none_is_refused_as_in_loading(form, value, tmp_path):
    generator = random_generator(size=8, channels=(4, 4))
    file = tmp_path / ("file.pt" if form == "zip" else "file.safetensors")
    if form == "ours":
        p2s.save(generator, file)  # which refuses such numbers
        state = {name: tensor.clone() for name, tensor in safetensors.read(file).items()}
        state["to_rgb1.bias"].view(-1)[1] = value
        safetensors.write(state, file, safetensors.read_metadata(file))
    else:
        generator.to_rgb1.bias.view(-1)[1] = value
        state = generator_state(generator)
        torch.save({"g_ema": state}, file) if form == "zip" else save_file(state, file)
    said = []
    for door in (p2s.load_generator, inspect.examine):
        with pytest.raises(CheckpointError, match="NaN or infinite") as caught:
            door(file)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "to_rgb1.bias" in said[0]


def test_finite_numbers_whose_sum_is_not_are_loaded(tmp_path):
    generator = random_generator(size=8, channels=(4, 4))
    generator.conv1.conv.weight.fill_(3e38)
    p2s.save(generator, tmp_path / "large.safetensors")
    assert p2s.load_generator(tmp_path / "large.safetensors").conv1.conv.weight.max() > 2e38
    assert inspect.examine(tmp_path / "large.safetensors").facts["numbers"] == "all finite"


def resident(line: str) -> float:
    """Bytes of this process now (VmRSS) or at most since the last clearing (VmHWM)."""
    return float(Path("/proc/self/status").read_text().partition(f"{line}:")[2].split()[0]) * 1024


def test_arrays_and_missing_noise_are_described_as_they_are_loaded(tmp_path):
    state = {key: value for key, value in psp_state(random_psp()).items() if ".noises." not in key}
    torch.save({"state_dict": state, "latent_avg": torch.zeros(24).numpy()}, tmp_path / "psp.pt")
    assert inspect.examine(tmp_path / "psp.pt").about == "a pSp model"
    arrays = {key: value.numpy() for key, value in generator_state(random_generator(size=8, channels=(8, 4))).items()}
    torch.save({"g_ema": arrays}, tmp_path / "arrays.pt")
    assert inspect.examine(tmp_path / "arrays.pt").facts["channels"] == "8, 4"


@pytest.mark.parametrize(
    "layout", [["psp", "rosinality", "nvidia-state"], ["rosinality", "nvidia-state"], ["nvidia-state"], []]
)
def test_the_layouts_that_are_offered_are_those_that_can_be_written(layout, monkeypatch):
    models: dict[str, nn.Module] = {
        "psp": random_psp(),
        "rosinality": random_generator(),
        "nvidia-state": random_generator(clamp=256.0),
        "": random_generator(size=16, channels=(3, 9, 4)),
    }
    if layout[:1] == ["psp"]:  # the small stand-in has narrow rows, which pSp's code has not
        monkeypatch.setattr(psp, "WIDTH", 24)
        monkeypatch.setattr(psp, "LAYERS", 2)
        monkeypatch.setattr(psp, "INPUT_SIZE", 64)
    model = models[layout[0] if layout else ""]
    assert writers.layouts(model) == layout
    for one in ("psp", "rosinality", "nvidia-state"):
        if one in layout:
            assert writers.content(model, one)
        else:
            with pytest.raises(p2s.ConfigError):
                writers.content(model, one)


def test_a_pretrained_network_is_described_with_its_uses(tmp_path):
    with torch.device("meta"):
        layout = ArcFace().state_dict()
    torch.save({key: torch.zeros_like(value, device="cpu") for key, value in layout.items()}, tmp_path / "arc.pth")
    finding = inspect.examine(tmp_path / "arc.pth")
    assert finding.about == "an ArcFace network"
    assert "--trunk-weights" in finding.uses["train"]
    assert "load" not in finding.uses


def test_what_does_not_fit_is_refused_as_in_loading(tmp_path):
    state = generator_state(random_generator(size=8, channels=(4, 4)))
    del state["to_rgb1.bias"]
    torch.save({"g_ema": state}, tmp_path / "part.pt")
    said = []
    for door in (p2s.load_generator, inspect.examine):
        with pytest.raises(CheckpointError) as caught:
            door(tmp_path / "part.pt")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "to_rgb1.bias" in said[0]


def test_the_command_describes_all_files_and_complains_of_the_bad_ones(tmp_path, capsys):
    rosinality(tmp_path / "good.pt")
    (tmp_path / "bad.pt").write_bytes(b"bad")
    assert cli.main(["inspect", str(tmp_path / "bad.pt"), str(tmp_path / "good.pt")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "bad.pt: " in said.err
    assert f"{tmp_path / 'good.pt'}: a StyleGAN2 generator\n" in said.out
    assert f"as nvidia-state  pixel2style convert {tmp_path / 'good.pt'} OUT.pt --to nvidia-state\n" in said.out
    assert "as psp" not in said.out


def test_the_command_writes_json_that_other_programs_read(tmp_path, capsys):
    rosinality(tmp_path / "good.pt")
    assert cli.main(["inspect", "--json", str(tmp_path / "good.pt")]) == 0
    told = json.loads(io.StringIO(capsys.readouterr().out).readline())
    assert told["about"] == "a StyleGAN2 generator"
    assert told["facts"]["channels"] == "8, 4"
    assert told["config"]["channels"] == [8, 4]


def test_the_command_writes_a_line_of_json_for_a_bad_file_too(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(b"bad")
    assert cli.main(["inspect", "--json", str(tmp_path / "bad.pt")]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["error"] in said.err


def test_the_command_asks_for_a_file(capsys):
    assert cli.main(["inspect"]) == 2
    assert capsys.readouterr().err == "pixel2style: no file was given: name at least one model file\n"


def test_channels_that_repeat_are_counted():
    assert inspect.examine("mobilestylegan_ffhq_1024").facts.get("channels") is None
    assert inspect._in_a_row([512, 512, 256, 512]) == "2 x 512, 256, 512"
