"""One process of several that share a step: ``python -m tests.support.shared_run FOLDER OUT``.

Writes the gradient of the joint batch, as this process has it after averaging, and the bank after three steps.
"""

import sys
from pathlib import Path

import torch

from pixel2style.config import LossConfig
from tests.support.small_run import gradients, in_double, small_config, start_run, train_steps


def main(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    loss = LossConfig(lpips=0.0, identity=0.0, w_norm=0.01, code_norm=0.1, code_regression=0.1)
    config = small_config(
        folder, out=str(out), iterations=2, one_iteration_until=0, lr=1e-3, warmup=0, clip=0.0, loss=loss
    )
    state, context = start_run(config)
    context = in_double(state, context)
    optimizer = state.optimizer
    found = {f"gradient.{name}": value for name, value in gradients(state, context).items()}
    state.optimizer = optimizer
    train_steps(state, context, 3)
    torch.save(found | {"bank": state.bank}, out.with_name(f"{out.name}.{context.accelerator.process_index}.pt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
