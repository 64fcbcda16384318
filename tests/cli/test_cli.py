"""The command line as a user meets it: what is written, what is refused before any work, what is said."""

import gc
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import pixel2style as p2s
from pixel2style import cli, images
from pixel2style import photos as folders
from pixel2style.inference import folder as pipeline
from pixel2style.metrics.scores import Scorer
from pixel2style.tasks import TASKS
from tests.support import stand_in
from tests.support.paths import ROOT

ASTRONAUT = ROOT / "examples" / "astronaut.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in.save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a.png, b.jpg and deep/a.png, all different."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(["a.png", "b.jpg", "deep/a.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (40 + seed, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
    return folder


def run(command: str, *arguments: object) -> int:
    return cli.main([*shlex.split(command), *map(str, arguments)])


def picture(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.copy()


def written(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_one_real_photograph_gives_reconstruction_pair_aligned_face_and_rows(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("invert", ASTRONAUT, "--out", out, "--model", model) == 0
    assert written(out) == ["astronaut.aligned.png", "astronaut.pair.png", "astronaut.png", "latents.safetensors"]
    size = stand_in.SIZE
    assert picture(out / "astronaut.png").size == (size, size)
    assert picture(out / "astronaut.pair.png").size == (2 * size, size)
    assert picture(out / "astronaut.aligned.png").size == (size, size)
    said = capsys.readouterr()
    assert all(str(out / name) in said.out for name in written(out))
    assert said.err == ""


def test_the_bundled_model_draws_a_stranger_recognisably(tmp_path: Path) -> None:
    assert run("invert", ASTRONAUT, "--out", tmp_path) == 0
    photo, drawn = (images.to_tensor(picture(tmp_path / f"astronaut{end}"))[None] for end in (".aligned.png", ".png"))
    assert drawn.shape == (1, 3, 1024, 1024)
    scores = Scorer()(drawn, photo).means()
    assert scores["l2"] < 0.065
    assert scores["lpips"] < 0.25
    assert scores["identity"] > 0.7


def test_the_rows_that_are_written_draw_the_reconstruction_that_is_written(tmp_path: Path, model: Path) -> None:
    assert run("invert --no-align", ASTRONAUT, "--out", tmp_path, "--model", model) == 0
    ws = load_file(tmp_path / "latents.safetensors")["astronaut"]
    assert ws.shape == (stand_in.ROWS, stand_in.WIDTH)
    drawn = images.to_picture(p2s.load(model).decode(ws[None])[0])
    difference = np.asarray(drawn).astype(int) - np.asarray(picture(tmp_path / "astronaut.png"))
    assert np.abs(difference).max() <= 1


def test_a_folder_keeps_its_structure_and_every_photograph_its_own_rows(
    tmp_path: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("invert --no-align", photos, "--out", out, "--model", model) == 0
    names = ["a", "b", "deep/a"]
    assert written(out) == sorted(
        [f"{n}{end}" for n in names for end in (".pair.png", ".png")] + ["latents.safetensors"]
    )
    rows = load_file(out / "latents.safetensors")
    assert sorted(rows) == names
    assert not torch.equal(rows["a"], rows["deep/a"])
    assert "3 of 3 photographs" in capsys.readouterr().out


def test_a_later_run_adds_its_rows_to_the_earlier_ones(tmp_path: Path, model: Path, photos: Path) -> None:
    out = tmp_path / "out"
    for name in ("a.png", "b.jpg"):
        assert run("invert --no-align", photos / name, "--out", out, "--model", model) == 0
    rows = load_file(out / "latents.safetensors")
    assert sorted(rows) == ["a", "b"]
    assert not torch.equal(rows["a"], rows["b"])


def test_a_file_of_something_else_is_not_replaced_by_rows(
    tmp_path: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latents.safetensors").write_text("precious")
    assert run("invert --no-align --overwrite", photos, "--out", tmp_path, "--model", model) == 2
    assert (tmp_path / "latents.safetensors").read_text() == "precious"
    assert "move it away" in capsys.readouterr().err


def test_a_batch_gives_what_single_photographs_give(tmp_path: Path, model: Path, photos: Path) -> None:
    for batch in (1, 2):
        assert run("invert --no-align", photos, "--out", tmp_path / str(batch), "--model", model, "--batch", batch) == 0
    single, double = (load_file(tmp_path / name / "latents.safetensors") for name in "12")
    for name in single:
        assert torch.allclose(single[name], double[name], atol=1e-5)


def test_an_existing_result_is_refused_before_any_work_and_replaced_when_asked(
    tmp_path: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_text("precious")
    command = ("invert --no-align", photos, "--out", out, "--model", model)
    assert run(*command) == 2
    assert written(out) == ["b.png"]
    assert (out / "b.png").read_text() == "precious"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "--overwrite" in said
    assert run(*command, "--overwrite") == 0
    assert (out / "b.png").read_bytes().startswith(b"\x89PNG")


def test_results_beside_the_photographs_never_replace_one(tmp_path: Path, model: Path, photos: Path) -> None:
    before = (photos / "a.png").read_bytes()
    assert run("invert --no-align --overwrite", photos, "--out", photos, "--model", model) == 2
    assert (photos / "a.png").read_bytes() == before


def test_running_into_a_folder_inside_the_photographs_twice_does_the_same_ones(model: Path, photos: Path) -> None:
    command = ("invert --no-align --overwrite", photos, "--out", photos / "out", "--model", model)
    assert run(*command) == 0
    first = written(photos / "out")
    assert run(*command) == 0
    assert written(photos / "out") == first


def test_align_writes_a_square_of_the_size_asked_for(tmp_path: Path) -> None:
    assert run("align --size 128", ASTRONAUT, "--out", tmp_path) == 0
    assert written(tmp_path) == ["astronaut.png"]
    assert picture(tmp_path / "astronaut.png").size == (128, 128)


def test_a_photograph_without_a_face_fails_by_name_and_the_others_are_done(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("align --size 64", ASTRONAUT, photos / "b.jpg", "--out", out) == 2
    assert written(out) == ["astronaut.png"]
    said = capsys.readouterr().err
    assert "b.jpg: no face" in said
    assert "--no-align" in said


@pytest.mark.parametrize("command", ["align", "invert --no-align"])
def test_a_photograph_whose_name_no_result_can_carry_fails_and_the_others_are_done(
    tmp_path: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (photos / "__metadata__.png").write_bytes((photos / "a.png").read_bytes())
    (photos / os.fsdecode(b"\xff.png")).write_bytes((photos / "a.png").read_bytes())
    more = ["--model", model] if command.startswith("invert") else []
    assert run(command, photos, "--out", tmp_path / "out", *more) == 2
    assert capsys.readouterr().err.count("rename it") == 2
    if more:
        assert set(load_file(tmp_path / "out" / "latents.safetensors")) == {"a", "b", "deep/a"}


def test_stopping_keeps_what_was_finished(
    tmp_path: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.Session.invert_many

    def interrupted(self: pipeline.Session, *arguments: object, **options: object) -> Iterator[object]:
        yield next(whole(self, *arguments, **options))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.Session, "invert_many", interrupted)
    out = tmp_path / "out"
    assert run("invert --no-align", photos, "--out", out, "--model", model) == 130
    assert written(out) == ["a.pair.png", "a.png", "latents.safetensors"]
    assert list(load_file(out / "latents.safetensors")) == ["a"]
    assert "Traceback" not in capsys.readouterr().err


def test_no_more_pictures_are_held_than_one_batch_has(tmp_path: Path, model: Path) -> None:
    for index in range(6):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(tmp_path / f"{index}.png")
    held = []
    gc.freeze()  # of the many objects of earlier tests none is looked at
    try:
        for _ in pipeline.Session(model, "cpu").invert_many(folders.find([str(tmp_path)]), align=False):
            gc.collect()
            held.append(sum(issubclass(type(thing), Image.Image) for thing in gc.get_objects()))
    finally:
        gc.unfreeze()
    assert len(held) == 6
    assert max(held[1:]) <= held[1]


def test_models_lists_every_bundled_model_with_its_terms(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models") == 0
    said = capsys.readouterr().out
    bundled = sorted((ROOT / "src" / "pixel2style" / "assets").glob("*.safetensors"))
    for file in bundled:
        assert re.search(rf"^{file.stem}\b", said, re.MULTILINE), file.stem
    assert said.count("Licence") >= len(bundled)


def test_an_unknown_model_is_refused_with_the_names_there_are(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invert --no-align --model facse", photos, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "facse" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused(
    tmp_path: Path, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invert --no-align --device cuda", photos, "--out", tmp_path / "out", "--model", model) == 2
    assert "--device cpu" in capsys.readouterr().err


def test_a_model_that_reads_no_photographs_is_refused(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sketches = stand_in.save_random_model(tmp_path / "sketch.safetensors", channels=1)
    assert run("invert --no-align", photos, "--out", tmp_path / "out", "--model", sketches) == 2
    assert "not photographs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("invrt", "invert"),
        ("invert me.png", "--out"),
        ("invert me.png --out {} --bath 2", "--batch"),
        ("invert me.png --out {} --device gpu", "cuda"),
        ("invert me.png --out {} --batch two", "--batch"),
        ("invert me.png --out {} --batch 0", "--batch"),
        ("invert --out {}", "no photograph"),
        ("align me.png --out {} --size 0", "--size"),
        ("align me.png --out {} --size 1000000", "--size"),
    ],
)
def test_a_slip_of_the_keyboard_is_one_line_that_helps(
    tmp_path: Path, words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = run(words.format(shlex.quote(str(tmp_path / "out"))))
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert told in said.err


def test_help_is_shown_when_nothing_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert all(command in said for command in cli.COMMANDS)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_is_explained_in_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    assert end.value.code == 0
    help_text = " ".join(capsys.readouterr().out.translate(dict.fromkeys(map(ord, "│╭╮╰╯─"), " ")).split())
    for name, parameter in inspect.signature(cli.COMMANDS[command]).parameters.items():
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            named = [
                other.name for other in get_args(parameter.annotation) if isinstance(getattr(other, "name", None), str)
            ]
            own = named[0] if named else name.replace("_", "-")
            option = f"--{'no-' if parameter.default is True else ''}{own}"
            _, found, after = help_text.rpartition(f" {option} ")
            assert found, option
            assert len(re.findall(r"\b[a-z]{2,}\b", after.partition(" --")[0])) > 2, option


def test_help_lists_the_tasks_without_torch() -> None:
    script = (
        "import sys; from pixel2style import cli\n"
        "for words in ([], ['translate', '--help'], ['invert', '-h'], ['transalte']):\n"
        "    try: cli.main(words)\n"
        "    except SystemExit: pass\n"
        "print('heavy' if {'torch', 'PIL', 'numpy'} & set(sys.modules) else 'light')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("light\n")
    assert f"TASK is one of {', '.join(TASKS)}." in " ".join(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_words_can_be_completed_by_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--tyro-print-completion", shell])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert {word for word in cli.COMMANDS if word not in printed} == set()
    assert "skip-existing" in printed


def test_the_installed_program_prints_its_version() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "pixel2style", "--version"], capture_output=True, text=True, check=True
    )
    assert process.stdout == f"pixel2style {p2s.__version__}\n"
    assert process.stderr == ""


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("invrt a.jpg --out D", "invert"),
        ("nothing", "translate"),
        ("invert a.jpg --out D --refine abc", "--refine"),
        ("invert a.jpg --out D --budget soon", "--budget"),
        ("invert -dash.jpg --out D", "--"),
        ("invert a.jpg --out D --json --quiet", "--json"),
        ("sketch a.jpg --out D --size abc", "--size is a whole number"),
        ("sketch a.jpg --out D --width abc", "--width is a number"),
        ("sketch a.jpg --out D --style oil", "--style is one of lines, outline, pencil, shaded"),
        ("translate sketch a.jpg --out D --make-sketch oil", "--make-sketch is one of lines, outline"),
        ("translate sketch a.jpg --out D --single-samples", "--samples"),
        ("translate sketch a.jpg --out D --rows 3-", "--samples 4 or --like"),
        ("translate superres a.jpg --out D --alpha .5", "--samples 4"),
        ("translate sketch a.jpg --make-sketch lines --out D --seed 1-3", "--samples 4"),
        ("translate superres a.jpg --out D --seed 7", "--samples 4"),
        ("translate inpaint a.jpg --mask mouth --out D --seed 7", "--mask box"),
        ("mix a.jpg --with b.jpg --seed 7 --out D", "--variants"),
        ("invert a.jpg --no-detail --save-features --out D", "--no-detail"),
        ("invert a.jpg --out=", "--out is empty"),
        ("invert a.jpg", "pixel2style invert needs --out DIR: see"),
        ("export onnx", "pixel2style export needs NAME|FILE, --out DIR: see"),
        ("align a.jpg --out D --no-align --size 64", "pixel2style align has no --no-align"),
        ("morph a.jpg b.jpg --out D --steps 1", "--steps"),
        ("find-directions --out D --scores missing.csv", "missing.csv cannot be read"),
        ("find-directions --out D --scores age --samples 0", "--samples"),
        ("find-directions --out D --scores age,male --hold smile", "smile"),
        ("find-directions --out D --scores age,male --hold age,male", "--hold"),
        ("find-directions --out D --scores age,age", "age twice"),
        ("find-directions --out D --scores ,", "--scores names no score"),
        ("find-directions --out D --scores age --name old", "--name does nothing"),
        ("find-directions --out D --scores age --count 2", "--count does nothing"),
        ("find-directions --out D --scores x.csv --samples 9", "--samples does nothing"),
        ("find-directions --out D --method sefa --samples 9", "--samples does nothing"),
        ("find-directions --out D --method sefa --seed 18446744073709551616", "a seed"),
        ("mix a.jpg --variants 2 --seed 18446744073709551616 --out D", "a seed"),
        ("find-directions --out D --scores age --rows 99", "rows"),
        ("studio --no-browser --runs missing", "--runs missing"),
        ("studio --no-browser --device gpu", "gpu"),
    ],
)
def test_mistakes_are_answered_in_one_line_that_names_the_remedy(
    words: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line and "NoneType" not in line and "Traceback" not in line


@pytest.mark.parametrize("option", ["--out", "--model", "--sheet", "--face"])
def test_an_empty_value_never_means_the_current_folder(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["invert", str(ASTRONAUT), "--out", "D", option, ""]) == 2
    assert option in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        "invert DIR --out OUT --device gpu",
        "align DIR --out OUT --device gpu",
        "sketch DIR --out OUT --device gpu",
        "paint DIR --out OUT --fill red --mask DIR/bad.png",
        "paint DIR --out OUT --patch DIR/bad.png --at 1,1",
        "paint DIR --out OUT --from DIR/bad.png --mask eyes",
        "edit DIR --out OUT --set age=1 --only DIR/bad.png",
    ],
)
def test_a_mistake_in_what_photographs_share_is_said_once(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    (tmp_path / "other.png").write_text("no picture either")
    folder = words.replace("DIR", str(tmp_path)).replace("OUT", str(tmp_path / "out"))
    assert exit_code(folder.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gpu" in line or "bad.png" in line


@pytest.mark.parametrize(
    "words",
    [
        "invert PHOTO",
        "refine PHOTO",
        "edit PHOTO --set age=1",
        "mix PHOTO --with PHOTO",
        "paint PHOTO --mask eyes --fill red",
        "translate superres PHOTO",
    ],
)
def test_a_sheet_never_replaces_a_photograph(words: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (photo := photos / "a.png").read_bytes()
    words = words.replace("PHOTO", str(photo))
    assert exit_code([*words.split(), "--out", str(photos / "out"), "--sheet", str(photo), "--overwrite"]) == 2
    assert "one of the photographs" in capsys.readouterr().err and photo.read_bytes() == before


def exit_code(words: list[str]) -> int:
    try:
        return cli.main(words)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_a_json_line_for_each_picture_good_or_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    words = ["align", str(ASTRONAUT), str(tmp_path / "bad.png"), "--out", str(tmp_path / "out"), "--json"]
    assert cli.main(words) == 2
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["name"] == "astronaut" and Path(good["files"]["aligned"]).is_file()
    assert bad["photograph"].endswith("bad.png") and "error" in bad


def test_quiet_prints_errors_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["align", str(ASTRONAUT), "missing.png", "--out", str(tmp_path), "--quiet"]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and "missing.png" in said.err


def test_quiet_shows_no_state_of_a_refinement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    for quiet in (True, False):
        with cli.refine.progress.steps(quiet):
            pass
        assert bool(capsys.readouterr().err) is not quiet


def test_a_closed_pipe_and_a_terminal_without_unicode_are_no_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pixel2style"]
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{shlex.join([*command, 'models'])} | true"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert piped.returncode in (0, 141) and piped.stderr == ""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*command, "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    photo = tmp_path / "é.png"
    photo.write_bytes(ASTRONAUT.read_bytes())
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    aligned = subprocess.run(
        [*command, "align", photo, "--out", tmp_path / "out"], env=ascii_only, capture_output=True, check=False
    )
    assert aligned.returncode == 0 and b"\\xe9.png" in aligned.stdout
