"""Draw: a face follows a sketch or a map of its parts."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import ImageError, NoFaceError
from ..inference.drawings import from_text, to_text
from ..inference.work import MAPS, Drawing, Sessions
from ..metrics import parsing
from .parts import KEPT, LIVE, ONE, canvas, chooser, needed, photograph, said, shown

PARTS = dict(zip(parsing.CLASSES, parsing.PALETTE, strict=True))
PAPER = "#ffffff"
PREVIEW, VARIANTS, SIDE = 256, 4, 256


def tab(models: Sessions, closed: bool) -> None:
    """The tab, with a canvas for each task that there is a model of."""
    tasks = [task for task in ("sketch", MAPS) if models.names(task)]
    if tasks:
        with gr.Tab("Draw", id="draw"), gr.Tabs():
            for task in tasks:
                with gr.Tab("Sketch" if task == "sketch" else "Map of parts", id=task):
                    _canvas_of(models, task, closed)


def _canvas_of(models: Sessions, task: str, closed: bool) -> None:
    parts = task == MAPS
    pens = PARTS if parts else {"pen": "#000000", "paper": PAPER}
    work = gr.State(time_to_live=KEPT)
    with gr.Row(elem_classes="work"):
        with gr.Column(min_width=320):
            model = chooser(models.names(task), closed)
            sheet = canvas(
                "Parts of the face" if parts else "Sketch",
                pens,
                *((12, parsing.PALETTE[0]) if parts else (4, PAPER, 512)),
            )
            with gr.Accordion("Start from a photograph", open=False):
                photo = photograph("Photograph", height=200, elem_id=f"{task}-photograph")
        with gr.Column(min_width=320):
            face = gr.Image(label="Face", interactive=False, buttons=["download"], height=510, elem_classes="face")
            seed, more = gr.Number(0, visible=False), gr.Button("Draw variants")
            variants = gr.Gallery(label="Choose a look to keep", columns=VARIANTS, height="auto", allow_preview=False)
            free = gr.Button("Let go of the look")

    def followed(found: Drawing | None, name: str, value: str | None, size: int | None = None) -> Any:
        if not value:  # the photograph to start from was taken away, and nothing is drawn
            return gr.skip()
        if found is None or found.session is not models[name]:
            found = Drawing(models[name])
        if size and value == found.drawn:  # the picture at full size was quicker
            return gr.skip()
        found.drawn = "" if size else value
        return found, shown(found.follow(from_text(value).convert("RGB"), size))

    def started(path: str | None, name: str) -> Any:
        if path is None:
            return gr.skip()
        try:
            return to_text(Drawing.sheet(models[name], Path(path), SIDE if parts else 2 * SIDE))
        except NoFaceError:  # no box to tick here, of which the sentence of other tabs speaks
            raise ImageError("no face was found: choose another photograph, or draw a face yourself") from None

    def varied(found: Drawing | None, number: float) -> Any:
        every = needed(found, "Draw a face first.").vary(VARIANTS, int(number), PREVIEW)
        return [shown(one) for one in every], number + 1

    def kept(found: Drawing | None, name: str, value: str, event: gr.SelectData) -> Any:
        needed(found, "Draw a face first.").keep(event.index)
        return followed(found, name, value, PREVIEW)

    def freed(found: Drawing | None, name: str, value: str) -> Any:
        needed(found, "Draw a face first.").keep(None)
        return followed(found, name, value, PREVIEW)

    given, outputs = [work, model, sheet], [work, face]
    preview, final = said(partial(followed, size=PREVIEW)), said(followed)
    sheet.draw(preview, given, outputs, **LIVE)
    sheet.done(final, given, outputs, **LIVE)
    begun = photo.change(said(started), [photo, model], sheet, **ONE).then(preview, given, outputs, **ONE)
    begun.then(final, given, outputs, **ONE)
    more.click(said(varied), [work, seed], [variants, seed], **ONE)
    variants.select(said(kept), given, outputs, **ONE).then(final, given, outputs, **ONE)
    free.click(said(freed), given, outputs, **ONE).then(final, given, outputs, **ONE)
