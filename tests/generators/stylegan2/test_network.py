import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pixel2style.config import GeneratorConfig
from pixel2style.errors import ConfigError
from pixel2style.generators.sampling import average_w, draw
from pixel2style.generators.stylegan2.network import StyleGAN2
from tests.support.golden_rule import arr, figures, relative_error, small, weights

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


@pytest.mark.parametrize(("size", "multiplier", "depth"), [(8, 1, 1), (32, 2, 8), (64, 3, 3)])
def test_any_power_of_two_any_multiplier_any_depth(size, multiplier, depth):
    config = GeneratorConfig(size=size, width=16, mapping_layers=depth, channel_multiplier=multiplier)
    generator = StyleGAN2(config)
    assert generator.rows == 2 * (size.bit_length() - 1) - 2
    image = generator.synthesize(generator.map(arr("z", 1, 16)))
    assert image.shape == (1, 3, size, size) and image.isfinite().all()
    assert sum(key.startswith("style.") for key in generator.state_dict()) == 2 * depth


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


# StyleGAN2-ADA's: labels, a noise width of its own, any channels, a clamp

TOLD = GeneratorConfig(size=16, width=24, mapping_layers=3, channels=(7, 5, 3), noise_width=12, classes=5, clamp=0.8)


def filled(config: GeneratorConfig) -> StyleGAN2:
    """A generator none of whose numbers is nought, in double precision."""
    generator = StyleGAN2(config).double()
    for name, value in generator.state_dict().items():
        scale = {"noise.weight": 0.3, "bias": 0.2, "w_avg": 0.2}.get(name.rpartition(".")[2], 1.0)
        scale = 0.3 if name.endswith("noise.weight") else scale / (0.01 if name.startswith("style.") else 1.0)
        value.copy_(arr(name, *value.shape, scale=scale) + name.endswith("modulation.bias"))
    return generator


def paper_mapping(state: dict[str, Tensor], config: GeneratorConfig, z: Tensor, labels: Tensor | None) -> Tensor:
    """W, layer by layer as the papers write it."""
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    if labels is not None:
        y = labels @ state["embed.weight"].T / math.sqrt(config.classes) + state["embed.bias"]
        x = torch.cat([x, y / (y.square().mean(1, keepdim=True) + 1e-8).sqrt()], 1)
    for layer in range(1, config.mapping_layers + 1):
        weight, bias = state[f"style.{layer}.weight"] * 0.01, state[f"style.{layer}.bias"] * 0.01
        x = functional.leaky_relu(x @ weight.T / math.sqrt(weight.shape[1]) + bias, 0.2) * math.sqrt(2)
    return x


def between_zeros(x: Tensor) -> Tensor:
    """``[c h w] -> [c 2h 2w]``: three zeros beside every pixel."""
    wide = x.new_zeros(len(x), 2 * x.shape[1], 2 * x.shape[2])
    wide[:, ::2, ::2] = x
    return wide


def filtered(x: Tensor, before: int, after: int) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 4
    framed = functional.pad(x, (before, after, before, after))
    return functional.conv2d(framed[:, None], torch.outer(taps, taps)[None, None])[:, 0]


def modulated(state: dict[str, Tensor], layer: str, x: Tensor, w: Tensor, demodulate: bool, up: bool = False) -> Tensor:
    """One sample's convolution with weights of its own: ``[i h w], [d] -> [o h w]``."""
    scale = state[f"{layer}.modulation.weight"]
    style = scale @ w / math.sqrt(len(w)) + state[f"{layer}.modulation.bias"]
    weight = state[f"{layer}.weight"] * style[None, :, None, None]
    if demodulate:
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    else:
        weight = weight / math.sqrt(weight.shape[1])
    if up:
        spread = between_zeros(x)[:, :-1, :-1]
        return filtered(functional.conv2d(spread[None], weight.flip(2, 3), padding=2)[0], 1, 1)
    return functional.conv2d(x[None], weight, padding=weight.shape[-1] // 2)[0]


def paper_picture(state: dict[str, Tensor], config: GeneratorConfig, w: Tensor, noise: bool) -> Tensor:
    """One picture from one latent ``[d]``, as the papers write it."""
    limit = config.clamp or math.inf

    def layer(name: str, number: int, x: Tensor, up: bool) -> Tensor:
        y = modulated(state, f"{name}.conv", x, w, True, up)
        if noise:
            y = y + state[f"{name}.noise.weight"] * state[f"noises.noise_{number}"][0]
        y = functional.leaky_relu(y + state[f"{name}.activate.bias"][:, None, None], 0.2) * math.sqrt(2)
        return y.clamp(-limit, limit)

    def colours(name: str, x: Tensor) -> Tensor:
        return (modulated(state, f"{name}.conv", x, w, False) + state[f"{name}.bias"][0]).clamp(-limit, limit)

    x = layer("conv1", 0, state["input.input"][0], up=False)
    image = colours("to_rgb1", x)
    for n in range(config.size.bit_length() - 3):
        x = layer(f"convs.{2 * n}", 2 * n + 1, x, up=True)
        x = layer(f"convs.{2 * n + 1}", 2 * n + 2, x, up=False)
        image = colours(f"to_rgbs.{n}", x) + filtered(between_zeros(image), 2, 1)
    return image


VARIANTS = {
    "everything": TOLD,
    "no clamp": dataclasses.replace(TOLD, clamp=None),
    "no labels": dataclasses.replace(TOLD, classes=0),
    "labels alone": GeneratorConfig(size=8, width=24, mapping_layers=1, channels=(4, 4), classes=3),
    "plain": GeneratorConfig(size=8, width=24, mapping_layers=2, channels=(9, 6)),
}


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_draws_what_the_papers_write(variant, noise):
    config = VARIANTS[variant]
    generator = filled(config)
    z = arr("z", 3, config.noise_width or config.width).double()
    labels = arr("labels", 3, config.classes).double() if config.classes else None
    w = generator.map(z, labels=labels)
    assert relative_error(w, paper_mapping(generator.state_dict(), config, z, labels)) < 1e-9
    expected = torch.stack([paper_picture(generator.state_dict(), config, row, noise) for row in w])
    with torch.no_grad():
        assert relative_error(generator.synthesize(w, noise=noise), expected) < 1e-6
    watched = generator.synthesize(w.clone().requires_grad_(), noise=noise)
    assert relative_error(watched, expected) < 1e-6
    watched.sum().backward()


def test_noise_and_a_clamp_change_pictures():
    generator, free = filled(TOLD), filled(VARIANTS["no clamp"])
    w = arr("w", 1, 24).double()
    clamped = generator.synthesize(w)
    assert not torch.allclose(clamped, free.synthesize(w))
    assert not torch.allclose(clamped, generator.synthesize(w, noise=False))


def test_a_clamp_bounds_the_features_with_and_without_gradients():
    generator = filled(TOLD)
    largest = []
    hook = generator.convs[3].register_forward_hook(lambda _m, _i, out: largest.append(out.abs().max().item()))
    generator.synthesize(arr("w", 1, 24).double().requires_grad_())
    with torch.no_grad():
        generator.synthesize(arr("w", 1, 24).double())
    hook.remove()
    assert largest == [0.8, 0.8]


def test_labels_are_given_where_they_are_needed_and_nowhere_else(tiny):
    generator = StyleGAN2(TOLD)
    z = torch.zeros(2, 12)
    with pytest.raises(ConfigError, match=r"labels \[batch, 5\]"):
        generator.map(z)
    with pytest.raises(ConfigError, match=r"\[2, 5\] here, got \[2, 4\]"):
        generator.map(z, labels=torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="leave labels out"):
        tiny.map(torch.zeros(2, 32), labels=torch.zeros(2, 5))
    with pytest.raises(ConfigError, match=r"\[batch, 12\]"):
        generator.map(torch.zeros(2, 24), labels=torch.zeros(2, 5))


def test_the_average_of_a_generator_with_labels_is_that_over_all_of_them():
    generator = filled(TOLD).float()
    rng = torch.Generator().manual_seed(3)
    z = torch.randn(20_000, 12, generator=rng)
    labels = torch.eye(5)[torch.arange(20_000) % 5]
    expected = generator.map(z, labels=labels).mean(0)
    assert relative_error(average_w(generator, samples=20_000), expected) < 0.05
    one = generator.map(z, labels=labels[:1].expand(20_000, -1)).mean(0)
    assert relative_error(one, expected) > 0.2, "the labels matter"


def test_a_draw_follows_from_the_seed_and_gives_every_class():
    generator = StyleGAN2(TOLD)
    seen = []
    original = generator.map
    generator.map = lambda z, truncation=1.0, labels=None: (seen.append(labels), original(z, truncation, labels))[1]
    first, again = (draw(generator, 64, torch.Generator().manual_seed(1), generator.w_avg) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (64, 24)
    assert torch.equal(seen[0].sum(1), torch.ones(64)) and (seen[0].sum(0) > 0).all()


def test_channels_of_another_length_are_the_users_error():
    with pytest.raises(ConfigError, match=r"for 4, 8, \.\.\. 16: 2 were given"):
        StyleGAN2(GeneratorConfig(size=16, channels=(8, 8)))
