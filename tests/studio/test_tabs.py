"""What the handlers of the tabs do, without a browser and without networks."""

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from pixel2style.editing.directions import Direction
from pixel2style.errors import ImageError, NoFaceError
from pixel2style.inference import drawings, edit

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="the extra studio is not installed"
)  # each test imports it: it takes seconds, which tests of other files need not wait for

NAMES = ("age", "smile")


class Models:
    """Two models of faces, of which only the second has bundled directions, and one of each other task."""

    def names(self, task: str) -> list[str]:
        return ["mine", "faces"] if task in ("invert", "frontalize") else [task]

    def __getitem__(self, name: str) -> Any:
        return SimpleNamespace(model=SimpleNamespace(generator=name))


class Face:
    """A face that counts its changes; pictures are of one level, how far it was moved."""

    def __init__(self) -> None:
        self.amounts: dict[str, float] = dict.fromkeys(NAMES, 0.0)
        self.only: str | None = None
        self.seen = self.picture(0)

    def picture(self, level: float, size: int = 64) -> Image.Image:
        return Image.new("RGB", (size, size), (int(40 * level),) * 3)

    @property
    def now(self) -> Any:
        return SimpleNamespace(reconstruction=self.picture(sum(self.amounts.values())))

    def preview(self, amounts: dict[str, float], size: int) -> Image.Image:
        return self.picture(sum(amounts.values()), size)

    def move(self, amounts: dict[str, float]) -> None:
        self.amounts = dict(amounts)

    def limit(self, only: str | None) -> None:
        self.only = only


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    found = {name: Direction(name, torch.ones(1, 1), unit="one") for name in NAMES}
    monkeypatch.setattr(edit, "bundled", lambda generator: found if generator == "faces" else {})


def built(tab: Callable[..., Any], *given: Any) -> tuple[Any, Any]:
    """A page of one tab, and what the tab returns."""
    import gradio as gr

    async def build() -> tuple[Any, Any]:
        with gr.Blocks(analytics_enabled=False) as page:
            return page, tab(Models(), *given)

    return asyncio.run(build())  # else gradio makes a loop of its own and does not close it


def handler(page: Any, name: str) -> Callable[..., Any]:
    (found,) = {one.fn for one in page.fns.values() if one.name == name}
    return found  # type: ignore[no-any-return]


def level(shown: Any) -> tuple[float, int]:
    """How far the face after the change was moved, and the side of its picture."""
    with Image.open(shown[1]) as picture:
        return round(picture.convert("L").getpixel((0, 0)) / 40, 1), picture.width  # type: ignore[operator]


def test_a_slider_that_goes_back_shows_the_face_where_it_is() -> None:
    from pixel2style.studio import edit_tab

    (page, _), face = built(edit_tab.tab, False), Face()
    preview, drawn = handler(page, "preview"), handler(page, "drawn")
    assert level(preview(face, 2.0, 0.0)) == (2, edit_tab.PREVIEW)
    assert level(preview(face, 0.0, 0.0)) == (0, 64), "the picture that is there already"
    assert level(preview(face, 1.0, 0.0)) == (1, edit_tab.PREVIEW)
    assert level(drawn(face, 0.0, 0.0)) == (0, 64)
    assert level(drawn(face, 0.0, 3.0)) == (3, 64) and face.amounts == {"age": 0, "smile": 3}


def test_a_link_sets_sliders_no_farther_than_they_go() -> None:
    import gradio as gr

    from pixel2style.studio import edit_tab

    _, (sliders, linked) = built(edit_tab.tab, False)
    assert [slider.label for slider in sliders] == list(NAMES), "of the first model that has directions"
    for text, amount in (("9.5", 3.0), ("-4", -3.0), ("1.5", 1.5)):
        assert linked(SimpleNamespace(query_params={"age": text})) == [amount, gr.skip()]


def test_choosing_a_region_before_a_photograph_leaves_sliders_alone() -> None:
    from pixel2style.studio import edit_tab

    page, _ = built(edit_tab.tab, False)
    limited, face = handler(page, "limited"), Face()
    assert limited(None, "mouth") == {"__type__": "update"}
    limited(face, "mouth")
    assert face.only == "mouth"
    limited(face, edit_tab.WHOLE)
    assert face.only is None


def test_a_variant_of_work_that_was_dropped_after_an_hour_asks_for_a_new_start() -> None:
    import gradio as gr

    from pixel2style.studio import draw_tab, edit_tab, repair_tab

    click = SimpleNamespace(index=0)
    for tab, name, given in (
        (edit_tab.tab, "taken", ()),
        (repair_tab.tab, "taken", ()),
        (draw_tab.tab, "kept", ("sketch", "")),
    ):
        page, _ = built(tab, False)
        for one in page.fns.values():
            if one.name == name:
                with pytest.raises(gr.Error, match="first"):
                    one.fn(None, *given, click)


def test_the_canvas_lies_on_the_face_that_is_shown() -> None:
    from pixel2style.studio import edit_tab

    page, _ = built(edit_tab.tab, False)
    followed = {one.trigger_after for one in page.fns.values() if one.name == "under"}
    changing = {"begin", "chosen", "drawn", "limited", "taken", "refined", "handler"}
    found = {one.name: number for number, one in page.fns.items() if one.name in changing}
    assert found.keys() == changing
    assert {name for name, number in found.items() if number not in followed} == set()


def test_models_of_what_is_to_be_repaired_can_be_chosen_where_there_are_several() -> None:
    from pixel2style.studio import repair_tab

    chosen = handler(built(repair_tab.tab, True)[0], "chosen")
    _, front = chosen("Turn to the front")
    _, fill = chosen("Fill what is painted")
    assert front.visible and not fill.visible and front.choices[1][0] == "faces"


def test_a_folder_without_runs_is_said_to_be_empty_and_its_first_run_is_shown(tmp_path: Path) -> None:
    import gradio as gr

    from pixel2style.studio import train_tab

    page, _ = built(lambda _, runs: train_tab.tab(runs), tmp_path)
    listed, looked = handler(page, "listed"), handler(page, "looked")
    assert looked(None, [], None)[1:] == [gr.skip()] * 4 and "no runs" in looked(None, [], None)[0]
    assert listed(None)[0].constructor_args.get("value") is None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "log.jsonl").write_text('{"step": 0, "lr": 0.1}\n')
    assert listed(None)[0].constructor_args.get("value") == "mine"


def test_a_photograph_without_a_face_is_answered_by_what_can_be_done_in_its_tab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gradio as gr

    from pixel2style.studio import draw_tab, parts

    def none(picture: Image.Image) -> Image.Image:
        raise NoFaceError("no face was found")

    Image.new("RGB", (8, 8)).save(tmp_path / "wall.png")
    monkeypatch.setattr(Models, "__getitem__", lambda models, name: SimpleNamespace(prepare=none))
    page, _ = built(draw_tab.tab, False)
    started = [one.fn for one in page.fns.values() if one.name == "started"]
    assert len(started) == 2
    for fn in started:
        with pytest.raises(gr.Error, match="draw a face yourself"):
            fn(str(tmp_path / "wall.png"), "sketch")
    with pytest.raises(gr.Error, match="Already cropped"), parts.sentences():
        none(Image.new("RGB", (8, 8)))


def test_an_empty_canvas_is_said_to_be_empty_and_draws_no_face() -> None:
    from pixel2style.studio import draw_tab

    with pytest.raises(ImageError, match="nothing is drawn"):
        drawings.from_text("")
    for one in built(draw_tab.tab, False)[0].fns.values():
        if one.name == "followed":
            assert one.fn(None, "sketch", "") == {"__type__": "update"}
