"""Processes that share a run, as ``accelerate launch`` or ``torchrun`` start them; one process is the simplest case.

accelerate provides device, precision, gradient scaling and communication. The encoder is not wrapped: gradients are
averaged once a step, after all parts and iterations, so that several processes compute the gradient of one.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from ..config import TrainConfig
from ..errors import ConfigError
from ..runtime import choose_device, keep_freed_memory

if TYPE_CHECKING:
    from accelerate import Accelerator

Item = TypeVar("Item")
BUCKET = 1 << 23
"""Numbers that are exchanged at once: 32 MB."""
TIMEOUT = timedelta(hours=6)
"""How long processes wait for the first one, which evaluates and saves alone."""


def make_accelerator(config: TrainConfig) -> "Accelerator":
    """Device, precision and processes of a run.

    With several processes the launcher chooses the device of each. Raises ConfigError for a device or a precision that
    is not available, and for batches that processes and parts cannot share evenly.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import InitProcessGroupKwargs

    device = choose_device(config.device)
    cpu = device.type == "cpu"
    if config.precision == "fp16" and device.type != "cuda":
        raise ConfigError("fp16 needs CUDA: use --precision bf16 or fp32")
    AcceleratorState._reset_state(PartialState._shared_state.get("_cpu", cpu) != cpu)
    precision = {"fp32": "no"}.get(config.precision, config.precision)
    try:
        process_group = InitProcessGroupKwargs(timeout=TIMEOUT)
        accelerator = Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[process_group])
    except ValueError as error:  # a device without bf16
        raise ConfigError(f"{config.precision} is not available here ({error}): use --precision fp32") from error
    if os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
        raise ConfigError(
            "accelerate launch --cpu starts one process, however many are asked for: replace --cpu by --multi_gpu, "
            "which starts them on CPUs too"
        )
    parts = accelerator.num_processes * config.accumulate
    full_batch = config.detail.full_batch
    if config.batch % parts or config.generated % parts or full_batch % parts:
        also = f" ({full_batch} at full size)" if full_batch else ""
        raise ConfigError(
            f"{config.batch} pictures{also} and {config.generated} generated ones cannot be shared by "
            f"{accelerator.num_processes} processes in {config.accumulate} parts: make --batch"
            f"{', --detail.full-batch' if full_batch else ''} and --generated multiples of {parts}"
        )
    if config.frugal and accelerator.num_processes > 1:
        raise ConfigError("--frugal has no gradient to share: start one process, or leave it out")
    if accelerator.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    if cpu:
        keep_freed_memory()
    return accelerator


def share(items: Sequence[Item], accelerator: "Accelerator") -> Sequence[Item]:
    """This process's items of a joint batch."""
    size = len(items) // accelerator.num_processes
    first = accelerator.process_index * size
    return items[first : first + size]


def average(tensors: Sequence[Tensor], accelerator: "Accelerator") -> None:
    """Average tensors over the processes, in place."""
    if accelerator.num_processes == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        flat = cast(Tensor, accelerator.reduce(flat, "mean"))
        for tensor, mean in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def any_process(condition: bool, accelerator: "Accelerator") -> bool:
    """Whether the condition holds in any process; all get the same answer."""
    if accelerator.num_processes == 1:
        return condition
    flag = torch.tensor([float(condition)], device=accelerator.device)
    return bool(cast(Tensor, accelerator.reduce(flag, "sum")) > 0)


def check_same_state(step: int, network: nn.Module, accelerator: "Accelerator") -> None:
    """Raise ConfigError where processes start at different steps or from different weights."""
    total = sum(float(weight.detach().double().sum()) for weight in network.parameters())
    found = accelerator.gather(torch.tensor([[float(step), total]], device=accelerator.device))
    if not bool((found == found[0]).all()):
        raise ConfigError("processes found different states: give all of them the same files and a shared --out")


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(other.numel() for other in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
