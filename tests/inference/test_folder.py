"""A session from Python: one photograph there and back."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pixel2style as p2s
from pixel2style import checkpoints, images
from tests.support import stand_in
from tests.support.paths import ASTRONAUT


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> p2s.Session:
    model = stand_in.save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")
    return p2s.Session(model, "cpu")


def test_a_session_loads_nothing_before_it_is_used_and_then_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    whole = checkpoints.load
    monkeypatch.setattr(
        checkpoints, "load", lambda source, **options: loaded.append(source) or whole(source, **options)
    )
    session = p2s.Session(stand_in.save_random_model(tmp_path / "random.safetensors"), "cpu")
    assert loaded == []
    for _ in range(2):
        session.invert(Image.new("RGB", (20, 20)), align=False)
    assert len(loaded) == 1


def test_a_file_and_its_picture_give_the_same(session: p2s.Session) -> None:
    by_file, by_picture = session.invert(ASTRONAUT), session.invert(images.load(ASTRONAUT))
    assert torch.equal(by_file.ws, by_picture.ws)
    assert np.array_equal(by_file.reconstruction, by_picture.reconstruction)


def test_the_rows_draw_the_reconstruction(session: p2s.Session) -> None:
    result = session.invert(ASTRONAUT, align=False)
    assert result.ws.shape == (stand_in.ROWS, stand_in.WIDTH)
    with torch.inference_mode():
        drawn = images.to_picture(session.model.decode(result.ws[None])[0])
    assert np.array_equal(drawn, result.reconstruction)


def test_aligning_changes_what_the_encoder_sees(session: p2s.Session) -> None:
    assert not torch.equal(session.invert(ASTRONAUT).ws, session.invert(ASTRONAUT, align=False).ws)


def test_an_oblong_picture_is_cut_and_not_squeezed(session: p2s.Session) -> None:
    oblong = Image.new("RGB", (300, 100), "black")
    oblong.paste("white", (100, 0, 200, 100))
    assert np.asarray(session.prepare(oblong, align=False)).min() > 200


def test_the_pair_shows_the_photograph_on_the_left(session: p2s.Session) -> None:
    result = session.invert(Image.new("RGB", (50, 50), (200, 30, 40)), align=False)
    pair = np.asarray(result.pair)
    side = stand_in.SIZE
    assert pair.shape == (side, 2 * side, 3)
    assert (pair[:, :side] == (200, 30, 40)).all()
    assert np.array_equal(pair[:, side:], result.reconstruction)


def test_a_picture_without_a_face_is_said_to_have_none(session: p2s.Session) -> None:
    with pytest.raises(p2s.NoFaceError, match="--no-align"):
        session.invert(Image.new("RGB", (200, 200), "gray"))


def test_rows_may_be_optimised_further(session: p2s.Session) -> None:
    ws = session.invert(ASTRONAUT, align=False).ws.requires_grad_()
    session.model.decode(ws[None].float()).square().mean().backward()
    assert ws.grad is not None
