"""What users give to ``encode`` and ``decode``: used where it has one meaning, else refused in a sentence."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pixel2style import images
from pixel2style.config import SourceConfig
from pixel2style.errors import ConfigError
from pixel2style.models import given
from pixel2style.models.psp import PSP
from tests.models.test_psp import ROWS, SIDE, WIDTH, tiny
from tests.support.golden_rule import arr, img
from tests.support.paths import ASTRONAUT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> PSP:
    return tiny().requires_grad_(False)


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    return images.to_tensor(images.load(ASTRONAUT).resize((SIDE, SIDE)))[None]


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "uint8": (lambda: torch.zeros(1, 3, SIDE, SIDE, dtype=torch.uint8), "127.5"),
    "bool": (lambda: torch.zeros(1, 3, SIDE, SIDE, dtype=torch.bool), "127.5"),
    "0 to 255": (lambda: torch.linspace(0, 255, 3 * SIDE * SIDE).view(1, 3, SIDE, SIDE), "127.5"),
    "NumPy": (lambda: np.zeros((1, 3, SIDE, SIDE), np.float32), "ndarray"),
    "PIL": (lambda: Image.new("RGB", (SIDE, SIDE)), "to_tensor"),
    "a path": (lambda: "me.jpg", "str"),
    "nothing": (lambda: None, "NoneType"),
    "no picture": (lambda: torch.zeros(0, 3, SIDE, SIDE), "empty"),
    "no pixel": (lambda: torch.zeros(1, 3, 0, SIDE), "empty"),
    "NaN": (lambda: torch.zeros(1, 3, SIDE, SIDE).index_fill(3, torch.tensor([5]), float("nan")), "NaN"),
    "infinite": (lambda: torch.zeros(1, 3, 512, 512).index_fill(3, torch.tensor([5]), float("inf")), "NaN"),
    "too dark": (lambda: torch.full((1, 3, SIDE, SIDE), -3.0), "from -3 to -3"),
}


@pytest.mark.parametrize("call", ["encode", "invert"])
@pytest.mark.parametrize("name", REFUSED)
def test_images_that_can_only_be_a_mistake_are_refused(name: str, call: str, model: PSP) -> None:
    make, word = REFUSED[name]
    with pytest.raises(ConfigError, match=word):
        getattr(model, call)(make())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_any_floating_point_type_are_encoded(dtype: torch.dtype, model: PSP, photograph: Tensor) -> None:
    ws = model.encode(photograph.to(dtype))
    assert ws.dtype == torch.float32
    assert torch.equal(ws, model.encode(photograph.to(dtype).float()))


def test_a_model_of_bfloat16_encodes_and_draws(photograph: Tensor) -> None:
    model = tiny().requires_grad_(False).bfloat16()
    ws = model.encode(photograph)
    assert ws.dtype == torch.bfloat16
    assert model.decode(ws).isfinite().all()


def test_photographs_raise_no_warning_and_those_in_zero_to_one_do(model: PSP, photograph: Tensor) -> None:
    model.encode(photograph)
    model.encode(1.4 * photograph)
    model.encode(torch.ones_like(photograph))
    with pytest.warns(UserWarning, match=r"images \* 2 - 1"):
        model.encode(photograph / 2 + 0.5)


@pytest.mark.parametrize(("channels", "refused"), [(1, True), (4, True), (7, False)])
def test_pixels_have_a_range_and_other_channels_do_not(channels: int, refused: bool) -> None:
    model, source = tiny(channels).requires_grad_(False), torch.full((1, channels, SIDE, SIDE), 200.0)
    if refused:
        with pytest.raises(ConfigError, match="255"):
            model.encode(source)
    else:
        assert model.encode(source).shape == (1, ROWS, WIDTH)
    with pytest.raises(ConfigError, match="NaN"):
        model.encode(source * float("nan"))


def test_sketches_are_in_zero_to_one() -> None:
    sketches = tiny(1).requires_grad_(False)
    sketch = torch.linspace(0, 1, SIDE * SIDE).view(1, 1, SIDE, SIDE)
    sketches.encode(sketch)
    with pytest.raises(ConfigError, match=r"images / 2 \+ 0.5"):
        sketches.encode(2 * sketch - 1)


def one_hot(classes: int, side: int = SIDE) -> Tensor:
    """A label map with all classes: ``[1 classes side side]``."""
    found = torch.arange(side * side).view(1, side, side) // 5 % classes
    return torch.nn.functional.one_hot(found, classes).permute(0, 3, 1, 2).float()


NO_LABEL_MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "in [-1, 1]": lambda maps: 2 * maps - 1,
    "of 0 and 255": lambda maps: 255 * maps,
    "no class anywhere": torch.zeros_like,
    "no class in a corner": lambda maps: maps * (torch.arange(maps.shape[-1]) > 2),
    "two classes in each pixel": lambda maps: maps + maps.roll(1, 1),
    "inverted": lambda maps: 1 - maps,
    "log-probabilities": lambda maps: (maps * 4).log_softmax(1),
    "negative, and 1 together": lambda maps: 3 * maps - maps.roll(1, 1) - maps.roll(2, 1),
}


@pytest.mark.parametrize("side", [SIDE, 3 * SIDE])
@pytest.mark.parametrize("classes", [3, 4, 7])
def test_label_maps_have_one_class_in_each_pixel(classes: int, side: int) -> None:
    labels = tiny(classes, source=SourceConfig(classes=classes)).requires_grad_(False)
    maps = one_hot(classes, side)
    labels.encode(maps)  # of 3 classes, they are no RGB in [0, 1]
    for change in NO_LABEL_MAPS.values():
        with pytest.raises(ConfigError, match=f"{classes} classes"):
            labels.encode(change(maps))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_probabilities_of_classes_are_encoded_as_they_are(dtype: torch.dtype) -> None:
    labels = tiny(7, source=SourceConfig(classes=7)).requires_grad_(False)
    unsure = (4 * one_hot(7)).softmax(1).to(dtype)
    assert not torch.equal(labels.encode(unsure), labels.encode(one_hot(7)))
    assert torch.equal(labels.encode(unsure), labels.step(labels.fit(unsure.float()), None, None))


def test_numbers_are_read_only_where_there_are_any() -> None:
    seen = []

    def traced(x: Tensor) -> Tensor:
        seen.append(given.is_readable(x))
        return x * 1

    x = img("x", 1, 3, 8, 8)
    torch.func.vmap(traced)(x)
    traced(x.to("meta"))
    traced(x)
    assert seen == [False, False, True]


def test_an_exported_model_takes_any_number_of_images(model: PSP, photograph: Tensor) -> None:
    class Redraw(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pictures: Tensor) -> Tensor:
            return self.model.decode(self.model.encode(pictures))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = ({0: torch.export.Dim("batch", max=64)},)
        program = torch.export.export(Redraw(), (photograph.expand(2, -1, -1, -1),), dynamic_shapes=batch, strict=False)
    for count in (1, ROWS):
        drawn = program.module()(photograph.expand(count, -1, -1, -1))
        assert torch.allclose(drawn, model.decode(model.encode(photograph)).expand_as(drawn), atol=1e-5)


@pytest.mark.parametrize(
    ("ws", "word"),
    [
        (torch.zeros(ROWS, WIDTH), r"ws\[None\]"),
        (torch.full((1, ROWS, WIDTH), float("nan")), "NaN"),
        (torch.full((1, ROWS, WIDTH), float("inf")), "NaN"),
        (torch.full((1, ROWS, WIDTH), -1e24), "1e.24"),
        (torch.zeros(1, ROWS, WIDTH, dtype=torch.int64), "int64"),
        (np.zeros((1, ROWS, WIDTH), np.float32), "ndarray"),
        (None, "NoneType"),
    ],
    ids=["rows without a batch", "NaN", "infinite", "far too large", "whole numbers", "NumPy", "nothing"],
)
def test_rows_that_can_only_be_a_mistake_are_refused(ws: Any, word: str, model: PSP) -> None:
    with pytest.raises(ConfigError, match=word):
        model.decode(ws)


@pytest.mark.parametrize("features", [3, [torch.zeros(1)], {64: 0}, {64: torch.full((1, 8, 8, 8), float("nan"))}])
def test_features_that_can_only_be_a_mistake_are_refused(features: Any, model: PSP) -> None:
    with pytest.raises(ConfigError, match="features"):
        model.decode(torch.zeros(1, ROWS, WIDTH), features=features)


def test_vectors_of_w_are_rows_that_are_all_alike() -> None:
    ws = arr("ws", 2, WIDTH)
    assert given.rows_of(ws, ROWS, WIDTH) is ws
