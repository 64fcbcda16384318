"""Train: curves and sheets of pictures of the runs in a folder, read from their own files."""

from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from .. import images
from ..training.logging import jsonl
from .parts import QUIET, said, shown

EVERY = 5.0
"""Seconds between looks at the files."""
MOST_POINTS = 1000
SHEETS = 6
FIRST = ("train/loss", "validation/loss")
"""Curves that are shown at first."""


def tab(runs: Path | None) -> None:
    """The tab, where there is a folder of runs."""
    if runs is None:
        return
    with gr.Tab("Train", id="train") as own:
        names, seen, timer = jsonl.runs_in(runs), gr.State(), gr.Timer(EVERY, active=False)
        with gr.Row():
            run = gr.Dropdown(names, value=names[0] if names else None, label="Run")
            which = gr.Dropdown([*FIRST], value=[*FIRST], multiselect=True, label="Curves")
        words = gr.Markdown()
        plot = gr.LinePlot(x="step", y="value", color="curve", label="Curves", height=360)
        sheets = gr.Gallery(label="Pictures, the newest first", columns=1, height="auto", object_fit="contain")

    def listed(name: str | None) -> list[Any]:
        found = jsonl.runs_in(runs)
        first = {} if name in found or not found else {"value": found[0]}
        return [gr.Dropdown(found, **first), gr.Timer(active=True)]

    def looked(name: str | None, chosen: list[str], before: Any) -> list[Any]:
        if name is None:
            return ["There are no runs in this folder yet.", *[gr.skip()] * 4]
        if name not in jsonl.runs_in(runs):
            return [gr.skip()] * 5
        lines, pictures = jsonl.read(runs / name)
        curves = sorted({key for line in lines for key in line} - {"step"})
        long = [(line["step"], line[key], key) for key in chosen for line in lines if line.get(key) is not None]
        table = pd.DataFrame(long[:: len(long) // MOST_POINTS + 1], columns=["step", "value", "curve"])
        last = lines[-1] if lines else {"step": 0}
        values = ", ".join(f"{key} {last[key]:.4g}" for key in curves if last.get(key) is not None)
        newest = [str(one) for one in pictures[: -SHEETS - 1 : -1]]
        gallery = gr.skip() if newest == before else [(shown(images.load(one)), Path(one).stem) for one in newest]
        return [f"Step {last['step']}: {values}", table, gallery, newest, gr.Dropdown(curves)]

    outputs = [words, plot, sheets, seen, which]
    own.select(listed, run, [run, timer], **QUIET)
    gr.on([own.select, run.change, which.change, timer.tick], said(looked), [run, which, seen], outputs, **QUIET)
