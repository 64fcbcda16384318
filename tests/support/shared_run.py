"""One process of several that share a step: ``python shared_run.py FOLDER OUT``; the environment says which it is.

Writes the gradient of the joint batch, as this process has it after averaging, and the bank after three steps.
"""

import sys
from pathlib import Path

import torch

from pixel2style.config import LossConfig
from pixel2style.training import checks, setup
from pixel2style.training.step import look_at_all, steps
from tests.support.small_run import in_double, small_config


def main(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    loss = LossConfig(lpips=0.0, identity=0.0, w_norm=0.01, code_norm=0.1, code_regression=0.1)
    config = small_config(folder, out=str(out), iterations=2, one_iteration_until=0, lr=1e-3, warmup=0, loss=loss)
    accelerator = checks.accelerated(config)
    state = setup.start(config, accelerator)
    pictures = setup.training_pictures(config, state.model.encoder.config.input_size)
    teacher = setup.appoint(config, state, pictures, accelerator)
    in_double(state, teacher)
    look_at_all(state, teacher)
    found = {name: weight.grad for name, weight in state.model.encoder.named_parameters() if weight.grad is not None}
    teacher.joined(list(found.values()))
    gradient = {f"gradient.{name}": value.clone() for name, value in found.items()}
    state.optimizer.zero_grad()
    learning = steps(state, teacher)
    for _ in range(3):
        next(learning)
    torch.save(gradient | {"bank": state.bank}, out.with_name(f"{out.name}.{accelerator.process_index}.pt"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
