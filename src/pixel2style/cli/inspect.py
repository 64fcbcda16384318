"""``pixel2style inspect``."""

from typing import Annotated

import tyro

from .arguments import Flag


def inspect(
    file: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE...", help_behavior_hint="")],
    /,
    json: Flag = False,
) -> int:
    """Show what model files are, their sizes and what can be done with them, without loading them.

    Nothing in a file is run. A file that other commands refuse is refused here with the same message.

    Args:
        file: Model files of any kind, bundled names, addresses or places on the hub.
        json: Print one line of JSON for each file instead.
    """
    from ..checkpoints import inspect as inspection
    from ..errors import CheckpointError, Pixel2StyleError, complain

    if not file:
        raise CheckpointError("no file was given: name at least one model file")
    code = 0
    for source in file:
        try:
            finding = inspection.examine(source)
        except Pixel2StyleError as error:
            complain(str(error))
            if json:
                print(inspection.failure_as_json(source, str(error)))
            code = 2
        else:
            print(*([inspection.as_json(finding)] if json else inspection.lines(finding)), sep="\n")
    return code
