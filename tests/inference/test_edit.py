"""Edits: what the words of --set mean, and that nothing changes but what was asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pixel2style import checkpoints, images
from pixel2style.cli import main
from pixel2style.config import GeneratorConfig
from pixel2style.editing import local
from pixel2style.editing.directions import Direction
from pixel2style.errors import CheckpointError, ConfigError, OutputError
from pixel2style.generators import StyleGAN2, sampling
from pixel2style.inference import edit
from pixel2style.inference.edit import Move
from pixel2style.inference.folder import edit_into, translate_into
from pixel2style.inference.session import Session
from pixel2style.metrics import attributes
from pixel2style.models.inversion import Inversion
from pixel2style.photos import find
from pixel2style.tasks.request import Request
from tests.support import bundled
from tests.support.paths import ASTRONAUT


@pytest.fixture(scope="module")
def session() -> Session:
    return bundled.session()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(torch.randn(512, generator=torch.Generator().manual_seed(0)), tmp_path / "d.pt")
    return tmp_path / "d.pt"


@pytest.mark.parametrize(("number", "amount"), [("2", 2.0), ("+2", 2.0), ("-1.5", -1.5), (".5", 0.5), ("0", 0.0)])
def test_a_move_is_a_direction_and_an_amount(number: str, amount: float, file: Path, session: Session) -> None:
    move = edit.parsed(f"{file}={number}", session.model.generator)
    assert move.amount == amount and move.direction.name == "d"


@pytest.mark.parametrize("text", ["age", "age=", "=2", "d.pt=two", "nothing=1", "d.pt=1e9", "d.pt=99"])
def test_words_that_are_no_move_are_refused(text: str, file: Path, session: Session) -> None:
    with pytest.raises((ConfigError, CheckpointError)):
        edit.parsed(text.replace("d.pt", str(file)), session.model.generator)


def test_moves_compose_and_keep_to_their_rows() -> None:
    ws = torch.randn(16, 512, dtype=torch.float64)
    first, second = (
        Direction(n, torch.randn(16, 512, dtype=torch.float64), r) for n, r in (("a", "0-3"), ("b", "3-5"))
    )
    moved = edit.edited(ws, [Move(first, 2.0), Move(second, -1.0)])
    assert torch.equal(moved[6:], ws[6:])
    assert torch.allclose(moved[3] - ws[3], 2 * first.vector[3] - second.vector[3])
    assert torch.allclose(edit.edited(moved, [Move(first, -2.0), Move(second, 1.0)]), ws)
    strip = edit.strip(ws, [Move(first, 2.0)], 5)
    assert torch.allclose(strip[2], ws) and torch.allclose(strip[4], edit.edited(ws, [Move(first, 2.0)]))
    assert torch.allclose(strip[0] + strip[4], 2 * ws)


@pytest.mark.usefixtures("one_thread")
def test_an_edit_of_nothing_is_the_inversion_features_included(session: Session) -> None:
    result = bundled.inverted()
    same = session.edit(result, result.ws)
    assert result.features
    assert same.reconstruction.tobytes() == result.reconstruction.tobytes()


@pytest.mark.usefixtures("one_thread")
def test_the_command_edits_a_photograph(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["edit", str(ASTRONAUT), "--out", str(out), "--set", f"{file}=3", "--strip", "2"]) == 0
    assert images.load(out / "astronaut.strip.png").size == (2048, 1024)
    rows = load_file(out / "latents.safetensors")["astronaut"]
    assert torch.allclose(rows - bundled.inverted().ws, 3 * torch.load(file).expand(16, -1), atol=0.02)
    assert main(["edit", str(ASTRONAUT), "--out", str(tmp_path / "x")]) == 2
    assert "--set" in capsys.readouterr().err


def test_mixing_all_rows_gives_the_other_and_none_gives_oneself() -> None:
    ws, others = torch.randn(16, 512), torch.randn(2, 16, 512)
    assert torch.allclose(edit.mixed(ws, others[:1], [3.0], "0-", 1.0), others[0])
    assert torch.equal(edit.mixed(ws, others, [1, 1], "fine", 0.0), ws)
    fine = edit.mixed(ws, others, [1.0, 3.0], "fine", 1.0)
    assert torch.equal(fine[:8], ws[:8])
    assert torch.allclose(fine[8:], others[0, 8:] / 4 + 3 * others[1, 8:] / 4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "path", "weight"), [("a.jpg", "a.jpg", 1), ("a.jpg:0.3", "a.jpg", 0.3), ("c:/a.jpg", "c:/a.jpg", 1)]
)
def test_a_share_is_a_photograph_and_a_weight(text: str, path: str, weight: float) -> None:
    assert edit.parsed_share(text) == edit.Share(Path(path), weight)


def test_weights_that_are_no_shares_are_refused() -> None:
    for weight in ("0", "9" * 400):
        with pytest.raises(ConfigError, match="weight"):
            edit.parsed_share(f"a.jpg:{weight}")


@pytest.mark.usefixtures("one_thread")
def test_the_command_mixes_a_face_with_itself_into_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mix", str(ASTRONAUT), "--out", str(tmp_path), "--with", f"{ASTRONAUT}:2", "--rows", "medium"]
    assert main(words) == 0
    rows = load_file(tmp_path / "latents.safetensors")["astronaut"]
    assert torch.allclose(rows, bundled.inverted().ws, atol=0.02)
    assert main(["mix", str(ASTRONAUT), "--out", str(tmp_path / "x")]) == 2
    assert "--with" in capsys.readouterr().err


def test_bundled_directions_have_figures_and_belong_to_the_bundled_generator_only(session: Session) -> None:
    known = edit.bundled(session.model.generator)
    assert {"age", "smile", "yaw", "masculine", "light"} <= known.keys()
    for name, direction in known.items():
        assert direction.name == name and direction.vector.shape == (16, 512)
        assert 0.5 < direction.figures["wanted"] < 1.5 and direction.figures["identity"] > 0.94
    torch.manual_seed(0)
    assert edit.bundled(StyleGAN2(GeneratorConfig(size=32, width=512, mapping_layers=1))) == {}


def test_age_makes_generated_faces_older_and_younger(session: Session) -> None:
    generator = session.model.generator
    w = sampling.draw(generator, 4, torch.Generator().manual_seed(9), generator.w_avg, 0.7)
    move = edit.parsed("age=1.5", generator)
    networks = attributes.pretrained()
    ages = []
    for share in (-1.0, 0.0, 1.0):
        ws = torch.stack([edit.edited(one.expand(16, -1), [move], share=share) for one in w])
        ages.append(float(networks(generator.synthesize(ws, 256).clamp(-1, 1)).age.mean()))
    assert ages[0] + 8 < ages[1] < ages[2] - 8


def test_the_list_names_every_direction(capsys: pytest.CaptureFixture[str], session: Session) -> None:
    assert main(["directions"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == list(edit.bundled(session.model.generator))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_command_of_strength_0_writes_the_inversion(session: Session, tmp_path: Path) -> None:
    photos = find([str(ASTRONAUT)])
    (outcome,) = edit_into(tmp_path, photos, session, ["age=0", "smile=0"])
    ((_, inverted),) = session.invert_many(photos)
    made = images.load(outcome.files["reconstruction"])
    assert inverted.features and np.abs(np.asarray(made).astype(int) - inverted.reconstruction).max() <= 1


@pytest.mark.usefixtures("one_thread")
def test_a_step_forth_and_back_draws_the_inversion_again(session: Session) -> None:
    result = session.invert(ASTRONAUT, refine=0)
    move = edit.parsed("age=2", session.model.generator)
    back = edit.edited(edit.edited(result.ws, [move]), [Move(move.direction, -2)])
    assert torch.allclose(back, result.ws, atol=1e-5)
    difference = np.asarray(session.edit(result, back).reconstruction).astype(int) - result.reconstruction
    assert np.abs(difference).mean() < 0.5


@pytest.mark.usefixtures("one_thread")
def test_an_edit_of_a_region_changes_it_and_nothing_else(session: Session) -> None:
    result = session.invert(ASTRONAUT, refine=0)
    moves = [edit.parsed("smile=-2", session.model.generator)]
    ws = edit.edited(result.ws, moves)
    made = images.to_tensor(session.edit(result, ws, only="mouth").reconstruction)
    before = images.to_tensor(result.reconstruction)
    change = (made - before).abs().amax(0)
    assert float(change[:560].amax()) == 0, "eyes and hair are the inversion's, to the bit"
    assert float(change[680:860, 400:620].mean()) > 0.05
    left = Image.new("L", (256, 512))
    left.paste(255, (0, 0, 100, 512))  # stretched over the photograph, with a note
    edited = session.edit(result, ws, only=left)
    assert any("256 x 512" in note for note in edited.notes)
    masked = images.to_tensor(edited.reconstruction)
    share = images.resize(session.region(result, left)[None], 1024)[0, 0]
    assert 0.1 < float(share.mean()) < 0.6
    assert torch.equal(masked[:, share == 0], before[:, share == 0])


@pytest.mark.usefixtures("one_thread")
def test_a_preview_is_the_picture_in_small_and_exact_where_float32_is_asked_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Session("faces", "cpu", "fp32")
    result = exact.invert(ASTRONAUT, refine=0)
    ws = edit.edited(result.ws, [edit.parsed("smile=1", exact.model.generator)])
    preview = np.asarray(exact.edit(result, ws, size=256).reconstruction).astype(int)
    maps = exact._carriers[1][exact.model.generator].maps(ws[None])
    drawn = exact.model.generator.draw(ws[None], maps, 256)
    assert np.array_equal(preview, images.to_picture(drawn[0]))
    monkeypatch.setattr("pixel2style.inference.session.fast_in_bf16", lambda device: True)
    quick = np.asarray(session.edit(result, ws, size=256).reconstruction).astype(int)
    assert 0 < np.abs(quick - preview).mean() < 0.8 and np.abs(quick - preview).max() < 16


def test_an_edit_that_draws_nothing_is_refused(session: Session) -> None:
    result = bundled.inverted()
    ws = result.ws + 2000 * torch.nn.functional.normalize(
        torch.randn(512, generator=torch.Generator().manual_seed(0)), dim=0
    )
    for only in (None, "mouth"):
        with pytest.raises(ConfigError, match="move them less"):
            session.edit(result, ws, only=only)


def test_joined_maps_are_the_edit_s_inside_and_the_inversion_s_outside() -> None:
    generator = checkpoints.load_generator("mobilestylegan_ffhq_1024")
    rng = torch.Generator().manual_seed(3)
    ws, other = (sampling.draw(generator, 1, rng, generator.w_avg, 0.7)[:, None].expand(1, 16, -1) for _ in range(2))
    residual = {32: torch.randn(1, 512, 32, 32, generator=rng)}
    inversion, edited = Inversion(ws, residual), Inversion(other, {32: 0.5 * residual[32]})
    for mask, same in ((torch.zeros(1, 256, 256), inversion), (torch.ones(1, 256, 256), edited)):
        joined = local.joined(generator, inversion, edited, mask)
        for side in (16, 32, 64):
            wanted = generator.features(same.ws, side, residuals={k: v for k, v in same.features.items() if k <= side})
            found = generator.features(other, side, residuals={k: v for k, v in joined.features.items() if k <= side})
            assert torch.allclose(found, wanted, atol=1e-3 * float(wanted.std()), rtol=1e-3)


def test_what_an_edit_reads_is_not_replaced_by_its_result(tmp_path: Path) -> None:
    mask = tmp_path / "astronaut.png"
    mask.write_bytes(b"mask")
    photos = find([str(ASTRONAUT)])
    with pytest.raises(OutputError, match=r"astronaut\.png"):
        list(edit_into(tmp_path, photos, Session(), ["age=1"], only=str(mask), overwrite=True))
    for option in ("like", "colours"):
        request = Request("segmentation", **{option: str(mask)})
        with pytest.raises(OutputError, match=r"astronaut\.png"):
            list(translate_into(tmp_path, photos, Session("segmentation"), request, overwrite=True))
    assert mask.read_bytes() == b"mask"


def test_words_that_are_no_region_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["edit", str(ASTRONAUT), "--set", "age=1", "--only", "elbow", "--out", str(tmp_path)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "elbow" in said and "mouth" in said and said.count("\n") == 1
