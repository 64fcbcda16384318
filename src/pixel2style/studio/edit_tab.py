"""Edit: a photograph is inverted, then changes with sliders, paint, other photographs, variants and time."""

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from .. import images
from ..config import DEFAULT_TASK
from ..editing.latents import GROUPS
from ..editing.regions import NAMES
from ..inference import edit
from ..inference.drawings import from_text, to_text
from ..inference.work import MOST_PIXELS, Sessions, Work
from .parts import (
    HERE,
    KEPT,
    LIVE,
    ONE,
    QUIET,
    both,
    canvas,
    chooser,
    needed,
    photograph,
    said,
    saving,
    shown,
)

ABOUT = {
    "Person": ("age", "masculine", "face-width", "glasses"),
    "Hair": ("hair-length", "fringe", "curls", "hair-light", "beard"),
    "Make-up": ("eye-make-up", "lipstick"),
    "Expression": ("smile", "mouth-open", "eyes-open", "anger"),
    "Pose": ("yaw", "pitch"),
    "Light": ("light", "light-from-right", "warmth", "background-light"),
}
"""Directions that are shown together; others come after them."""
PENS = {
    "black": "#181010", "brown": "#5a3825", "blond": "#d8b070", "red": "#a03028", "gray": "#909090", "white": "#f4f0ec",
    "skin": "#e0ac90", "pink": "#d07080", "blue": "#4070b0", "green": "#508050", "erase": "",
}  # fmt: skip
REACH = 3.0
"""The ends of sliders, in units of a direction."""
PREVIEW, THUMB, VARIANTS = 256, 128, 6
WHOLE = "the whole face"
NUMBER = re.compile(r"-?\d(\.\d+)?")
LINK = """(...amounts) => {
  const link = new URL(location.href), names = %s;
  names.forEach((name, i) => amounts[i] ? link.searchParams.set(name, amounts[i]) : link.searchParams.delete(name));
  history.replaceState(null, '', link);
}"""
"""Keeps the sliders in the page's address, so that it can be passed on."""


def tab(models: Sessions, closed: bool) -> tuple[list[Any], Callable[..., Any]]:
    """The tab; what a link to the page sets, and the function that reads it."""
    every = (edit.bundled(models[name].model.generator) for name in models.names(DEFAULT_TASK))
    known = next((own for own in every if own), {})
    sliders: dict[str, gr.Slider] = {}
    with gr.Tab("Edit", id="edit"), gr.Row(elem_classes="work"):
        work = gr.State(time_to_live=KEPT)
        with gr.Column(scale=2, min_width=300):
            photo = photograph("Photograph", height=260, elem_id="edit-photograph")
            with gr.Row():
                astronaut = gr.Button("Example", size="sm", min_width=80)
                invented = gr.Button("Invented face", size="sm", min_width=80)
            cropped = gr.Checkbox(label="Already cropped: use the middle square")
            model = chooser(models.names(DEFAULT_TASK), closed)
            faces = gr.Gallery(label="Choose a face", columns=4, height="auto", visible=False, allow_preview=False)
        with gr.Column(scale=3, min_width=320):
            stage = gr.ImageSlider(label="Before and after", interactive=False, buttons=[], elem_classes="stage")
            facts = gr.Markdown(elem_classes="quiet")
            with gr.Row():
                undo, reset = gr.Button("Undo edit", size="sm"), gr.Button("Reset edits", size="sm")
            with gr.Accordion("Paint on the face", open=False) as painting:
                layer = canvas("Paint", PENS, brush=12)
                paint = gr.Button("Make it part of the face")
            with gr.Accordion("Mix with another photograph", open=False):
                other = photograph("Other photograph", height=200)
                rows = gr.Radio(list(GROUPS), value="fine", label="What is taken: shape, features or colour")
                share, mix = gr.Slider(0, 1, 0.5, label="How much"), gr.Button("Mix")
            with gr.Accordion("Variants", open=False):
                kind = gr.Radio(list(GROUPS), value="medium", label="What is invented: shape, features or colour")
                seed, more = gr.Number(0, visible=False), gr.Button("Draw variants")
                variants = gr.Gallery(label="Choose one to go on with", columns=3, height="auto", allow_preview=False)
            with gr.Accordion("Closer to the photograph", open=False):
                budget, refine = gr.Slider(2, 60, 10, step=1, label="Seconds"), gr.Button("Refine")
            with gr.Accordion("Download", open=False):
                saving(work)
        with gr.Column(scale=3, min_width=300):
            only = gr.Dropdown([WHOLE, *NAMES], label="What changes")
            for title, own in grouped(list(known)).items():
                with gr.Accordion(title, open=title in ("Person", "Expression")):
                    for name in own:
                        unit = "" if known[name].unit.startswith("one") else f" ({known[name].unit})"
                        sliders[name] = gr.Slider(-REACH, REACH, 0, step=0.05, label=name.replace("-", " ") + unit)

    names, moving = list(sliders), list(sliders.values())

    def begin(path: str | None, name: str, as_it_is: bool, region: str, *amounts: float) -> list[Any]:
        if path is None:
            return [gr.Gallery([], visible=False), None, None, ""]
        crops = [] if as_it_is else models[name].faces(images.load(path, MOST_PIXELS), THUMB)
        every = [(shown(face), str(number)) for number, face in enumerate(crops, 1)]
        gallery = gr.Gallery(every, visible=len(every) > 1, selected_index=None)
        return [gallery, *start(path, name, as_it_is, region, amounts)]

    def chosen(path: str, name: str, region: str, event: gr.SelectData, *amounts: float) -> list[Any]:
        return start(path, name, False, region, amounts, event.index + 1)

    def start(
        path: str, name: str, as_it_is: bool, region: str, amounts: Sequence[float], face: int | None = None
    ) -> list[Any]:
        found = Work.invert(models[name], Path(path), not as_it_is, face)
        found.only = None if region == WHOLE else region
        if any(amounts):
            found.move(dict(zip(names, amounts, strict=True)))
        return [found, both(found), found.about()]

    def preview(found: Work | None, *amounts: float) -> Any:
        asked = dict(zip(names, amounts, strict=True))
        if found is None:
            return gr.skip()
        return both(found, None if asked == found.amounts else found.preview(asked, PREVIEW))

    def drawn(found: Work | None, *amounts: float) -> Any:
        asked = dict(zip(names, amounts, strict=True))
        if found is None:
            return gr.skip()
        if asked != found.amounts:
            found.move(asked)
        return both(found)

    def limited(found: Work | None, region: str) -> Any:
        if found is None:
            return gr.skip()
        found.limit(None if region == WHOLE else region)
        return both(found)

    def after(change: Callable[..., None], quiet: bool = False) -> Callable[..., list[Any]]:
        def handler(found: Work | None, *given: Any) -> list[Any]:
            if found is None and quiet:
                return [gr.skip(), *(0 for _ in names)]
            change(needed(found), *given)
            return [both(needed(found)), *(needed(found).amounts.get(name, 0) for name in names)]

        return said(handler)

    def mixed(found: Work, path: str | None, which: str, amount: float) -> None:
        found.mix(Path(needed(path, "Choose the other photograph, too.")), which, amount)

    def painted(found: Work, value: str | None) -> None:
        found.paint(from_text(value))

    def under(found: Work | None) -> Any:
        return gr.HTML("", under="" if found is None else to_text(found.now.reconstruction.resize((512, 512)), "JPEG"))

    def varied(found: Work | None, which: str, number: float) -> Any:
        return [shown(one) for one in needed(found).vary(which, VARIANTS, int(number), PREVIEW)], number + 1

    def taken(found: Work | None, event: gr.SelectData) -> Any:
        needed(found).take(event.index)
        return both(needed(found))

    def refined(found: Work | None, seconds: float) -> Iterator[Any]:
        for picture, words in needed(found).refine(seconds):
            yield both(needed(found), picture), words
        yield both(needed(found)), needed(found).about()

    def linked(request: gr.Request) -> list[Any]:
        asked = [request.query_params.get(name, "") for name in names]
        return [
            max(-REACH, min(REACH, float(text))) if NUMBER.fullmatch(text) else gr.skip()  # else gradio refuses it
            for text in asked
        ]

    now, everything = [work, *moving], [stage, *moving]
    given = [photo, model, cropped, only, *moving]
    begun = gr.on([photo.change, model.change, cropped.change], said(begin), given, [faces, work, stage, facts], **ONE)
    gr.on([slider.input for slider in moving], said(preview), now, stage, **LIVE)
    released = gr.on([slider.release for slider in moving], said(drawn), now, stage, **ONE, trigger_mode="always_last")
    released.then(None, moving, js=LINK % names)
    changes = [
        begun,
        released,
        faces.select(said(chosen), [photo, model, only, *moving], [work, stage, facts], **ONE),
        only.input(said(limited), [work, only], stage, **ONE),
        variants.select(said(taken), work, stage, **ONE),
        refine.click(said(refined), [work, budget], [stage, facts], **ONE),
        undo.click(after(Work.undo, quiet=True), work, everything, **ONE),
        reset.click(after(Work.reset, quiet=True), work, everything, **ONE),
        paint.click(after(painted), [work, layer], everything, **ONE),
        gr.on([mix.click, share.release], after(mixed), [work, other, rows, share], everything, **ONE),
    ]
    for event in (painting.expand, *(change.then for change in changes)):
        event(said(under), work, layer, **QUIET)
    more.click(said(varied), [work, kind, seed], [variants, seed], **ONE)
    astronaut.click(lambda: str(HERE / "astronaut.jpg"), None, photo, **ONE)
    invented.click(said(lambda name: shown(models[name].invent(secrets.randbits(31)))), model, photo, **ONE)
    return moving, linked


def grouped(names: list[str]) -> dict[str, list[str]]:
    """Directions by what they change."""
    groups = {title: [name for name in own if name in names] for title, own in ABOUT.items()}
    rest = [name for name in names if not any(name in own for own in groups.values())]
    return {title: own for title, own in (groups | {"More": rest}).items() if own}
