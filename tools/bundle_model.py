"""Bundle a trained model: its encoder as fp16, its generator by name, its averages from the generator in float32.

python tools/bundle_model.py runs/faces/model.safetensors faces
python tools/bundle_model.py runs/faces/model.safetensors faces int8
python tools/bundle_model.py runs/superres/model.safetensors superres faces 4

The second stores a byte per weight, the third the difference to a bundled model with that many bits per weight.
"""

import sys

import torch

from pixel2style import assets, checkpoints


def main(source: str, name: str, how: str = "fp16", bits: str = "4") -> None:
    model = checkpoints.load(source)
    generator = "mobilestylegan_ffhq_1024"
    bundled = assets.read(generator)
    model.w_avg.copy_(bundled["w_avg"].expand_as(model.w_avg))
    model.w_unit.copy_(bundled["w_std"])
    file = assets.FOLDER / f"{name}.safetensors"
    base = how if how in assets.names() else None
    dtype = torch.int8 if how == "int8" else torch.float16
    checkpoints.save(model, file, dtype=dtype, generator=generator, base=base, bits=int(bits))
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
