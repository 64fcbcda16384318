"""Start a run again and again and kill it at random moments: ``python killed_run.py FOLDER KILLS SEED``.

A script of its own, since a process that has computed must not be forked. Prints the step of the state found after each
kill; a state that cannot be read ends the script with its error.
"""

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from pixel2style import train
from pixel2style.runs import RunFolder
from small_run import small_config


def main(folder: Path, kills: int, seed: int) -> None:
    config = small_config(folder, out=str(folder / "killed"), steps=10_000, save_every=1, looks=1, log_every=1)
    moments = random.Random(seed)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            import torch

            torch.set_num_threads(1)
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            train.fit(config)
            os._exit(1)
        time.sleep(moments.uniform(0.05, 2.5))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kept = RunFolder(config.out).kept()
        print(kept["counts"][0] if kept else 0, flush=True)
    steps = int(kept["counts"][0]) + 2 if kept else 2
    train.fit(replace(config, steps=steps))
    print(steps, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
