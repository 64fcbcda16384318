"""``pixel2style fetch``."""

from typing import Annotated

import tyro

from .arguments import Flag


def fetch(
    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ADDRESS|USER/REPO")],
    /,
    trust: Flag = False,
) -> int:
    """Download a file from an address or the Hugging Face Hub; print its place and its SHA-256.

    Every command that takes a model's file takes these too. A file is downloaded only once.

    Args:
        source: https://HOST/FILE#sha256=DIGEST, or USER/REPO[@REVISION][/FILE], also as hf://USER/REPO.
        trust: If no digest is known, accept what the address gives now, and record its digest.
    """
    from ..checkpoints.download import digest_of
    from ..checkpoints.resolve import local
    from ..errors import CheckpointError

    file = local(source, trust=trust)
    if not file.is_file():
        raise CheckpointError(
            f"{source}: is no address, nothing on the hub, and no file; give hf://USER/REPO for a model"
        )
    print(f"{file}\n  sha256 {digest_of(file)}")
    return 0
