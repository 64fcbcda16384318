"""Training in less memory gives the same numbers: to the bit where nothing is reordered."""

import copy

import pytest
import torch
from pytorch_optimizer import Ranger
from torch import Tensor, nn

from pixel2style.config import EncoderConfig
from pixel2style.models import encoders
from pixel2style.models.backbones.ir_se import IRSE
from pixel2style.models.backbones.recompute import recompute
from pixel2style.training.memory import StepInBackward, recast
from tests.support.golden_rule import arr, relative_error

pytestmark = pytest.mark.usefixtures("one_thread")


def gradients_and_buffers(trunk: IRSE, pictures: Tensor) -> dict[str, Tensor]:
    """Gradients and buffers after one step on pictures."""
    trunk.zero_grad()
    sum(tap.square().mean() for tap in trunk.taps(pictures)).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in trunk.named_parameters()}
    return gradients | {name: buffer.clone() for name, buffer in trunk.named_buffers()}


@pytest.mark.parametrize("mode", [True, False])
def test_maps_that_are_computed_twice_leave_the_gradients_and_statistics_of_one_time(mode):
    torch.manual_seed(0)
    plain = IRSE(50).train(mode)
    again = copy.deepcopy(plain)
    again.recompute = True
    pictures = arr("pictures", 2, 3, 32, 32)
    for _ in range(2):
        ours, theirs = gradients_and_buffers(again, pictures), gradients_and_buffers(plain, pictures)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.input_layer[1].num_batches_tracked == (2 if mode else 0)
    assert again.state_dict().keys() == plain.state_dict().keys()


def test_a_unit_that_is_computed_twice_keeps_its_input_alone():
    unit = nn.Sequential(nn.Conv2d(4, 64, 3, padding=1), nn.BatchNorm2d(64), nn.PReLU(64))
    x = arr("x", 2, 4, 16, 16).requires_grad_()

    def kept(run: object) -> int:
        seen: set[int] = set()
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (seen.add(t.data_ptr()), t)[1], lambda t: t):
            made = run()
        del made
        return len(seen)

    assert kept(lambda: recompute(unit, x)) < kept(lambda: unit(x))
    with torch.no_grad():
        assert not recompute(unit, x).requires_grad


@pytest.mark.parametrize("trunk", ["ir_se50", "mobilefacenet"])
def test_an_encoder_sets_recompute_on_its_trunk(trunk):
    shape = {"input_size": 64, "rows": 8, "width": 16, "pyramid_width": 16, "tower_width": 16, "head_width": 8}
    encoder = encoders.build(EncoderConfig(trunk=trunk, heads="shared", **shape)).train()
    pictures = arr("pictures", 2, 3, 64, 64)
    found = []
    for again in (False, True):
        encoder.recompute = again
        assert encoder.trunk.recompute is again
        encoder.zero_grad()
        encoder(pictures).square().sum().backward()
        found.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_copies_of_weights_are_made_again_and_give_the_same_gradients():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 4))
    x = arr("x", 2, 3, 8, 8)

    def gradients(context: object) -> list[Tensor]:
        net.zero_grad()
        with context, torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            made = net(x)
        made.float().square().sum().backward()
        return [parameter.grad.clone() for parameter in net.parameters()]

    kept = gradients(torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t))
    assert all(torch.equal(a, b) for a, b in zip(gradients(recast()), kept, strict=True))


def test_no_copy_of_a_convolutions_weight_is_kept():
    layer = nn.Conv2d(4, 6, 1, bias=False)
    x = arr("x", 2, 4, 3, 3).requires_grad_()
    with recast(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        made = layer(x)
    layer.weight.data.mul_(2)  # a copy that was kept would still say what the weight had been
    made.sum().backward()
    expected = layer.weight.detach().sum(0).expand_as(x)
    assert relative_error(x.grad, expected) < 0.01


def problem() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Flatten(), nn.Linear(8 * 36, 5)), arr("x", 4, 3, 8, 8)


def test_steps_in_the_backward_pass_equal_steps_behind_it():
    def ranger(parameters: list[nn.Parameter]) -> Ranger:
        return Ranger(parameters, lr=1e-2)

    (plain, x), (frugal, _) = problem(), problem()
    frugal = frugal.to(memory_format=torch.channels_last)
    behind = ranger(list(plain.parameters()))
    inside = StepInBackward(frugal.parameters(), ranger)
    for step in range(14):
        for group in (*behind.param_groups, *inside.param_groups):
            group["lr"] = 1e-2 / (step + 1)
        behind.zero_grad()
        (plain(x) - 1).square().mean().backward()
        length = torch.nn.utils.get_total_norm([weight.grad for weight in plain.parameters()])
        behind.step()
        (frugal(x) - 1).square().mean().backward()
        inside.step()
        assert relative_error(inside.gradient_norm(), length) < 1e-5
        assert all(parameter.grad is None for parameter in frugal.parameters())
        if step == 8:
            saved = copy.deepcopy(inside.state_dict())
            inside.load_state_dict(saved)
    assert relative_error(frugal(x), plain(x)) < 1e-6
    for ours, theirs in zip(frugal.parameters(), plain.parameters(), strict=True):
        assert relative_error(ours, theirs) < 1e-6


def test_a_gradient_that_is_not_finite_is_left_out_and_reported():
    net, x = problem()
    optimizer = StepInBackward(net.parameters(), lambda parameters: Ranger(parameters, lr=1e-2))
    before = copy.deepcopy(net.state_dict())
    (net(x).sum() * torch.inf).backward()
    assert not torch.isfinite(optimizer.gradient_norm())
    assert optimizer.gradient_norm() == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
