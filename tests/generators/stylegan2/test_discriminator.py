import pytest
import torch

from pixel2style.config import GeneratorConfig
from pixel2style.errors import ConfigError
from pixel2style.generators.stylegan2.discriminator import Discriminator, append_group_std
from tests.support.golden_rule import arr, figures, img, relative_error, weights


def test_logits_equal_the_published_ones():
    discriminator = Discriminator(GeneratorConfig(size=64))
    published = weights("discriminator_64_cm2")
    discriminator.load_state_dict({key: value for key, value in published.items() if not key.endswith("kernel")})
    logits = discriminator(img("x", 4, 3, 64, 64))
    assert relative_error(logits, figures("discriminator_64_cm2")["logits"]) < 1e-4


def test_a_discriminator_has_gradients_and_compares_within_groups():
    torch.manual_seed(0)
    discriminator = Discriminator(GeneratorConfig(size=8))
    images = img("x", 6, 3, 8, 8)
    discriminator(images).sum().backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())
    with pytest.raises(ConfigError, match=r"3, 8, 8"):
        discriminator(img("x", 1, 3, 16, 16))


@pytest.mark.parametrize(("batch", "group"), [(1, 1), (3, 3), (4, 4), (6, 3), (7, 1), (8, 4)])
def test_spread_is_that_of_the_largest_group_that_divides_the_batch(batch, group):
    x = arr("x", batch, 5, 4, 4)
    spread = append_group_std(x)[:, 5]
    for first in range(batch // group):
        members = x[first :: batch // group]
        expected = (members.var(dim=0, correction=0) + 1e-8).sqrt().mean()
        assert torch.allclose(spread[first :: batch // group], expected.expand(group, 4, 4))


@pytest.mark.parametrize("config", [GeneratorConfig(size=32), GeneratorConfig(size=16, channels=(3, 5, 7))])
def test_a_discriminator_has_the_channels_of_its_generator(config):
    discriminator = Discriminator(config)
    assert discriminator(img("x", 2, 3, config.size, config.size)).shape == (2, 1)
    assert discriminator.convs[0][0].weight.shape[0] == (config.channels or (512,))[-1]
