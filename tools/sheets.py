"""Sheets of pictures for the documents: tiles of one size in rows, a line of words above each, as small JPEGs.

Tiles are square PIL pictures of ``side`` pixels, or words where there is no picture.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import pixel2style as p2s
from pixel2style import files

LINE = 15
"""Height of the words above a tile."""
LIMIT = 150_000
"""Largest size of a sheet, bytes."""
QUALITIES = (86, 82, 78, 74, 70, 66, 62, 58, 54, 50)

Tile = Image.Image | str
Row = list[tuple[str, Tile]]
"""Words and the tile below them."""


def sheet(rows: Sequence[Row], side: int) -> Image.Image:
    """Rows of tiles with words above each; a row may be shorter than the others."""
    width = max(len(row) for row in rows)
    paper = Image.new("RGB", (width * side, len(rows) * (side + LINE)), "white")
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(11)
    for down, row in enumerate(rows):
        for across, (words, tile) in enumerate(row):
            left, top = across * side, down * (side + LINE)
            pen.text((left + 2, top + 1), words, fill="#222", font=font)
            if isinstance(tile, str):
                pen.rectangle((left, top + LINE, left + side - 1, top + LINE + side - 1), fill="#eee")
                middle = (left + side / 2, top + LINE + side / 2)
                pen.multiline_text(middle, tile, fill="#a00", font=font, anchor="mm", align="center")
            else:
                small = tile if tile.width == side else tile.resize((side, side), Image.Resampling.LANCZOS)
                paper.paste(small, (left, top + LINE))
    return paper


def save(paper: Image.Image, file: Path) -> None:
    """Write a JPEG of the first quality that keeps it below ``LIMIT`` bytes, or of the last one."""
    for quality in QUALITIES:
        room = BytesIO()
        paper.save(room, "JPEG", quality=quality, optimize=True)
        if room.tell() <= LIMIT:
            break
    file.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(file, room.getvalue())
    print(f"{file}: {room.tell()} bytes, quality {quality}")


@torch.no_grad()
def drawn_faces(seeds: Sequence[int], truncation: float) -> Tensor:
    """Faces of no real person, drawn by the bundled generator for seeds: ``[n 3 1024 1024]``."""
    generator = p2s.load_generator("mobilestylegan_ffhq_1024")
    z = torch.stack([torch.randn(512, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    return generator.synthesize(generator.map(z, truncation=truncation))
