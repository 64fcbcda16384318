"""What tasks make of a source and of what rows draw, for the detail encoder."""

from functools import partial

import torch

from pixel2style import tasks
from pixel2style.ops import blurred
from pixel2style.tasks import degrade, inpaint, superres
from tests.support.golden_rule import img


def hidden_box() -> torch.Tensor:
    known = torch.ones(1, 1, 64, 64)
    known[..., 16:40, 24:50] = 0
    return known


def test_inpaint_shows_known_pixels_as_they_are() -> None:
    photo, drawn, known = img("photo", 1, 3, 64, 64), img("drawn", 1, 3, 64, 64), hidden_box()
    shown = inpaint.shown(degrade.hide(photo, known), drawn, None)
    assert torch.allclose(shown * known, photo * known, atol=1e-6)


def test_inpaint_shows_what_rows_draw_where_they_fit_the_known_pixels() -> None:
    photo, known = img("photo", 1, 3, 64, 64), hidden_box()
    assert torch.allclose(inpaint.shown(degrade.hide(photo, known), photo, None), photo, atol=1e-6)


def test_inpaint_continues_a_difference_in_colour_into_the_hidden_part() -> None:
    photo, known = 0.5 * img("photo", 1, 3, 64, 64), hidden_box()
    colour = torch.tensor([0.2, -0.1, 0.3])[:, None, None]
    shown = inpaint.shown(degrade.hide(photo, known), photo - colour, None)
    assert torch.allclose(shown, photo, atol=1e-5)


def test_inpaint_resizes_what_rows_draw() -> None:
    photo, known = img("photo", 2, 3, 64, 64), hidden_box().expand(2, -1, -1, -1)
    sources = torch.cat([photo * known, known], 1)
    assert inpaint.shown(sources, img("drawn", 2, 3, 32, 32), None).shape == photo.shape


def test_continued_values_lie_between_the_known_ones() -> None:
    known = (img("known", 2, 1, 37, 50) > 0.8).float()
    values = img("values", 2, 3, 37, 50) * known
    continued = degrade.continued(values, known)
    assert continued.shape == values.shape
    assert torch.allclose(continued * known, values, atol=1e-6)
    assert continued.max() <= values.max() + 1e-5
    assert continued.min() >= values.min() - 1e-5


def test_continued_values_are_zero_where_nothing_is_known() -> None:
    assert not degrade.continued(torch.zeros(1, 3, 20, 20), torch.zeros(1, 1, 20, 20)).any()


def test_superres_shows_what_the_small_picture_says() -> None:
    photo, drawn = (0.5 * blurred(img(name, 1, 3, 64, 64), 1.0) for name in ("photo", "drawn"))
    reduce = partial(degrade.low_resolution, factor=8)
    shown = superres.shown(reduce(photo), drawn, reduce)
    error, before = ((reduce(one) - reduce(photo)).square().mean() for one in (shown, drawn))
    assert error < 0.1 * before


def test_superres_shows_what_rows_draw_where_it_fits_the_small_picture() -> None:
    photo, reduce = img("photo", 1, 3, 64, 64), partial(degrade.low_resolution, factor=8)
    assert torch.allclose(superres.shown(reduce(photo), photo, reduce), photo.clamp(-1, 1), atol=1e-6)


def test_superres_shows_the_picture_itself_where_nothing_was_lost() -> None:
    photo = img("photo", 1, 3, 64, 64)
    assert superres.shown(photo, img("drawn", 1, 3, 64, 64), None) is photo


def test_only_tasks_whose_results_match_their_sources_show_something() -> None:
    assert {name for name, task in tasks.TASKS.items() if task.shown} == {"invert", "domain", "superres", "inpaint"}
    assert all(task.refinable for task in tasks.TASKS.values() if task.shown)
