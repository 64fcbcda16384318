"""A session that threads share, that is forked, and the devices it runs on."""

import io
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixel2style import images
from pixel2style.errors import CheckpointError, ConfigError, ImageError
from pixel2style.inference.session import Result, Session
from pixel2style.tasks.request import Request
from tests.support import bundled, stand_in
from tests.support.paths import ASTRONAUT


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in.save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.mark.usefixtures("one_thread")
def test_threads_that_share_a_session_compute_one_after_the_other(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session, picture = Session(file), images.load(ASTRONAUT)
    alone = session.invert(picture, refine=0, detail=False).ws
    inside, most, encode = threading.Semaphore(0), [0], session.model.encode

    def counted(*given: torch.Tensor) -> torch.Tensor:
        inside.release()
        most[0] = max(most[0], inside._value)
        time.sleep(0.02)  # long enough for the others to come
        try:
            return encode(*given)
        finally:
            inside.acquire()

    monkeypatch.setattr(session.model, "encode", counted)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: session.invert(picture, refine=0, detail=False).ws, range(4)))
    assert most[0] == 1
    assert all(torch.equal(ws, alone) for ws in results)


@pytest.mark.slow
@pytest.mark.parametrize("detail", [True, False])
def test_pictures_of_fp32_do_not_depend_on_the_number_of_threads(detail: bool) -> None:
    session, drawn, before = Session(precision="fp32"), [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        drawn.append(np.asarray(session.invert(ASTRONAUT, detail=detail).reconstruction).astype(int))
    torch.set_num_threads(before)
    assert np.abs(drawn[0] - drawn[1]).max() <= 2


FORKED = """
import os, sys, torch
from pixel2style import images
from pixel2style.inference.session import Session
torch.set_num_threads(2)
session, picture = Session(sys.argv[1]), images.load(sys.argv[2])
own = session.invert(picture, refine=0, detail=False).ws
child = os.fork()
if child == 0:
    same = (session.invert(picture, refine=0, detail=False).ws - own).abs().max() < 0.5
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_can_use_the_session_of_its_parent(file: Path) -> None:
    waiting = {**os.environ, "GOMP_SPINCOUNT": "2000"}  # as commands do: threads that spin take the time of other tests
    words = [sys.executable, "-c", FORKED, str(file), str(ASTRONAUT)]
    ended = subprocess.run(words, timeout=120, check=False, env=waiting)
    assert ended.returncode == 0


@pytest.mark.parametrize(
    "name", ["cuda:99", "gpu", "cuda:", "cuda:-1", "cuda:x", "mps:7", "", None, 0, torch.device("meta")]
)
def test_devices_that_are_not_there_are_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="device"):
        _ = Session(device=name).device  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp16", "", "BF16"])
def test_other_precisions_are_refused(precision: str) -> None:
    with pytest.raises(ConfigError, match="precision"):
        Session(precision=precision)  # type: ignore[arg-type]


@pytest.mark.usefixtures("one_thread")
def test_bfloat16_is_near_float32_and_not_the_same() -> None:
    picture = bundled.face()
    low, high = (
        Session(precision=p).invert(picture, False, refine=0, detail=False).ws  # type: ignore[arg-type]
        for p in ("bf16", "fp32")
    )
    assert 0 < float((low - high).abs().mean()) < 0.05 * float(high.abs().mean())
    assert low.dtype == torch.float32


def test_a_device_may_have_a_number_or_be_one_of_pytorch() -> None:
    assert Session(device="cpu").device == Session(device=torch.device("cpu")).device == torch.device("cpu")
    if torch.cuda.is_available():
        assert Session(device="cuda:0").device.index == 0


@pytest.mark.usefixtures("one_thread")
def test_a_photograph_in_memory_is_inverted_like_its_file(file: Path) -> None:
    session, picture = Session(file), images.load(ASTRONAUT)
    content = ASTRONAUT.read_bytes()
    of_file = session.invert(ASTRONAUT, refine=0, detail=False).ws
    for photograph in (str(ASTRONAUT), picture, np.asarray(picture), content, io.BytesIO(content)):
        assert torch.equal(session.invert(photograph, refine=0, detail=False).ws, of_file)


@pytest.mark.parametrize(
    "photograph", [None, torch.zeros(3, 64, 64), np.zeros((64, 64, 3)), b"", Image.new("RGB", (0, 0)), 5]
)
def test_what_is_no_photograph_is_refused_in_a_sentence(photograph: object) -> None:
    for call in (Session().invert, Session("superres").translate):
        with pytest.raises(ImageError):
            call(photograph)


@pytest.mark.usefixtures("one_thread")
def test_rows_that_are_no_picture_s_are_not_drawn(file: Path) -> None:
    session = Session(file)
    result = session.invert(ASTRONAUT, refine=0, detail=False)
    own = result.ws
    for wrong in (own * float("nan"), own * 1e9, own[None], own[:2], own[:, :2], own.long(), None, own.numpy()):
        for call in (session.picture, lambda ws: session.edit(result, ws)):
            with pytest.raises(ConfigError, match="rows"):
                call(wrong)
    assert session.edit(result, own).reconstruction == result.reconstruction == session.picture(own)


@pytest.mark.usefixtures("one_thread")
def test_several_photographs_are_given_by_their_paths(file: Path) -> None:
    session = Session(file)
    for paths in ([ASTRONAUT], (str(ASTRONAUT),), session.each_face([str(ASTRONAUT)])):
        ((photo, result),) = session.invert_many(paths, refine=0, detail=False)
        assert photo.path == ASTRONAUT and photo.name.startswith("astronaut") and isinstance(result, Result)
    for wrong in (str(ASTRONAUT), ASTRONAUT, None, [Image.new("RGB", (8, 8))]):
        with pytest.raises(ImageError, match="path"):
            list(session.invert_many(wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [1.5, "2", 1.0])
def test_a_number_of_steps_is_a_whole_number(number: object) -> None:
    with pytest.raises(ConfigError, match="whole number"):
        Session().invert(ASTRONAUT, refine=number)


@pytest.mark.parametrize("option", ["budget", "target"])
def test_a_goal_is_a_number(option: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=f"--{option}.*'soon'"):
        Session(file).invert(ASTRONAUT, **{option: "soon"})  # type: ignore[arg-type]


def test_a_share_of_rows_is_a_number() -> None:
    with pytest.raises(ConfigError, match=r"--alpha.*'half'"):
        Session("frontalize").translate(ASTRONAUT, samples=1, alpha="half")  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", [3, b"no picture", np.zeros((4, 4)), Image.new("L", (0, 0)), torch.zeros(1, 4, 4)])
def test_masks_that_are_no_picture_are_refused(mask: object) -> None:
    with pytest.raises(ImageError):
        Session("inpaint").translate(ASTRONAUT, mask=mask)  # type: ignore[arg-type]


def test_factors_seeds_and_files_of_other_types_are_refused() -> None:
    for task, options in (
        ("superres", {"factor": "8"}),
        ("superres", {"factor": 1.5}),
        ("superres", {"seed": None}),
        ("segmentation", {"colours": 3}),
    ):
        with pytest.raises(ConfigError, match=next(iter(options)).removesuffix("s")):
            Session(task).translate(ASTRONAUT, **options)


def test_a_model_in_memory_is_no_file_of_one() -> None:
    with pytest.raises(CheckpointError, match=r"^a Linear is no model"):
        _ = Session(torch.nn.Linear(1, 1)).model  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2", True])
def test_a_batch_is_a_number_of_photographs(batch: object, file: Path) -> None:
    session = Session(file)
    with pytest.raises(ConfigError, match="batch"):
        session.invert_many([], batch=batch)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch"):
        session.translate_many([], Request("invert"), batch)  # type: ignore[arg-type]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_session_whose_model_is_of_bfloat16_draws_nearly_the_same() -> None:
    session, picture, plain = Session(), images.load(ASTRONAUT), bundled.inverted()
    session.model.bfloat16()
    drawn = session.invert(picture)
    assert drawn.ws.dtype == torch.float32
    difference = np.asarray(drawn.reconstruction, np.float32) - np.asarray(plain.reconstruction)
    assert np.abs(difference).mean() < 8
