"""Two processes that share a step: ``python -m tests.support.shared_run FOLDER OUT``.

Each writes the gradient of the joint batch, as it has it after averaging, and the bank after a step more. A script of
its own, since a process that has used several threads must not be forked.
"""

import os
import sys
import traceback
from pathlib import Path

import accelerate  # noqa: F401 (imported before the fork, so that it is imported once)
import torch

from pixel2style.config import LossConfig
from tests.support.small_run import gradients, in_double, small_config, start_run, train_steps


def write_numbers(folder: Path, out: Path) -> None:
    """Take the steps in this process, alone or as one of those that the environment names."""
    loss = LossConfig(lpips=0.0, identity=0.0, w_norm=0.01, code_norm=0.1, code_regression=0.1)
    config = small_config(
        folder, out=str(out), iterations=2, one_iteration_until=0, lr=1e-3, warmup=0, clip=0.0, loss=loss
    )
    state, context = start_run(config)
    context = in_double(state, context)
    optimizer = state.optimizer
    found = {f"gradient.{name}": value for name, value in gradients(state, context).items()}
    state.optimizer = optimizer
    train_steps(state, context, 1)
    torch.save(found | {"bank": state.bank}, out.with_name(f"{out.name}.{context.accelerator.process_index}.pt"))


def main(folder: Path, out: Path) -> None:
    """Fork two processes and leave with the number of those that failed."""
    torch.set_num_threads(1)
    small_config(folder)
    children: list[int] = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
            try:
                write_numbers(folder, out)
            except BaseException:  # noqa: BLE001 (the child must never go on as its parent)
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
