"""Repair: fill a painted part, enlarge a small face, turn a face to the front."""

from pathlib import Path
from typing import Any

import gradio as gr

from .. import images
from ..inference.drawings import from_text, to_text
from ..inference.work import MOST_PIXELS, Sessions, Work
from .parts import KEPT, ONE, both, canvas, chooser, needed, photograph, plain, said, saving, shown

SIDE, VARIANTS = 512, 4
WHAT = {"Fill what is painted": "inpaint", "Enlarge a small face": "superres", "Turn to the front": "frontalize"}


def tab(models: Sessions, closed: bool) -> None:
    """The tab, for the tasks that there are models of."""
    what = {title: task for title, task in WHAT.items() if models.names(task)}
    first = next(iter(what))
    with gr.Tab("Repair", id="repair"), gr.Row(elem_classes="work"):
        work = gr.State(time_to_live=KEPT)
        with gr.Column(min_width=300):
            photo = photograph("Photograph", height=260, elem_id="repair-photograph")
            cropped = gr.Checkbox(label="Already cropped: use the middle square")
            todo = gr.Radio(list(what), value=first, label="What to do")
            model = chooser(models.names(what[first]), closed)
        with gr.Column(min_width=320) as painting:
            mask = canvas("Mask", {"hide": "#ffffff", "erase": ""}, brush=48, side=SIDE)
            keep = gr.Checkbox(True, label="Keep the other pixels as they are")
        with gr.Column(min_width=320):
            stage = gr.ImageSlider(label="Before and after", interactive=False, buttons=[], elem_classes="stage")
            several, run = gr.Checkbox(label="Also draw variants"), gr.Button("Repair", variant="primary")
            variants = gr.Gallery(label="Choose one", columns=3, height="auto", visible=False, allow_preview=False)
            with gr.Accordion("Download", open=False):
                saving(work)

    def framed(path: str | None, as_it_is: bool, title: str, name: str) -> Any:
        if path is None or what[title] != "inpaint":
            return gr.HTML("", under="")
        face = models[name].prepare(images.load(path, MOST_PIXELS), not as_it_is)
        return gr.HTML("", under=to_text(face.resize((SIDE, SIDE)), "JPEG"))

    def chosen(title: str) -> Any:
        names = models.names(what[title])
        return gr.Column(visible=what[title] == "inpaint"), chooser(names, closed)

    def repaired(
        path: str | None, as_it_is: bool, title: str, name: str, painted: str, keep_known: bool, more: bool
    ) -> list[Any]:
        fills, photo = what[title] == "inpaint", Path(needed(path))
        hidden: dict[str, Any] = {"mask": from_text(painted).getchannel("A"), "keep_known": keep_known} if fills else {}
        found = Work.translate(models[name], photo, not as_it_is, samples=VARIANTS if more else 0, **hidden)
        for note in found.result.notes:
            gr.Info(plain(f"the photograph {note}"))
        every = [shown(one) for one in (found.result.reconstruction, *found.result.samples)]
        return [found, both(found), gr.Gallery(every, visible=more, selected_index=None)]

    def taken(found: Work | None, event: gr.SelectData) -> tuple[str, str]:
        needed(found).sample(event.index - 1)
        return both(needed(found))

    asked = [photo, cropped, todo, model]
    todo.change(chosen, todo, [painting, model], **ONE).then(said(framed), asked, mask, **ONE)
    gr.on([photo.change, cropped.change], said(framed), asked, mask, **ONE)
    run.click(said(repaired), [*asked, mask, keep, several], [work, stage, variants], **ONE)
    variants.select(said(taken), work, stage, **ONE)
