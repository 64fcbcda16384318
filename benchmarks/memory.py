"""Peak memory of `pixel2style invert`, for one photograph and for folders.

    python benchmarks/memory.py --model faces --folders 5 200

Every run is a process of its own; its peak resident size is what the kernel reports when it ends. The photographs are
different crops of `examples/astronaut.png` (public domain), made in a temporary folder.
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

ASTRONAUT = Path(__file__).parents[1] / "examples" / "astronaut.png"


def cut(count: int, folder: Path) -> None:
    """Write ``count`` JPEGs around the face, no two alike in crop, size and light; every fourth is 3000 pixels wide."""
    folder.mkdir()
    rng = random.Random(0)
    with Image.open(ASTRONAUT) as picture:
        for index in range(count):
            box = (rng.randint(0, 100), rng.randint(0, 10), rng.randint(400, 512), rng.randint(380, 512))
            side = 3000 if index % 4 == 0 else rng.randint(400, 1600)
            piece = picture.convert("RGB").crop(box).resize((side, side * (box[3] - box[1]) // (box[2] - box[0])))
            gain = rng.uniform(0.8, 1.1)
            piece.point([min(255, round(level * gain)) for level in range(256)] * 3).save(folder / f"{index:03}.jpg")


def invert(photos: Path, out: Path, model: str) -> tuple[float, float]:
    """Peak resident gigabytes (10^9) and seconds of one run of the command."""
    command = [sys.executable, "-m", "pixel2style", "invert", str(photos), "--out", str(out), "--model", model]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e9, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="faces", help="bundled name or file")
    parser.add_argument("--folders", metavar="N", type=int, nargs="*", default=[5, 200], help="photographs in a folder")
    arguments = parser.parse_args()
    print("| photographs | peak, GB | seconds |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        runs = {"1 (examples/astronaut.png)": ASTRONAUT}
        for count in arguments.folders:
            runs[f"a folder of {count}"] = folder / f"photos{count}"
            cut(count, folder / f"photos{count}")
        for number, (name, photos) in enumerate(runs.items()):
            peak, seconds = invert(photos, folder / f"out{number}", arguments.model)
            print(f"| {name} | {peak:.2f} | {seconds:.0f} |", flush=True)
    print(f"\ntorch {torch.__version__}, {torch.get_num_threads()} threads, {platform.system()} {platform.machine()}")


if __name__ == "__main__":
    main()
