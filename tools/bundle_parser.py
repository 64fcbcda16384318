"""Bundle a trained face parser in int8: python tools/bundle_parser.py runs/parser/parser.safetensors"""

import sys

from safetensors.torch import load_file

from pixel2style import assets
from pixel2style.formats import quantized, safetensors
from pixel2style.metrics.parsing import NAME


def main(source: str) -> None:
    state = load_file(source)
    halves = {key: value if value.ndim < 2 else value.half() for key, value in state.items()}
    file = assets.FOLDER / f"{NAME}.safetensors"
    safetensors.write(quantized.in_bytes(state, halves), file, {})
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
