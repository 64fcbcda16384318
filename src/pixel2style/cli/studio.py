"""``pixel2style studio``."""

from pathlib import Path
from typing import Annotated

import tyro

from . import terminal
from .arguments import Device, Flag, Precision


def studio(
    *,
    model: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME|FILE", help_behavior_hint=""), tyro.conf.UseAppendAction
    ] = (),
    runs: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None,
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[
        int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: the first free from 7860)")
    ] = None,
    password: Annotated[str | None, tyro.conf.arg(metavar="WORD", help_behavior_hint="")] = None,
    browser: Flag = True,
    share: Flag = False,
    i_understand: Flag = False,
    device: Device = "auto",
    precision: Precision = "auto",
) -> int:
    """Open a page in the browser where faces are edited, drawn and repaired.

    It runs on this machine, which alone can reach it, and sends nothing elsewhere. Ctrl-C ends it; uploads and results
    that were not downloaded are then gone. Needs the extra studio: pip install 'pixel2style[studio]'.

    Args:
        model: Also offer this model: a file, or an address (hf://USER/REPO); may be given several times.
        runs: A folder of training runs to watch.
        host: The address to listen on; any but this machine's own needs --password. 0.0.0.0 is all of them.
        port: The port to listen on.
        password: Ask visitors for it.
        browser: Do not open the browser.
        share: Also make the page reachable from the internet, through a server of gradio's makers; needs --password.
        i_understand: Agree, for sharing, that the photographs of all visitors then pass that server.
        device: Where to compute. auto takes CUDA or Apple's GPU if there is one.
        precision: auto computes partly in bfloat16 where the processor has it; fp32 gives the same pictures on all
            processors; bf16 is faster for models of paper size.
    """
    from ..errors import ConfigError
    from ..studio.address import Address

    if share and not i_understand:
        raise ConfigError(
            "--share sends every photograph through a server of others: add --i-understand if you want that"
        )
    address = Address(host, port, password, share)
    with terminal.importing():
        from ..studio import launch

    with launch.serving(model, address, runs=runs, device=device, precision=precision, browser=browser) as url:
        print(f"the studio is at {url}; Ctrl-C ends it", flush=True)
        launch.wait()
    return 0
