"""Sources that are not RGB: read by adapted encoders, and shown."""

import pytest
import torch

from pixel2style.config import EncoderConfig
from pixel2style.models import encoders, input_channels
from tests.support.golden_rule import img

SEES = EncoderConfig(
    trunk="mobilefacenet", input_channels=6, input_size=32, rows=4, width=32, pyramid_width=32, heads="shared",
    tower_width=32, head_width=16,
)  # fmt: skip


def adapted(channels: int, classes: bool) -> tuple[encoders.Encoder, encoders.Encoder]:
    torch.manual_seed(0)
    before = encoders.build(SEES)
    shape = {name: getattr(SEES, name) for name in SEES.__dataclass_fields__} | {"input_channels": channels + 3}
    return before, input_channels.adapt(before, EncoderConfig(**shape), classes)


@pytest.mark.parametrize("classes", [2, 3, 4, 19])
def test_a_label_map_is_read_as_the_picture_that_is_shown_of_it(classes):
    before, after = adapted(classes, True)
    numbers = torch.arange(32 * 32).reshape(1, 32, 32) % classes
    maps = torch.nn.functional.one_hot(numbers, classes).permute(0, 3, 1, 2).float()
    drawn = img("drawn", 1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(
            after(torch.cat([maps, drawn], 1)),
            before(torch.cat([input_channels.to_rgb(maps, True), drawn], 1)),
            atol=1e-5,
        )
    colours = input_channels.to_rgb(maps, True).flatten(2)[0].T.unique(dim=0)
    assert len(colours) == classes


def test_a_mask_is_left_out_at_first_and_shown_by_what_it_hides():
    before, after = adapted(4, False)
    sources = torch.cat([img("masked", 1, 3, 32, 32), torch.ones(1, 1, 32, 32)], 1)
    drawn = img("drawn", 1, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(
            after(torch.cat([sources, drawn], 1)), before(torch.cat([sources[:, :3], drawn], 1)), atol=1e-5
        )
    assert torch.equal(input_channels.to_rgb(sources, False), sources[:, :3].clamp(-1, 1))


def test_gray_is_shown_as_gray_and_pictures_stay_what_they_are():
    assert torch.equal(
        input_channels.to_rgb(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3), False)[0, :, 0, 1], torch.zeros(3)
    )
    before, after = adapted(3, False)
    assert after is before
