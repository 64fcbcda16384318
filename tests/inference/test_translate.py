"""Translation as a user meets it: what the encoder is shown, what comes out, what is refused and in which words."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

import pixel2style as p2s
from pixel2style import cli, images, tasks
from pixel2style.config import EncoderConfig, GeneratorConfig, ModelConfig, SourceConfig
from pixel2style.inference import prepare
from pixel2style.tasks import degrade, inpaint, label_maps
from pixel2style.tasks.request import Prepared, Request
from tests.support import stand_in
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")
SOURCE = SourceConfig(classes=5)
CHANNELS = {"sketch": 1, "segmentation": 5, "inpaint": 4}
SIZE = stand_in.SIZE
GREEN = (0, 255, 0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with random weights for every task."""
    folder = tmp_path_factory.mktemp("models")
    for name in tasks.TASKS:
        model = stand_in.random_model(channels=CHANNELS.get(name, 3))
        model.config = replace(model.config, task=name, source=SOURCE)
        p2s.save(model, folder / f"{name}.safetensors")
    return {name: folder / f"{name}.safetensors" for name in tasks.TASKS}


@pytest.fixture(scope="module")
def session() -> p2s.Session:
    """Finds faces; its model is never used."""
    return p2s.Session("faces", "cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """What each task is shown."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    images.load(ASTRONAUT).convert("L").save(folder / "drawing.png")
    Image.fromarray(np.arange(25, dtype=np.uint8).reshape(5, 5) % 5).save(folder / "map.png")
    files = {"sketch": folder / "drawing.png", "segmentation": folder / "map.png"}
    return {name: files.get(name, ASTRONAUT) for name in tasks.TASKS}


def full_size(task: str, side: int = 256) -> ModelConfig:
    """The configuration of a model that nobody builds."""
    return ModelConfig(EncoderConfig(input_size=256), GeneratorConfig(size=side), task=task)


def prepared(session: p2s.Session, photo: Image.Image | Path, request: Request, side: int = 256) -> Prepared:
    aligner = session.aligner if prepare.needs_face(request) else None
    return prepare.prepare(photo, request.opened(), full_size(request.task, side), aligner)


def run(command: str, *arguments: object) -> int:
    try:
        return cli.main([*shlex.split(command), *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)


def picture(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def written(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


OPTIONS = {"inpaint": "--mask box", "superres": "--factor 8"}


@pytest.mark.parametrize("task", tasks.TASKS)
def test_every_task_writes_result_pair_samples_and_rows_that_draw_them(
    tmp_path: Path, models: dict[str, Path], pictures: dict[str, Path], task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, name = tmp_path / "out", pictures[task].stem
    words = f"translate {task} --samples 2 --rows 3- {OPTIONS.get(task, '')}"
    assert run(words, pictures[task], "--out", out, "--model", models[task]) == 0
    pictures_of_it = [f"{name}{end}" for end in (".pair.png", ".png", ".samples.png")]
    assert written(out) == sorted([*pictures_of_it, "latents.safetensors"])
    rows, model = load_file(out / "latents.safetensors"), p2s.load(models[task])
    assert rows[name].shape == (stand_in.ROWS, stand_in.WIDTH)
    assert rows[f"{name}.samples"].shape == (2, stand_in.ROWS, stand_in.WIDTH)
    drawn = [images.to_picture(model.decode(ws[None])[0]) for ws in (rows[name], *rows[f"{name}.samples"])]
    result, pair, sheet = (picture(out / f"{name}{end}") for end in (".png", ".pair.png", ".samples.png"))
    assert result.shape == (SIZE, SIZE, 3)
    assert np.abs(result - np.asarray(drawn[0])).max() <= 1
    assert np.array_equal(pair[:, SIZE:], result)
    assert np.array_equal(sheet[:SIZE], pair)
    assert np.array_equal(sheet[SIZE:], np.concatenate([np.asarray(one) for one in drawn[1:]], 1))
    said = capsys.readouterr()
    assert all(str(out / file) in said.out for file in written(out))
    assert said.err == ""


def test_python_gives_what_the_command_writes(tmp_path: Path, models: dict[str, Path]) -> None:
    words = "translate superres --factor 4 --samples 1 --rows 2,4- --seed 5 --alpha .5"
    assert run(words, ASTRONAUT, "--out", tmp_path, "--model", models["superres"]) == 0
    session = p2s.Session(models["superres"], "cpu")
    result = session.translate(images.load(ASTRONAUT), factor=4, samples=1, rows="2,4-", seed=5, alpha=0.5)
    rows = load_file(tmp_path / "latents.safetensors")
    assert torch.equal(result.ws, rows["astronaut"])
    assert result.sample_ws is not None and torch.equal(result.sample_ws, rows["astronaut.samples"])
    for found, end in ((result.reconstruction, ""), (result.pair, ".pair"), (result.sheet, ".samples")):
        assert np.array_equal(np.asarray(found), picture(tmp_path / f"astronaut{end}.png"))


def test_inversion_is_the_translation_of_that_name(models: dict[str, Path]) -> None:
    session = p2s.Session(models["invert"], "cpu")
    translated, inverted = session.translate(ASTRONAUT), session.invert(ASTRONAUT)
    assert torch.equal(translated.ws, inverted.ws)
    assert np.array_equal(translated.pair, inverted.pair)
    assert inverted.samples == () and inverted.sample_ws is None


def test_a_batch_gives_what_single_pictures_give(tmp_path: Path, models: dict[str, Path]) -> None:
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "gray")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / f"{name}.png")
    words = "translate inpaint --no-align --mask half --samples 2 --rows 3-"
    for batch in (1, 2):
        files = [tmp_path / f"{name}.png" for name in "abc"]
        options = ("--model", models["inpaint"], "--batch", batch, "--device", "cpu")
        assert run(words, *files, "--out", tmp_path / str(batch), *options) == 0
    single, double = (load_file(tmp_path / name / "latents.safetensors") for name in "12")
    assert sorted(single) == sorted(double) == ["a", "a.samples", "b", "b.samples", "c", "c.samples"]
    assert all(torch.equal(single[name], double[name]) for name in single), "to the bit, on a CPU"


def test_a_picture_that_cannot_be_used_costs_only_itself(
    tmp_path: Path, models: dict[str, Path], pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures["sketch"].parent
    (folder / "torn.png").write_bytes(ASTRONAUT.read_bytes()[:3000])
    Image.new("RGB", (80, 80), "gray").save(folder / "plain.png")
    words = ("translate frontalize", ASTRONAUT, folder / "plain.png", folder / "torn.png", folder / "none.png")
    assert run(*words, "--out", tmp_path / "out", "--model", models["frontalize"]) == 2
    assert written(tmp_path / "out") == ["astronaut.pair.png", "astronaut.png", "latents.safetensors"]
    said = capsys.readouterr().err
    assert said.count("\n") == 3
    assert all(word in said for word in ("plain.png: no face", "torn.png", "none.png does not exist"))


def test_label_maps_are_held_to_what_the_model_knows(
    tmp_path: Path, models: dict[str, Path], pictures: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures["segmentation"].parent
    Image.fromarray(np.full((5, 5), 7, np.uint8)).save(folder / "seven.png")
    Image.new("L", (5, 5)).save(folder / "blurred.jpg")
    files = (pictures["segmentation"], folder / "seven.png", folder / "blurred.jpg")
    assert run("translate segmentation", *files, "--out", tmp_path / "out", "--model", models["segmentation"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert "seven.png holds class 7, and classes go from 0 to 4" in said
    assert "blurred.jpg is a JPEG" in said
    read = label_maps.read(pictures["segmentation"], 64, SOURCE)[None]
    ws = p2s.load(models["segmentation"]).encode(read)[0]
    assert torch.allclose(load_file(tmp_path / "out" / "latents.safetensors")["map"], ws, atol=1e-5)


def test_sketches_are_never_cut(models: dict[str, Path], pictures: dict[str, Path]) -> None:
    """A photograph's face would fill the picture; a drawing stays what it is, with and without alignment."""
    session = p2s.Session(models["sketch"], "cpu")
    read = tasks.read_source(tasks.TASKS["sketch"], pictures["sketch"], 64, SOURCE)
    for align in (True, False):
        result = session.translate(pictures["sketch"], align)
        assert torch.allclose(result.ws, session.model.encode(read[None])[0], atol=1e-5)
        assert np.array_equal(result.aligned, images.to_picture(read * 2 - 1))
    with pytest.raises(p2s.ConfigError, match="path"):
        session.translate(images.load(pictures["sketch"]))


def test_things_that_are_no_faces_are_not_searched_for_one(models: dict[str, Path]) -> None:
    cat = Image.new("RGB", (60, 30), "orange")
    assert p2s.Session(models["domain"], "cpu").translate(cat).aligned.size == (SIZE, SIZE)
    with pytest.raises(p2s.NoFaceError):
        p2s.Session(models["toonify"], "cpu").translate(cat)


def test_a_task_of_ones_own_makes_its_source(
    tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = tasks.Task("gray to colour", channels=1, source=lambda target, rng, config: (target.mean(0)[None] + 1) / 2)
    monkeypatch.setitem(tasks.TASKS, "colourise", gray)
    model = p2s.load(models["sketch"])
    model.config = replace(model.config, task="colourise")
    p2s.save(model, tmp_path / "colourise.safetensors")
    seen = p2s.Session(tmp_path / "colourise.safetensors", "cpu").translate(ASTRONAUT).aligned
    assert seen.size == (256, 256)
    assert (np.ptp(np.asarray(seen), axis=2) == 0).all()


# fewer pixels


def test_a_factor_shows_the_aligned_photograph_reduced_as_in_training(session: p2s.Session) -> None:
    aligned = images.to_tensor(session.frame(images.load(ASTRONAUT)).cut(images.load(ASTRONAUT), 256))
    for factor in (8, 32):
        source = prepared(session, ASTRONAUT, Request("superres", factor=factor)).source
        assert torch.allclose(source, degrade.low_resolution(aligned, factor), atol=1e-6)


def test_a_small_picture_is_shown_as_training_shows_files(session: p2s.Session, tmp_path: Path) -> None:
    few = session.frame(images.load(ASTRONAUT)).cut(images.load(ASTRONAUT), 32)
    few.save(tmp_path / "few.png")
    source = prepared(session, tmp_path / "few.png", Request("superres", align=False), 1024).source
    read = tasks.read_source(tasks.TASKS["superres"], tmp_path / "few.png", 256, SourceConfig())
    assert torch.equal(source, read)


def test_a_face_in_a_small_picture_is_found_and_enlarged_from_its_own_pixels(session: p2s.Session) -> None:
    small = images.load(ASTRONAUT).resize((128, 128))
    one = prepared(session, small, Request("superres"), 1024)
    frame = session.frame(small)
    assert 40 < frame.side < 110
    few = images.to_tensor(frame.cut(small, frame.side).resize((256, 256), Image.Resampling.BICUBIC))
    assert torch.equal(one.source, few)
    left, right = session.aligner.find(one.picture).landmarks[:2]
    assert abs(left[1] - right[1]) < 5
    assert abs((left[0] + right[0]) / 2 - 128) < 10


# photographs


def test_a_large_photograph_is_shown_as_sharp_as_in_training(session: p2s.Session) -> None:
    for side, shown in ((1024, 256), (128, 128)):
        one = prepared(session, ASTRONAUT, Request("invert"), side)
        assert one.picture.size == (side, side)
        assert torch.equal(one.source, images.to_tensor(one.picture.resize((shown, shown), Image.Resampling.BICUBIC)))


def test_a_small_photograph_keeps_its_own_pixels_and_is_what_refinement_wants(session: p2s.Session) -> None:
    photo = images.load(ASTRONAUT)
    small = photo.resize((256, 256))
    one = prepared(session, small, Request("invert", align=False), 1024)
    assert one.picture.size == (1024, 1024)
    assert torch.equal(one.source, images.to_tensor(small)) and torch.equal(one.wanted, one.source)
    large = prepared(session, photo, Request("invert", align=False), 1024)
    assert torch.equal(large.source, images.to_tensor(photo.resize((256, 256), Image.Resampling.BICUBIC)))
    assert torch.equal(large.wanted, images.to_tensor(large.picture))


# hidden parts


def test_hidden_pixels_reach_no_known_one_however_pictures_are_reduced(session: p2s.Session) -> None:
    shape = [(361, 303), (503, 267), (541, 325), (402, 381)]
    photo, mask = painted(images.load(ASTRONAUT).resize((1024, 1024)), shape)
    request = Request("inpaint", mask=mask, align=False)
    one = prepared(session, photo, request, 1024)
    photo.paste("white", mask=mask)
    assert torch.equal(one.source, prepared(session, photo, request, 1024).source)
    whole = photo.resize((256, 256), Image.Resampling.BICUBIC)
    known = one.source[3:]
    assert ((one.source[:3] - images.to_tensor(whole)) * known).abs().max() < 0.03
    assert 0.95 < known.mean() < 1


def painted(photo: Image.Image, shape: list[tuple[int, int]], scale: float = 1) -> tuple[Image.Image, Image.Image]:
    """A photograph with a green patch, and the mask of the patch at ``scale``."""
    photo, mask = photo.copy(), Image.new("L", photo.size)
    ImageDraw.Draw(photo).polygon(shape, fill=GREEN)
    ImageDraw.Draw(mask).polygon(shape, fill=255)
    return photo, mask.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.NEAREST)


def greenness(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels[1] - pixels[0].maximum(pixels[2])).clamp(min=0)


@pytest.mark.parametrize(("angle", "scale"), [(0, 1), (25, 1), (-25, 0.5)])
def test_a_mask_is_cut_and_turned_with_its_photograph(
    session: p2s.Session, tmp_path: Path, angle: float, scale: float
) -> None:
    photo = images.load(ASTRONAUT).rotate(angle, Image.Resampling.BICUBIC, fillcolor="gray")
    photo, mask = painted(photo, [(180, 150), (250, 130), (270, 160), (200, 190)], scale)
    mask.save(tmp_path / "mask.png")
    one = prepared(session, photo, Request("inpaint", mask=tmp_path / "mask.png", keep_known=True))
    assert one.target is not None
    green = greenness(one.target) > 1
    hidden = one.source[3] == 0
    assert 300 < green.sum() < 20_000
    assert (green & hidden).sum() > 0.97 * green.sum()
    assert hidden.sum() < green.sum() * (1.15 if scale == 1 else 1.35)
    if scale == 1:  # a coarser mask has steps at its edge
        assert greenness(one.source[:3]).max() < 0.35
    assert torch.equal(one.source[:3] * (1 - one.source[3:]), torch.zeros(3, 256, 256))


def test_a_mask_of_another_shape_is_stretched_and_a_note_says_so(session: p2s.Session) -> None:
    photo = Image.new("RGB", (80, 60))
    for size, notes in (((80, 60), 0), ((41, 30), 0), ((60, 80), 1), ((64, 64), 1)):
        mask = Image.new("L", size)
        mask.paste(255, (0, 0, size[0] // 2, size[1]))
        one = prepared(session, photo, Request("inpaint", mask=mask, align=False))
        assert len(one.notes) == notes and all(f"{size[0]} x {size[1]}" in note for note in one.notes)
        assert one.source[3].mean() == pytest.approx(0.5, abs=0.02)


def test_a_mask_hides_the_same_whether_it_is_given_as_a_file_or_as_a_picture(
    models: dict[str, Path], tmp_path: Path
) -> None:
    mask = Image.new("LA", (60, 60), (0, 255))
    mask.paste((100, 255), (0, 0, 20, 60))  # nearer to black
    mask.paste((160, 255), (20, 0, 40, 20))  # nearer to white
    mask.paste((0, 0), (40, 0, 60, 20))  # transparent: white
    mask.save(tmp_path / "mask.png")
    own = p2s.Session(models["inpaint"])
    by_file, by_picture = (
        own.translate(ASTRONAUT, False, mask=given).hidden for given in (str(tmp_path / "mask.png"), mask)
    )
    assert by_file is not None and by_picture is not None and torch.equal(by_file, by_picture)
    assert by_file.mean() == pytest.approx(2 / 9, abs=0.06)  # in a picture of few pixels


def test_what_is_transparent_is_hidden_where_no_mask_is_given(session: p2s.Session, tmp_path: Path) -> None:
    photo, mask = painted(images.load(ASTRONAUT), [(200, 130), (270, 130), (270, 170), (200, 170)])
    mask.save(tmp_path / "mask.png")
    by_mask = prepared(session, photo, Request("inpaint", mask=str(tmp_path / "mask.png"), align=False))
    torn = photo.copy()
    torn.putalpha(mask.point(lambda level: 255 - level))
    torn.save(tmp_path / "torn.png")
    by_alpha = prepared(session, tmp_path / "torn.png", Request("inpaint", align=False))
    assert torch.equal(by_mask.source[3], by_alpha.source[3])
    apart = (by_mask.source - by_alpha.source).abs()  # green there and white here, which rings a little at the border
    assert apart.max() < 0.3
    assert apart.mean() < 0.002
    with pytest.raises(p2s.ImageError, match=r"astronaut\.png: give --mask"):
        prepared(session, ASTRONAUT, Request("inpaint", align=False))


def test_a_drawn_mask_follows_from_the_seed_and_hides_some_of_the_face(session: p2s.Session) -> None:
    face = prepared(session, ASTRONAUT, Request("inpaint", mask="face")).source[3] == 0
    for kind in degrade.MASKS:
        known = [prepared(session, ASTRONAUT, Request("inpaint", mask=kind, seed=s)).source[3] for s in (0, 0, 1, 2)]
        assert torch.equal(known[0], known[1])
        assert not torch.equal(known[2], known[3])
        assert all((face & (one == 0)).sum() > 0.19 * face.sum() for one in known)


def test_named_masks_move_with_the_face(session: p2s.Session) -> None:
    photo = images.load(ASTRONAUT).rotate(20, Image.Resampling.BICUBIC)
    for kind in ("eyes", "mouth"):
        one = prepared(session, photo, Request("inpaint", mask=kind, keep_known=True))
        assert one.target is not None
        marks = session.aligner.find(images.to_picture(one.target)).landmarks.round().astype(int)
        hidden = [bool(one.source[3, y, x] == 0) for x, y in marks]
        assert hidden == ([True, True, False] + [False] * 2 if kind == "eyes" else [False] * 3 + [True, True])


def test_each_seed_gives_a_result_of_its_own(models: dict[str, Path], tmp_path: Path) -> None:
    words = ("translate inpaint --mask half --samples 1 --rows 3-", ASTRONAUT, "--model", models["inpaint"])
    assert run(*words, "--seed", "1-2,7", "--out", tmp_path / "out", "--batch", 2) == 0
    ends = (".pair.png", ".png", ".samples.png")
    names = [f"astronaut.seed{seed}" for seed in (1, 2, 7)]
    assert written(tmp_path / "out") == sorted([name + end for name in names for end in ends] + ["latents.safetensors"])
    rows = load_file(tmp_path / "out" / "latents.safetensors")
    session = p2s.Session(models["inpaint"], "cpu")
    for seed in (1, 2, 7):
        alone = session.translate(ASTRONAUT, mask="half", seed=seed, samples=1, rows="3-")
        assert torch.allclose(rows[f"astronaut.seed{seed}"], alone.ws, atol=1e-5)
        assert alone.sample_ws is not None
        assert torch.allclose(rows[f"astronaut.seed{seed}.samples"], alone.sample_ws, atol=1e-5)


def test_kept_pixels_are_those_of_the_photograph_and_hidden_ones_those_of_the_model(
    session: p2s.Session, tmp_path: Path
) -> None:
    photo, mask = painted(images.load(ASTRONAUT), [(200, 130), (270, 130), (270, 170), (200, 170)])
    mask.save(tmp_path / "mask.png")
    one = prepared(session, photo, Request("inpaint", mask=tmp_path / "mask.png", keep_known=True), 512)
    drawn = torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0)) - 0.5
    finished = np.asarray(one.finish(drawn)).astype(int)
    assert one.kept is not None
    hidden = session.frame(photo).cut(mask, 512).convert("L").point(lambda level: 255 * (level > inpaint.TOUCHED))
    hidden = np.asarray(hidden) > 0
    near = torch.nn.functional.max_pool2d(torch.from_numpy(hidden)[None, None].float(), 2 * 9 + 1, 1, 9)
    near = near[0, 0].bool().numpy()
    assert np.abs(finished - np.asarray(session.frame(photo).cut(photo, 512)).astype(int))[~near].max() <= 1
    offset = finished - np.asarray(images.to_picture(drawn)).astype(int)
    assert np.abs(np.diff(offset, axis=0))[hidden[1:] & hidden[:-1]].max() <= 4, "a smooth offset, and nothing else"
    assert hidden.sum() < near.sum() < 512 * 512 / 4
    seam = one.kept[0].numpy()
    assert seam[hidden].max() == 0 and seam[~near].min() == 1
    assert np.abs(np.diff(seam, axis=0)).max() < 0.2


def test_known_pixels_are_kept_in_every_variant_and_only_when_asked(models: dict[str, Path], tmp_path: Path) -> None:
    session = p2s.Session(models["inpaint"], "cpu")
    photo = images.load(ASTRONAUT)
    kept = session.translate(photo, mask="half", keep_known=True, samples=2, rows="0-")
    plain = session.translate(photo, mask="half", samples=2, rows="0-")
    assert torch.equal(kept.ws, plain.ws)
    here = np.asarray(session.prepare(photo)).astype(int)
    known = degrade.mask("half", SIZE, torch.Generator().manual_seed(0))
    inside = degrade.soften(known)[0].numpy() == 1
    for made in (kept.reconstruction, *kept.samples):
        assert np.abs(np.asarray(made).astype(int) - here)[inside].max() <= 1
    assert np.abs(np.asarray(plain.reconstruction).astype(int) - here)[inside].max() > 10


def test_a_mask_is_never_replaced_by_a_result(
    tmp_path: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mask = tmp_path / "astronaut.png"
    Image.new("L", (8, 8), 255).save(mask)
    before = mask.read_bytes()
    words = ("translate inpaint --no-align --overwrite", ASTRONAUT, "--mask", mask, "--out", tmp_path)
    assert run(*words, "--model", models["inpaint"]) == 2
    assert mask.read_bytes() == before
    assert "choose another --out" in capsys.readouterr().err


# variants


def test_variants_differ_in_the_chosen_rows_alone_and_the_seed_says_how(models: dict[str, Path]) -> None:
    session = p2s.Session(models["invert"], "cpu")
    three, five = (session.translate(ASTRONAUT, samples=n, rows="2,4-", seed=7) for n in (3, 5))
    assert three.sample_ws is not None and five.sample_ws is not None
    assert torch.allclose(three.sample_ws, five.sample_ws[:3], atol=1e-6)
    for rows in five.sample_ws:
        assert torch.equal(rows[[0, 1, 3]], five.ws[[0, 1, 3]])
        assert (rows[[2, 4, 5]] != five.ws[[2, 4, 5]]).all()
    assert len({tuple(rows[2].tolist()) for rows in five.sample_ws}) == 5
    other = session.translate(ASTRONAUT, samples=3, rows="2,4-", seed=8)
    assert other.sample_ws is not None and not torch.allclose(other.sample_ws, three.sample_ws, atol=0.01)


def test_alpha_goes_from_the_picture_itself_to_other_rows(models: dict[str, Path]) -> None:
    session = p2s.Session(models["invert"], "cpu")
    none, half, whole = (session.translate(ASTRONAUT, samples=1, rows="3-", alpha=a) for a in (0, 0.5, 1))
    assert none.sample_ws is not None and half.sample_ws is not None and whole.sample_ws is not None
    assert np.array_equal(none.samples[0], none.reconstruction)
    assert torch.allclose(half.sample_ws, (none.sample_ws + whole.sample_ws) / 2, atol=1e-6)


def test_a_sheet_has_nearly_as_many_columns_as_rows() -> None:
    tile = Image.new("RGB", (8, 8))
    sizes = [p2s.Result(tile, tile, torch.empty(0), (tile,) * n).sheet.size for n in (0, 1, 2, 3, 7, 10)]
    assert sizes == [(16, 8), (16, 16), (16, 16), (24, 16), (24, 24), (32, 24)]


# refusals


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("superress a.png --out {}", "did you mean superres"),
        ("toonify a.png --out {}", "pixel2style train toonify-compact"),
        ("superres a.png --out {} --model {frontalize}", "frontalize, not superres"),
        ("frontalize a.png --out {} --model {frontalize} --factor 8", "--factor"),
        ("frontalize a.png --out {} --model {frontalize} --mask box", "--mask"),
        ("sketch a.png --out {} --model {sketch} --keep-known", "--keep-known"),
        ("superres a.png --out {} --model {superres} --factor 7", "--factor must divide 256"),
        ("superres a.png --out {} --model {superres} --factor 0", "--factor must divide 256"),
        ("inpaint a.png --out {} --model {inpaint} --mask boxes", "boxes does not exist"),
        ("invert a.png --out {} --model {invert} --samples 2", "rows go from 0 to 5"),
        ("invert a.png --out {} --model {invert} --samples 2 --rows two", "rows are coarse, medium, fine"),
        ("invert a.png --out {} --model {invert} --samples 49", "--samples must be from 0 to 48"),
        ("invert a.png --out {} --model {invert} --samples -1", "--samples"),
        ("invert a.png --out {} --model {invert} --seed 1,x", "--seed is a number"),
        ("invert a.png --out {} --model {invert} --seed 3-1", "--seed is a number"),
        ("invert a.png --out {} --model {invert} --seed 0-100", "up to 100"),
        ("invert a.png --out {} --model {invert} --seed 0-99,200", "up to 100"),
        ("invert a.png --out {} --model {invert} --alpha 1.5", "--alpha must be from 0"),
        ("invert a.png --out {} --model {invert} --alpha nan", "--alpha must be from 0"),
        ("invert a.png --out {} --model {invert} --batch 0", "--batch"),
        ("invert --out {}", "no photograph"),
        ("invert a.png", "--out"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_before_any_picture_is_read(
    tmp_path: Path, models: dict[str, Path], words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("translate " + words.format(shlex.quote(str(out)), **models)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert told in said.err
    assert not out.exists() or written(out) == []


def test_a_seed_goes_with_what_may_be_random_also_in_tasks_of_others(
    session: p2s.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = session.model.config
    monkeypatch.setitem(tasks.TASKS, "noisy", tasks.Task("noise to a face", prepare=inpaint.prepare))
    for random in (Request("noisy"), Request("inpaint", mask="box"), Request("superres", samples=1)):
        prepare.check_seed(random, config)
    for fixed in (Request("frontalize"), Request("inpaint", mask="eyes"), Request("sketch", make_sketch="lines")):
        with pytest.raises(p2s.ConfigError, match="--seed"):
            prepare.check_seed(fixed, config)


def test_a_model_whose_channels_are_not_its_tasks_is_refused(tmp_path: Path) -> None:
    odd = stand_in.save_random_model(tmp_path / "odd.safetensors", channels=1)
    with pytest.raises(p2s.ConfigError, match="reads 1 channels"):
        p2s.Session(odd, "cpu").translate(ASTRONAUT)


def test_the_model_of_a_task_is_the_bundled_one_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare.model_for("invert") == "faces"
    monkeypatch.setattr(prepare.assets, "names", lambda: ["faces", "superres"])
    assert prepare.model_for("superres") == "superres"
    with pytest.raises(p2s.CheckpointError, match="no model for inpaint is bundled: train one"):
        prepare.model_for("inpaint")


def test_results_of_an_earlier_run_are_kept_until_their_replacement_is_asked_for(
    tmp_path: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "astronaut.samples.png").write_text("precious")
    words = ("translate invert --samples 1 --rows 3-", ASTRONAUT, "--out", tmp_path, "--model", models["invert"])
    assert run(*words) == 2
    assert written(tmp_path) == ["astronaut.samples.png"]
    assert "--overwrite" in capsys.readouterr().err
    assert run(*words, "--overwrite") == 0
    assert (tmp_path / "astronaut.samples.png").read_bytes().startswith(b"\x89PNG")


def test_two_pictures_whose_sheets_and_rows_would_have_one_name_are_refused(
    tmp_path: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "a.samples.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    words = ("translate invert --no-align --samples 1 --rows 3-", tmp_path / "a.png", tmp_path / "a.samples.png")
    assert run(*words, "--out", tmp_path / "out", "--model", models["invert"]) == 2
    assert "would replace that of" in capsys.readouterr().err
