"""Start a run repeatedly and kill it at random moments: ``python -m tests.support.killed_run FOLDER KILLS SEED``.

A script of its own, since a process that has used several threads must not be forked. The first start is killed when it
has saved a state; the time that this took scales all later moments. Prints the step of the state found after each kill;
a state that cannot be read ends the script with its error.
"""

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401 (imported here, so that the kill hits the run and not its imports)
import pytorch_optimizer  # noqa: F401

from pixel2style.config import LossConfig
from pixel2style.training import loop
from pixel2style.training.run_folder import RunFolder
from tests.support.small_run import small_config

KILLED: dict[str, Any] = {
    "generated": 0, "iterations": 1, "log_every": 1, "save_every": 1, "loss": LossConfig(lpips=0.0, identity=0.0)
}  # fmt: skip


def main(folder: Path, kills: int, seed: int) -> None:
    config = small_config(folder, out=str(folder / "killed"), **KILLED, steps=10_000)
    moments, start = random.Random(seed), 0.0
    for number in range(kills):
        child = os.fork()
        if child == 0:
            import torch

            torch.set_num_threads(1)
            sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 (the process ends with it)
            loop.fit(config)
            os._exit(1)
        begun = time.monotonic()
        while number == 0 and RunFolder(config.out).read_state() is None:
            time.sleep(0.01)
        start = start or time.monotonic() - begun
        time.sleep(moments.uniform(0, 2 * start) if number else 0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kept = RunFolder(config.out).read_state()
        print(kept["counts"][0] if kept else 0, flush=True)
    steps = int(kept["counts"][0]) + 2 if kept else 2
    loop.fit(replace(config, steps=steps))
    print(steps, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
