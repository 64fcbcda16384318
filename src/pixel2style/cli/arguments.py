"""Arguments that several commands take, as tyro reads them."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

Photos = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PHOTO...", help_behavior_hint="")]
Model = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME|FILE")]
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
Count = Annotated[int, tyro.conf.arg(metavar="N")]
Device = Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N|mps")]
Seconds = Annotated[float | None, tyro.conf.arg(metavar="SECONDS", help_behavior_hint="")]
Distance = Annotated[float | None, tyro.conf.arg(metavar="LPIPS", help_behavior_hint="")]
Sheet = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
Face = Annotated[
    str | None, tyro.conf.arg(metavar="largest|central|N|all", help_behavior_hint="(default: largest, with a note)")
]
Region = Annotated[
    str | None,
    tyro.conf.arg(metavar="eyes|mouth|nose|face|head|skin|hair|clothes|background|FILE", help_behavior_hint=""),
]
Precision = Literal["auto", "fp32", "bf16"]
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
