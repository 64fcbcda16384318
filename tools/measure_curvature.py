"""Measure the bundled ``curvature``: of the loss over the rows of a generator (``inference.optimize.newton``).

    python tools/measure_curvature.py celebahq_train/images ffhq_train --count 120 --out curvature.safetensors

From each folder of aligned photographs, ``--count`` evenly spaced ones are encoded by ``--model``; the curvature at
their rows is averaged. Directions are stored as 8-bit integers with a step each.
"""

import argparse
from pathlib import Path

import torch

from pixel2style import checkpoints, images, runtime
from pixel2style.inference.optimize import newton
from pixel2style.ops import pooled
from pixel2style.training.dataset import photo_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="faces", help="bundled name or file")
    parser.add_argument("--count", type=int, default=120, help="photographs from each folder")
    parser.add_argument("--probes", type=int, default=14, help="probes for each photograph")
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    runtime.keep_freed_memory()
    model = checkpoints.load(arguments.model).eval()
    codes = []
    for folder in arguments.folders:
        files = photo_files(folder)
        for place in range(arguments.count):
            photograph = images.to_tensor(images.load(files[place * len(files) // arguments.count]))[None]
            with torch.no_grad():
                codes.append((model.encode(pooled(photograph)) - model.w_avg) / model.w_unit)
    rng = torch.Generator().manual_seed(arguments.seed)
    with torch.autocast("cpu", torch.bfloat16):
        found = newton.measure(model, torch.cat(codes), arguments.directions, arguments.probes, rng)
    unit = found.directions.abs().amax(1) / 127
    whole = (found.directions / unit[:, None]).round().to(torch.int8)
    checkpoints.save_tensors({"directions": whole, "unit": unit, "values": found.values}, arguments.out)


if __name__ == "__main__":
    main()
