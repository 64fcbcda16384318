"""Combining moves by what they change: the wanted score alone is left."""

import torch

from find_directions import combination, combined, is_better


def effects() -> tuple[torch.Tensor, torch.Tensor]:
    """Five moves of six faces: three change two scores each, one changes none, the last changes identity, too."""
    means = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.5], [0.5, 0.0, 1.0], [0.0, 0.0, 0.0], [0.8, 0.0, 0.0]])
    noise = 0.05 * torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))
    features = torch.zeros(5, 6, 4)
    features[4] = 2
    return means[:, None] + noise, features


def test_a_combination_changes_one_score_by_one_and_the_others_hardly() -> None:
    scores, features = effects()
    found = combined(scores, features, 0, same=1.0, ridge=0.001)
    change = torch.einsum("e,ena->na", found, scores).mean(0)
    assert abs(float(change[0]) - 1) < 0.1 and float(change[1:].abs().max()) < 0.1


def test_a_move_that_changes_identity_is_used_less_the_more_identity_weighs() -> None:
    scores, features = effects()
    cheap, dear = (float(combined(scores, features, 0, same, ridge=0.001)[4].abs()) for same in (0.0, 4.0))
    assert dear < 0.2 * cheap


def test_weights_are_chosen_from_those_that_are_tried() -> None:
    scores, features = effects()
    found, same, ridge = combination(scores, features, 1)
    change = torch.einsum("e,ena->na", found, scores).mean(0)
    assert abs(float(change[1]) - 1) < 0.1 and ridge == 0.02 and same in (1.0, 4.0)


def test_the_better_direction_loses_less_of_identity_and_changes_less_else() -> None:
    old = {"wanted": 1.0, "unwanted": 0.5, "unwanted_mean": 0.2, "identity": 0.96}
    assert is_better(old | {"identity": 0.97}, old)
    assert is_better(old | {"unwanted_mean": 0.1}, old)
    assert not is_better(old, old)
    assert not is_better(old | {"unwanted_mean": 0.1, "identity": 0.94}, old)
    assert not is_better(old | {"unwanted_mean": 0.1, "wanted": 0.7}, old)
