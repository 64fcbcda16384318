"""A model stored as its difference to a bundled one: its size, its error, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import pixel2style as p2s
from pixel2style import assets, checkpoints
from pixel2style.checkpoints import inspect, native
from pixel2style.config import TrainConfig
from pixel2style.errors import CheckpointError
from pixel2style.formats import quantized, safetensors
from pixel2style.inference import folder
from pixel2style.training import setup
from tests.support import stand_in
from tests.support.golden_rule import arr

pytestmark = pytest.mark.usefixtures("one_thread")

GENERATOR, BASE, BITS = "mobilestylegan_ffhq_1024", "faces", 4
FOLDER = assets.path(BASE).parent
VECTOR, MATRIX = "encoder.heads.0.tower.0.bias", "encoder.heads.0.tower.0.weight"


@pytest.fixture(scope="module", autouse=True)
def base_read_once() -> Iterator[None]:
    """Reading the base takes longer than all the rest."""
    fresh, file = native.read_base, assets.read
    kept = fresh(BASE, BASE)

    def read(name: str, source: str, role: str = "model") -> dict[str, torch.Tensor]:
        if (name, role, assets.read) == (BASE, "model", file) and assets.path(BASE).parent == FOLDER:
            return {key: value.clone() for key, value in kept.items()}
        return fresh(name, source, role)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "read_base", read)
        yield


@pytest.fixture(scope="module")
def model() -> p2s.PSP:
    """``faces`` after a little training: every weight of the encoder a few per cent off."""
    model = p2s.load(BASE)
    dice = torch.Generator().manual_seed(0)
    for value in model.encoder.state_dict().values():
        value.add_(0.05 * value.std() * torch.randn(value.shape, generator=dice) if value.numel() > 1 else 0.01)
    return model


@pytest.fixture(scope="module")
def stored(model: p2s.PSP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("differences") / "model.safetensors"
    checkpoints.save(model, file, dtype=torch.float16, generator=GENERATOR, base=BASE, bits=BITS)
    return file


@pytest.fixture(scope="module")
def parts(stored: Path) -> dict[str, torch.Tensor]:
    return load_file(stored)


def told(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata())


def rewritten(stored: Path, parts: dict[str, torch.Tensor], out: Path, **metadata: str) -> Path:
    safetensors.write(parts, out, told(stored) | metadata)
    return out


# Numbers


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_whole_numbers_of_any_width_come_back(bits: int, count: int) -> None:
    half = 2 ** (bits - 1)
    codes = torch.randint(-half, half, (count,), generator=torch.Generator().manual_seed(bits))
    stored = quantized.packed(codes, bits)
    assert len(stored) == -(-count // 8) * bits
    assert torch.equal(quantized.unpacked(stored, bits, count), codes.float())


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_a_number_that_is_not_clipped_is_off_by_half_a_step_at_most(bits: int) -> None:
    difference = arr("difference", 16, 500) * torch.logspace(-3, 2, 16)[:, None]
    codes, steps = quantized.quantised(difference, bits)
    error = (difference - codes * steps[:, None].float()).abs()
    inside = codes.abs() < 2 ** (bits - 1) - 1
    assert inside.float().mean() > 0.5
    assert (error / steps[:, None].float())[inside].max() <= 0.501


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_searched_step_is_at_least_as_good_as_the_widest_one(bits: int) -> None:
    difference = arr("difference", 16, 500)
    top = 2 ** (bits - 1) - 1
    codes, steps = quantized.quantised(difference, bits)
    widest = difference.abs().amax(1, keepdim=True) / top
    searched = (difference - codes * steps[:, None].float()).norm()
    plain = (difference - (difference / widest).round() * widest).norm()
    assert searched < (plain if bits == 8 else 0.95 * plain)


def test_a_channel_without_difference_and_one_below_fp16_come_back_as_the_base() -> None:
    base = arr("base", 3, 40)
    value = base.clone()
    value[0] += 1e-9
    value[1] += 0.5
    restored = quantized.together(quantized.between(value, base, 4) or {}, base)
    assert restored is not None
    assert torch.allclose(restored, value, atol=1e-3)
    assert torch.equal(restored[2], base[2])


def test_several_matrices_in_one_have_a_step_for_each_row() -> None:
    found = quantized.between(arr("value", 3, 5, 64), torch.zeros(3, 5, 64), 4)
    assert found is not None
    assert found["steps"].shape == (15,)


# Files


def test_four_bits_take_a_quarter_of_what_fp16_takes(stored: Path) -> None:
    assert assets.path(BASE).stat().st_size * 0.25 < stored.stat().st_size < 5.3e6


def test_a_loaded_difference_is_a_model_near_the_one_that_was_saved(model: p2s.PSP, stored: Path) -> None:
    loaded = p2s.load(stored)
    assert loaded.config == model.config
    base = p2s.load(BASE).state_dict()
    wanted = model.state_dict()
    for key, value in loaded.state_dict().items():
        away, off = (wanted[key] - base[key]).norm(), (value - wanted[key]).norm()
        assert off <= (0.2 * away if value.ndim > 1 else 1e-3 * away), key
        assert value.dtype == wanted[key].dtype
    assert torch.equal(loaded.w_avg, model.w_avg)


def test_its_parameters_are_ordinary_ones(stored: Path) -> None:
    loaded = p2s.load(stored)
    for parameter in loaded.encoder.parameters():
        assert parameter.dtype == torch.float32
        assert not parameter.requires_grad
        assert parameter.is_contiguous()
    trainable = p2s.load(stored, trainable=True)
    assert all(parameter.requires_grad for parameter in trainable.encoder.parameters())
    assert not any(parameter.requires_grad for parameter in trainable.generator.parameters())
    before = stored.read_bytes()
    for value in loaded.state_dict().values():
        value.add_(1)
    assert stored.read_bytes() == before
    assert not torch.equal(p2s.load(BASE).w_avg, loaded.w_avg)


def test_a_model_that_is_the_base_takes_no_room(tmp_path: Path) -> None:
    model = p2s.load(BASE)
    checkpoints.save(model, tmp_path / "same.safetensors", generator=GENERATOR, base=BASE)
    assert (tmp_path / "same.safetensors").stat().st_size < 40_000
    assert stand_in.same(p2s.load(tmp_path / "same.safetensors"), model)


@pytest.mark.slow
def test_training_starts_from_a_difference_and_a_first_layer_of_another_shape_is_stored_whole(
    stored: Path, tmp_path: Path
) -> None:
    config = TrainConfig(task="inpaint", out=str(tmp_path), data=("x",), start_from=str(stored), generator=None)
    model = setup.from_checkpoint(config)
    assert model.encoder.config.input_channels == 7
    checkpoints.save(model, tmp_path / "inpaint.safetensors", dtype=torch.float16, generator=GENERATOR, base=BASE)
    loaded = p2s.load(tmp_path / "inpaint.safetensors")
    first = next(key for key, value in model.state_dict().items() if value.ndim == 4 and value.shape[1] == 7)
    assert torch.equal(loaded.state_dict()[first], model.state_dict()[first].half().float())
    assert load_file(tmp_path / "inpaint.safetensors")[first].dtype == torch.float16


def test_averages_of_its_own_are_stored_whole(model: p2s.PSP, tmp_path: Path) -> None:
    other = p2s.load(BASE)
    other.w_avg += arr("average", *other.w_avg.shape)
    checkpoints.save(other, tmp_path / "own.safetensors", dtype=torch.float16, generator=GENERATOR, base=BASE, bits=2)
    assert torch.equal(p2s.load(tmp_path / "own.safetensors").w_avg, other.w_avg)


def test_it_is_inspected_and_converted_like_any_model(stored: Path, tmp_path: Path) -> None:
    finding = inspect.examine(stored)
    assert finding.facts["difference to"] == BASE
    assert "26.3 million numbers" in finding.facts["weights"]
    folder.convert(stored, tmp_path / "complete.safetensors")
    assert "base" not in told(tmp_path / "complete.safetensors")
    assert stand_in.same(p2s.load(tmp_path / "complete.safetensors"), p2s.load(stored))
    assert p2s.load_generator(stored).size == 1024
    assert checkpoints.bundled_generator(stored) == GENERATOR


def test_what_goes_to_the_hub_is_complete(stored: Path, tmp_path: Path) -> None:
    p2s.load(stored).save_pretrained(tmp_path / "repository")
    assert "base" not in told(tmp_path / "repository/model.safetensors")
    assert stand_in.same(p2s.PSP.from_pretrained(str(tmp_path / "repository")), p2s.load(stored))


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_other_numbers_of_bits_are_refused(bits: int, model: p2s.PSP, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 to 8 bits"):
        checkpoints.save(model, tmp_path / "x.safetensors", generator=GENERATOR, base=BASE, bits=bits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("base", ["no_such", "mtcnn", GENERATOR, "../faces"])
def test_only_a_bundled_model_is_a_base(base: str, model: p2s.PSP, stored: Path, parts, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no complete bundled model"):
        checkpoints.save(model, tmp_path / "x.safetensors", generator=GENERATOR, base=base)
    assert not list(tmp_path.iterdir())
    refused(
        rewritten(stored, parts, tmp_path / "x.safetensors", base=base), "is a difference to .*; update pixel2style"
    )


def test_a_complete_file_has_a_byte_a_number(model: p2s.PSP, tmp_path: Path) -> None:
    file = tmp_path / "bytes.safetensors"
    checkpoints.save(model, file, dtype=torch.int8, generator=GENERATOR, detail="detail_ffhq")
    assert file.stat().st_size < 10.6e6
    loaded = p2s.load(file).state_dict()
    for key, value in model.state_dict().items():
        assert loaded[key].dtype == value.dtype
        assert (loaded[key] - value).norm() <= (0.015 * value.norm() if value.ndim > 1 else 0), key
    assert inspect.examine(file).facts["weights"] == inspect.examine(BASE).facts["weights"]


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ("codes", lambda codes: codes[:-1]),
        ("codes", lambda codes: codes.float()),
        ("codes", lambda codes: codes.flatten()),
        ("codes", lambda codes: codes.flatten(1)),
        ("codes", lambda codes: None),
        ("steps", lambda steps: steps[:-1]),
        ("steps", lambda steps: steps.long()),
        ("steps", lambda steps: None),
    ],
)
def test_a_complete_file_whose_numbers_do_not_fit_is_refused(part: str, made, tmp_path: Path) -> None:
    file, tiny = tmp_path / "x.safetensors", stand_in.tiny_model()
    checkpoints.save(tiny, file, dtype=torch.int8)
    changed = load_file(file)
    key = next(key for key, value in changed.items() if key.endswith("/codes") and value.ndim == 4)
    name = key.replace("codes", part)
    value = made(changed.pop(name))
    refused(rewritten(file, changed if value is None else changed | {name: value}, file), "damaged|does not fit PSP")


# What is wrong with a file


def refused(file: Path, sentence: str, *more: Callable[[Path], object]) -> None:
    for door in (p2s.load, inspect.examine, *more):
        with pytest.raises(CheckpointError, match=sentence) as caught:
            door(file)
        assert file.name in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_a_base_with_other_numbers_is_refused(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = assets.read

    def changed(name: str) -> dict[str, torch.Tensor]:
        tensors = read(name)
        if name == BASE:
            tensors[VECTOR] = tensors[VECTOR] + 1e-3
        return tensors

    monkeypatch.setattr(assets, "read", changed)
    refused(stored, "another faces than the bundled one; convert it to a complete file", p2s.load_generator)


def test_a_base_that_is_a_difference_itself_is_refused(
    stored: Path, parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (BASE, GENERATOR):
        (tmp_path / f"{name}.safetensors").symlink_to(assets.path(name))
    (tmp_path / "second.safetensors").write_bytes(stored.read_bytes())
    file = rewritten(stored, parts, tmp_path / "third.safetensors", base="second")
    monkeypatch.setattr(assets, "FOLDER", tmp_path)
    refused(file, "difference to 'second', which is no complete bundled model")


def test_a_difference_without_a_digest_is_refused(stored: Path, parts, tmp_path: Path) -> None:
    refused(rewritten(stored, parts, tmp_path / "x.safetensors", digest=""), "another faces than the bundled one")


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (f"{MATRIX}/codes", lambda codes: codes[:-1]),
        (f"{MATRIX}/codes", lambda codes: codes[:0]),
        (f"{MATRIX}/codes", lambda codes: codes.repeat(4)),
        (f"{MATRIX}/codes", lambda codes: codes[: len(codes) // 4]),
        (f"{MATRIX}/codes", lambda codes: codes[None]),
        (f"{MATRIX}/codes", lambda codes: codes.float()),
        (f"{MATRIX}/codes", lambda codes: None),
        (f"{MATRIX}/steps", lambda steps: steps[:-1]),
        (f"{MATRIX}/steps", lambda steps: steps[:, None]),
        (f"{MATRIX}/steps", lambda steps: steps.long()),
        (f"{MATRIX}/steps", lambda steps: None),
        (f"{VECTOR}/offset", lambda offset: offset[:-1]),
        (f"{VECTOR}/offset", lambda offset: offset[0]),
        (f"{VECTOR}/offset", lambda offset: offset.long()),
        ("w_avg/same", lambda same: torch.zeros(1, dtype=torch.uint8)),
    ],
)
def test_a_part_that_is_not_what_it_should_be_is_refused(part: str, made, stored: Path, parts, tmp_path: Path) -> None:
    changed = dict(parts)
    value = made(changed.pop(part))
    if value is not None:
        changed[part] = value
    key = part.rpartition("/")[0]
    refused(rewritten(stored, changed, tmp_path / "x.safetensors"), f"its difference in {key} is damaged")


def test_bytes_of_another_kind_are_refused_where_numbers_are_read(stored: Path, parts, tmp_path: Path) -> None:
    changed = parts | {f"{MATRIX}/codes": parts[f"{MATRIX}/codes"].to(torch.int16)}
    with pytest.raises(CheckpointError, match="is damaged"):
        p2s.load(rewritten(stored, changed, tmp_path / "x.safetensors"))


def test_parts_that_belong_to_nothing_are_refused(stored: Path, parts, tmp_path: Path) -> None:
    extra = parts | {"encoder.backdoor/offset": torch.zeros(3)}
    refused(rewritten(stored, extra, tmp_path / "x.safetensors"), "which faces has not")
    twice = parts | {MATRIX: torch.zeros(128, 128, 3, 3)}
    refused(rewritten(stored, twice, tmp_path / "y.safetensors"), "which faces has not")
    mixed = parts | {f"{VECTOR}/same": torch.zeros(0)}
    refused(rewritten(stored, mixed, tmp_path / "z.safetensors"), "is damaged")


def test_what_is_missing_is_named(stored: Path, parts, tmp_path: Path) -> None:
    fewer = {key: value for key, value in parts.items() if not key.startswith(f"{VECTOR}/")}
    refused(rewritten(stored, fewer, tmp_path / "x.safetensors"), f"1 missing .*{VECTOR}")


def test_a_configuration_of_another_encoder_is_refused(stored: Path, parts, tmp_path: Path) -> None:
    config = json.loads(told(stored)["config"])
    config["encoder"]["head_width"] = 128
    refused(rewritten(stored, parts, tmp_path / "x.safetensors", config=json.dumps(config)), "does not fit PSP")


@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_refused(tenths: int, stored: Path, tmp_path: Path) -> None:
    content = stored.read_bytes()
    (tmp_path / "short.safetensors").write_bytes(content[: len(content) * tenths // 10])
    refused(tmp_path / "short.safetensors", "is no safetensors file|cannot be|is empty", p2s.load_generator)
