"""Shared by benchmarks: photographs from folders or tars, a number of them, and the command and system of a run."""

import argparse
import platform
import shlex
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from pixel2style import images
from pixel2style.errors import ConfigError, Pixel2StyleError
from pixel2style.photos import SUFFIXES
from pixel2style.training.dataset import photo_files

Item = TypeVar("Item")


def read(sources: Sequence[Path]) -> list[Image.Image]:
    """The photographs in folders and tars, each sorted by name, without their ``masks``.

    Raises ConfigError when there are none, and for a source that is neither; ImageError for a broken photograph.
    """
    photographs = [photograph for source in sources for photograph in opened(source)]
    if not photographs:
        raise ConfigError("--data holds no photographs: name folders or tars of aligned photographs")
    return photographs


def opened(source: Path) -> Iterator[Image.Image]:
    """The photographs in a folder or a tar."""
    if source.is_dir():
        for file in photo_files(str(source)):
            if "masks" not in file.relative_to(source).parts:
                yield images.load(file)
        return
    try:
        with tarfile.open(source) as archive:
            members = [member for member in archive.getmembers() if member.isfile()]
            for member in sorted(members, key=lambda member: member.name):
                path = Path(member.name)
                content = archive.extractfile(member)
                if content and path.suffix.lower() in SUFFIXES and "masks" not in path.parts:
                    yield images.from_bytes(content.read(), member.name)
    except (OSError, tarfile.TarError) as error:
        raise ConfigError(f"{source} is neither a folder nor a tar: name one that holds aligned photographs") from error


def spaced(items: Sequence[Item], count: int | None) -> list[Item]:
    """``count`` items, evenly spaced; all of them for None or more than there are."""
    count = min(len(items) if count is None else count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def exit_code(run: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> int:
    """Run a benchmark on ``options.threads`` threads; 0, or 2 after an error in the input, in one sentence."""
    torch.set_num_threads(options.threads)
    try:
        run(options)
    except Pixel2StyleError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def circumstances(threads: int) -> str:
    """Markdown: the running command and the system."""
    command = f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(sys.argv[1:])}"
    system = f"--threads {threads}, torch {torch.__version__}, Python {platform.python_version()}"
    return f"    {command}\n\n{system}, {platform.machine()}"
