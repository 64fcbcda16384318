import pytest
import torch
from torch import Tensor, nn

from golden_rule import arr, figures, img, relative_error, small, weights
from pixel2style.config import GeneratorConfig
from pixel2style.discriminator import Discriminator, append_spread
from pixel2style.errors import ConfigError
from pixel2style.sampling import average_w
from pixel2style.stylegan2 import StyleGAN2

TINY = GeneratorConfig(size=16, width=32, mapping_layers=2, channel_multiplier=1)


def state_of(name: str) -> dict[str, Tensor]:
    """A published state by the module docstring's two adjustments."""
    return {
        key: value[0] if value.ndim == 5 else value
        for key, value in weights(name).items()
        if not key.endswith("kernel")
    }


def golden_generator(size: int, multiplier: int) -> StyleGAN2:
    generator = StyleGAN2(GeneratorConfig(size=size, channel_multiplier=multiplier))
    average = arr("mean_latent", 1, 512, scale=0.3)[0]
    generator.load_state_dict({**state_of(f"generator_{size}_cm{multiplier}"), "w_avg": average})
    return generator


@pytest.fixture(scope="module")
def tiny() -> StyleGAN2:
    torch.manual_seed(0)
    generator = StyleGAN2(TINY)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise.weight"):
            parameter.fill_(0.1)
    return generator


SIZES = [(64, 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(256, 2), (256, 1), (1024, 2)])]


@pytest.mark.parametrize(("size", "multiplier"), SIZES)
def test_pictures_equal_the_published_ones(size, multiplier):
    generator = golden_generator(size, multiplier)
    w = generator.map(arr("z", 2, 512))
    image = generator.synthesize(w)
    rows = w[:, None].repeat(1, generator.rows, 1)
    rows[:, 4:] = generator.map(arr("z2", 2, 512))[:, None]
    ours = {
        "w": w,
        "image": small(image),
        "crop": image[:, :, 24:40, 24:40],
        "truncated": small(generator.synthesize(generator.map(arr("z", 2, 512), truncation=0.7))),
        "mixed": small(generator.synthesize(rows)),
        "from_wplus": small(generator.synthesize(arr("wplus", 1, generator.rows, 512, scale=0.5))),
    }
    published = figures(f"generator_{size}_cm{multiplier}")
    assert published.keys() == ours.keys()
    assert max(relative_error(ours[key], published[key]) for key in ours) < 1e-4


def test_logits_equal_the_published_ones():
    discriminator = Discriminator(GeneratorConfig(size=64))
    discriminator.load_state_dict(state_of("discriminator_64_cm2"))
    logits = discriminator(img("x", 4, 3, 64, 64))
    assert relative_error(logits, figures("discriminator_64_cm2")["logits"]) < 1e-4


@pytest.mark.parametrize(("size", "multiplier", "depth"), [(8, 1, 1), (32, 2, 8), (64, 3, 3)])
def test_any_power_of_two_any_multiplier_any_depth(size, multiplier, depth):
    config = GeneratorConfig(size=size, width=16, mapping_layers=depth, channel_multiplier=multiplier)
    generator = StyleGAN2(config)
    assert generator.rows == 2 * (size.bit_length() - 1) - 2
    image = generator.synthesize(generator.map(arr("z", 1, 16)))
    assert image.shape == (1, 3, size, size) and image.isfinite().all()
    assert sum(key.startswith("style.") for key in generator.state_dict()) == 2 * depth
    if size < 64:
        assert Discriminator(config)(image).shape == (1, 1)


@pytest.mark.parametrize("size", [4, 48, 1000])
def test_a_size_that_cannot_be_drawn_is_the_users_error(size):
    with pytest.raises(ConfigError, match="power of two"):
        StyleGAN2(GeneratorConfig(size=size))


def test_a_multiplier_that_leaves_no_channels_is_the_users_error():
    with pytest.raises(ConfigError, match="multiplier"):
        StyleGAN2(GeneratorConfig(size=32768, channel_multiplier=1))


def test_backward_reaches_the_rows_and_no_weight(tiny):
    ws = arr("ws", 2, tiny.rows, 32).requires_grad_()
    image = tiny.synthesize(ws)
    leaves, seen, todo = set(), set(), [image.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        todo += [following for following, _ in node.next_functions]
    assert leaves == {id(ws)}
    image.square().mean().backward()
    assert (ws.grad.abs().sum(dim=2) > 0).all(), "every row has a say"
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_a_later_row_never_changes_an_earlier_layer(tiny):
    layers = [module for module in tiny.modules() if type(module).__name__ == "StyledConv"]

    def features(ws: Tensor) -> list[Tensor]:
        seen: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda _m, _i, out: seen.append(out.clone())) for layer in layers]
        tiny.synthesize(ws)
        for hook in hooks:
            hook.remove()
        return seen

    ws = arr("ws", 1, tiny.rows, 32)
    before = features(ws)
    for row in range(tiny.rows):
        changed = ws.clone()
        changed[:, row] += 1
        same = [torch.equal(a, b) for a, b in zip(before, features(changed), strict=True)]
        assert same == [layer < row for layer in range(len(layers))]


def test_the_last_row_changes_only_colours_at_full_resolution(tiny):
    ws = arr("ws", 1, tiny.rows, 32)
    changed = ws.clone()
    changed[:, -1] += 1
    assert not torch.equal(tiny.synthesize(ws), tiny.synthesize(changed))


def test_the_same_rows_give_the_same_picture_whoever_is_beside_them(tiny):
    ws = arr("ws", 3, tiny.rows, 32)
    together = tiny.synthesize(ws)
    assert torch.equal(together, tiny.synthesize(ws))
    alone = torch.cat([tiny.synthesize(one[None]) for one in ws])
    assert relative_error(together, alone) < 1e-5


def test_a_gradient_changes_no_pixel_and_pictures_lie_plainly_in_memory(tiny):
    ws = arr("ws", 2, tiny.rows, 32)
    watched = tiny.synthesize(ws.clone().requires_grad_())
    with torch.no_grad():
        unwatched = tiny.synthesize(ws)
    assert torch.equal(watched, unwatched)
    assert unwatched.is_contiguous()


def test_one_latent_stands_for_all_rows(tiny):
    w = arr("w", 2, 32)
    assert torch.equal(tiny.synthesize(w), tiny.synthesize(w[:, None].repeat(1, tiny.rows, 1)))


def test_a_smaller_picture_is_the_large_one_averaged(tiny):
    w = arr("w", 2, 32)
    expected = nn.functional.avg_pool2d(tiny.synthesize(w), 2)
    assert torch.allclose(tiny.synthesize(w, size=8), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 5, 32), (2, 6, 31), (32,), (2, 16), (1, 2, 6, 32)])
def test_rows_that_do_not_fit_are_the_users_error(tiny, shape):
    with pytest.raises(ConfigError, match="rows"):
        tiny.synthesize(torch.zeros(shape))


@pytest.mark.parametrize("size", [0, 17, 1024])
def test_a_picture_larger_than_the_generator_draws_is_the_users_error(tiny, size):
    with pytest.raises(ConfigError, match="16 pixels"):
        tiny.synthesize(torch.zeros(1, 32), size=size)


def test_noise_of_another_width_is_the_users_error(tiny):
    with pytest.raises(ConfigError, match="32"):
        tiny.map(torch.zeros(1, 512))


def test_truncation_ends_at_the_average(tiny):
    generator = StyleGAN2(TINY)
    generator.w_avg.copy_(arr("average", 32))
    z = arr("z", 3, 32)
    assert torch.allclose(generator.map(z, truncation=0.0), generator.w_avg.expand(3, -1))
    halfway = (generator.map(z) + generator.w_avg) / 2
    assert torch.allclose(generator.map(z, truncation=0.5), halfway, atol=1e-6)


def test_the_average_is_that_of_the_mapped_draws(tiny):
    z = torch.randn(5000, 32, generator=torch.Generator().manual_seed(7))
    average = average_w(tiny, samples=5000, seed=7)
    assert torch.allclose(average, tiny.map(z).mean(dim=0), atol=1e-5)
    assert not torch.equal(average, average_w(tiny, samples=5000, seed=8))
    assert torch.equal(tiny.w_avg, torch.zeros(32)), "whoever asks decides where it goes"


@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_half_the_bits_draw_nearly_the_same_picture(tiny, how):
    w = arr("w", 2, 32)
    expected = tiny.synthesize(w)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            image = tiny.synthesize(w)
    else:
        half = StyleGAN2(TINY).to(torch.bfloat16)
        half.load_state_dict(tiny.state_dict())
        image = half.synthesize(w)
    assert relative_error(image.float(), expected) < 0.03


def test_a_discriminator_learns_and_compares_within_groups():
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
    spread = append_spread(x)[:, 5]
    for first in range(batch // group):
        members = x[first :: batch // group]
        expected = (members.var(dim=0, correction=0) + 1e-8).sqrt().mean()
        assert torch.allclose(spread[first :: batch // group], expected.expand(group, 4, 4))
