import numpy as np
import pytest
import torch

from pixel2style.errors import ConfigError
from pixel2style.tasks import face_masks

SIDE = 128
WAYS = {"left": (0, -1), "right": (0, 1), "top": (-1, 0), "bottom": (1, 0)}


def hidden(kind: str, landmarks: np.ndarray = face_masks.ALIGNED) -> np.ndarray:
    known = face_masks.mask(kind, SIDE, landmarks, torch.Generator().manual_seed(0))
    assert known.shape == (1, SIDE, SIDE)
    assert set(known.unique().tolist()) == {0.0, 1.0}
    return known[0].numpy() == 0


def at(mask: np.ndarray, point: np.ndarray) -> bool:
    x, y = (point * SIDE).astype(int)
    return bool(mask[y, x])


def test_an_aligned_face_has_its_eyes_and_mouth_where_ffhq_has_them() -> None:
    left, right, nose, *mouth = face_masks.ALIGNED
    assert np.allclose(left + right, [1.0, 2 * 0.4745], atol=0.01)
    assert left[0] == pytest.approx(0.375, abs=0.01)
    assert left[1] < nose[1] < mouth[0][1] < 0.8


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("eyes", {0, 1}),
        ("nose", {2}),
        ("mouth", {3, 4}),
        ("face", {0, 1, 2, 3, 4}),
        ("left", {0, 3}),
        ("right", {1, 4}),
    ],
)
def test_a_named_mask_hides_its_part_and_no_other(kind: str, parts: set[int]) -> None:
    mask = hidden(kind)
    expected = parts | ({2} & {i for i in range(5) if at(mask, face_masks.ALIGNED[i])} if kind in WAYS else set())
    assert {i for i in range(5) if at(mask, face_masks.ALIGNED[i])} == expected
    if kind in ("eyes", "nose", "mouth"):
        assert 0.005 < mask.mean() < 0.12


@pytest.mark.parametrize(("kind", "way"), WAYS.items())
def test_a_half_ends_at_its_side_of_the_picture(kind: str, way: tuple[int, int]) -> None:
    mask = hidden(kind)
    assert 0.3 < mask.mean() < 0.7
    edge = {(0, -1): mask[:, 0], (0, 1): mask[:, -1], (-1, 0): mask[0], (1, 0): mask[-1]}
    assert edge[way].all()
    assert not edge[-way[0], -way[1]].any()


@pytest.mark.parametrize("kind", face_masks.SHAPES)
def test_masks_move_with_the_landmarks(kind: str) -> None:
    shift = np.array([8, -4]) / SIDE
    moved = hidden(kind, face_masks.ALIGNED + shift)
    rolled = np.roll(hidden(kind), (-4, 8), (0, 1))
    assert (moved != rolled)[16:-16, 16:-16].mean() < 0.002


@pytest.mark.parametrize("kind", ["box", "strokes", "half"])
def test_every_seed_hides_a_fifth_of_the_face(kind: str) -> None:
    face = hidden("face")
    for seed in range(20):
        known = face_masks.mask(kind, SIDE, face_masks.ALIGNED, torch.Generator().manual_seed(seed))[0].numpy()
        assert (face & (known == 0)).sum() >= face_masks.LEAST_HIDDEN * face.sum()


def test_an_unknown_mask_is_refused() -> None:
    with pytest.raises(ConfigError, match="ears"):
        face_masks.mask("ears", SIDE, face_masks.ALIGNED, torch.Generator())
