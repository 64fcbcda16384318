"""Probes fitted to labels of faces that were looked at: what they read off, and how they are measured."""

import torch

from face_scores import PROBES
from fit_looked_at import area_under_curve, fitted, held_out, labels
from pixel2style.formats import safetensors


def features(count: int = 60) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2


def test_labels_are_grades_or_missing_and_each_has_a_probe() -> None:
    found, probes = labels(), safetensors.read(PROBES)
    assert {f"{name}{part}" for name in found for part in ("", ".bias")} == set(probes)
    for label in found.values():
        assert len(label) == 240
        assert set(label[~label.isnan()].tolist()) == {0.0, 1.0, 2.0}


def test_a_probe_finds_a_linear_label_on_faces_that_were_left_out() -> None:
    x = features()
    label = 0.1 * x[:, 0] - 0.05 * x[:, 3] + 1
    assert float(torch.corrcoef(torch.stack([held_out(x, label), label]))[0, 1]) > 0.99
    weights, bias = fitted(x, label)
    assert abs(float((x @ weights + bias - label).mean())) < 1e-4


def test_a_random_label_is_not_found_on_faces_that_were_left_out() -> None:
    label = torch.randint(0, 2, (60,), generator=torch.Generator().manual_seed(1)).float()
    assert area_under_curve(held_out(features(), label), label > 0) < 0.7


def test_the_area_under_the_curve_counts_ordered_pairs() -> None:
    positive = torch.tensor([True, True, False, False])
    assert area_under_curve(torch.tensor([3.0, 2.0, 1.0, 0.0]), positive) == 1
    assert area_under_curve(torch.tensor([3.0, 0.0, 1.0, 1.0]), positive) == 0.5
    assert area_under_curve(torch.zeros(4), positive) == 0.5
