"""``pixel2style train``: help, mistakes, order of words, stopping, several processes, ``tiny``.

``python tests/cli/test_train.py > tests/golden/train_options.txt`` writes the pinned options.
"""

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from pydantic import TypeAdapter

import pixel2style as p2s
from pixel2style import cli, config, images
from pixel2style.cli import train
from pixel2style.config import LossConfig, TrainConfig
from pixel2style.tasks.presets import PRESETS
from pixel2style.training import loop, run_folder, stopping
from tests.support.paths import GOLDEN
from tests.support.small_run import small_config

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = GOLDEN / "train_options.txt"
GENERATOR = "mobilestylegan_ffhq_1024"
Said = pytest.CaptureFixture[str]


def documented() -> Iterator[tuple[str, str, Any]]:
    """Option, sentence and default of every field, as config.py has them."""
    tree = ast.parse(Path(config.__file__).read_text())
    sentences: dict[tuple[str, str], str] = {}
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, sentence in zip(group.body, group.body[1:], strict=False):
            match field, sentence:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    sentences[group.name, name] = " ".join(text.split())

    def walk(shape: Any, prefix: str) -> Iterator[tuple[str, str, Any]]:
        own = [base.__name__ for base in type(shape).__mro__]
        for field in fields(shape):
            name, value = prefix + field.name.replace("_", "-"), getattr(shape, field.name)
            if is_dataclass(value):
                yield from walk(value, f"{name}.")
            else:
                yield name, next((sentences[o, field.name] for o in own if (o, field.name) in sentences), ""), value

    yield from walk(TrainConfig(), "--")


def listed() -> str:
    """The pinned text: an option a line, its default and what it means."""
    return "".join(f"{name} = {value!r}: {sentence}\n" for name, sentence, value in documented())


def words_of(text: str) -> str:
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def helped(capsys: Said, *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.main(["train", *words])
    assert end.value.code == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def configured(line: str) -> TrainConfig:
    return train.parse_config("train", "", line.split())


def complaint(capsys: Said, *words: str) -> str:
    """The one line that a command that cannot work leaves with."""
    try:
        code = cli.main(["train", *words])
    except SystemExit as end:
        code = cast(int, end.code)
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    return said.err.removeprefix("pixel2style: ").rstrip()


def test_options_are_those_that_are_pinned() -> None:
    assert listed() == OPTIONS.read_text(), f"if it was meant: python tests/cli/test_train.py > {OPTIONS}"


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_help_lists_every_preset(capsys: Said, words: tuple[str, ...]) -> None:
    text = words_of(helped(capsys, *words))
    for name, preset in PRESETS.items():
        assert f"• {name} {preset.about}" in text


@pytest.mark.parametrize("words", [("tiny", "--help"), ("tiny", "--data", "a", "-h"), ("--help", "tiny")])
def test_a_presets_help_explains_every_field_with_its_value(capsys: Said, words: tuple[str, ...]) -> None:
    said = words_of(helped(capsys, *words))
    for name, sentence, _ in documented():
        assert sentence, f"{name} is not explained"
        assert re.search(rf"{re.escape(name)}\W", said), name
        assert sentence in said, name
    steps = next(sentence for name, sentence, _ in documented() if name == "--steps")
    assert f"--steps INT {steps} (default: {PRESETS['tiny'].config.steps})" in said
    assert "``" not in said


def test_help_comes_without_torch() -> None:
    script = (
        "import sys; from pixel2style import cli\n"
        "for words in (['train'], ['train', 'tiny', '--help'], ['train', 'tiny', '--bacth', '1'], ['doctor']):\n"
        "    try: cli.main(words)\n"
        "    except SystemExit: pass\n"
        "print('heavy' if 'torch' in sys.modules else 'light')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("light\n")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("tyny --data D", "did you mean tiny?"),
        ("superres-compct --data D", "did you mean superres-compact?"),
        ("xyzzy", "superres-compact"),
        ("--data D --out O tyny", "did you mean tiny?"),
        ("--data D tyny", "did you mean tiny?"),
        ("--data D --out O", "superres-compact"),
        ("--data D --out tiny", "--out"),
        ("--mirror", "--mirror is no preset"),
        ("tiny --los.lpips 1", "did you mean --loss.lpips"),
        ("tiny --loss.lpps 1", "did you mean --loss.lpips"),
        ("tiny --bacth 5", "did you mean --batch?"),
        ("tiny --bacth=5", "did you mean --batch?"),
        ("tiny --lpips 1", "did you mean --loss.lpips"),
        ("tiny --no-mirorr", "--no-mirror?"),
        ("--data D --loss.lpps 1 tiny", "did you mean --loss.lpips"),
        ("tiny --xyzzy", "--xyzzy"),
        ("tiny --batch 0", "--batch must be greater than 0, not 0"),
        ("tiny --loss.w_norm -1", "--loss.w-norm must be greater than or equal to 0, not -1.0"),
        ("tiny --source.factors 2 0", "--source.factors must be greater than 0, not 0"),
        ("tiny --encoder.input-size 0", "--encoder.input-size must be greater than 0, not 0"),
        ("tiny --ema 1", "--ema must be less than 1, not 1.0"),
        ("tiny --batch five", "--batch"),
        ("tiny --optimizer sgd", "--optimizer"),
        ("tiny --track wandbb", "--track"),
        ("tiny --mirror Flase", "Flase"),
        ("tiny --batch", "--batch"),
        ("tiny spare", "spare"),
        ("tiny", "--data"),
        ("tiny --data D", "--out"),
        ("tiny --data /missing/folder --out O", "/missing/folder"),
        ("tiny --data D --out O --task inverrt", "did you mean invert?"),
        ("/missing/config.json --data D", "/missing/config.json"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    capsys: Said, line: str, named: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in complaint(capsys, *line.split())
    assert list(tmp_path.iterdir()) == []


def test_former_names_of_options_still_work() -> None:
    found = configured("invert-compact --looks 3 --one_look_until=7")
    assert (found.iterations, found.one_iteration_until) == (3, 7)


@pytest.mark.parametrize(
    ("words", "mirror"),
    [
        ("--mirror", True),
        ("--no-mirror", False),
        ("--mirror True", True),
        ("--mirror false", False),
        ("--mirror=no", False),
        ("--mirror yes", True),
        ("--no-mirror False", True),
    ],
)
def test_a_flag_may_have_a_value(words: str, mirror: bool) -> None:
    for preset in ("tiny", "invert"):
        assert configured(f"{preset} {words} --batch 3") == replace(PRESETS[preset].config, mirror=mirror, batch=3)
    assert configured(f"{words} tiny").mirror == mirror


@pytest.mark.parametrize(
    "line",
    [
        "tiny --data A B --out X",
        "--data A B --out X tiny",
        "--out X --data A B tiny",
        "tiny --out=X --data A B",
    ],
)
def test_words_may_stand_in_any_order(line: str) -> None:
    assert configured(line) == replace(PRESETS["tiny"].config, data=("A", "B"), out="X")


def test_single_fields_override_a_preset() -> None:
    found = configured(
        "superres --loss.w_norm 0.01 --source.factors 4 8 --seed 3 --start-from None --track wandb tensorboard"
    )
    preset = PRESETS["superres"].config
    assert found == replace(
        preset, loss=replace(preset.loss, w_norm=0.01), source=replace(preset.source, factors=(4, 8)), seed=3,
        track=("wandb", "tensorboard"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture
def small(folder: Path) -> str:
    """The config.json of a run that takes a second."""
    loss = LossConfig(lpips=0.0, identity=0.0)
    file = folder / "config.json"
    file.write_bytes(TypeAdapter(TrainConfig).dump_json(small_config(folder, loss=loss, validation=("",)[:0])))
    return str(file)


def logged(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in found if "train/loss" in line]


def test_a_run_is_repeated_from_its_configuration_or_its_folder(small: str, tmp_path: Path, capsys: Said) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert cli.main(["train", small, "--out", str(first), "--loss.l2", "2"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    first_line, *steps, last_line = said.out.splitlines()
    assert first_line.startswith("2 pictures")
    assert [line.split()[:4] for line in steps] == [["step", str(step), "of", "4"] for step in range(1, 5)]
    assert last_line.startswith("finished at step 4") and last_line.endswith(str(first / "model.safetensors"))
    assert cli.main(["train", small, "--out", str(tmp_path / "short"), "--minutes", "0.0001"]) == 0
    assert "time is up at step 1 of 4" in capsys.readouterr().out
    assert cli.main(["train", str(first / run_folder.CONFIG), "--out", str(second)]) == 0
    assert cli.main(["train", "--out", str(third), str(first)]) == 0
    losses = [[line["train/loss"] for line in logged(run)] for run in (first, second, third)]
    assert losses[0] == losses[1] == losses[2]
    assert run_folder.read_config(second / run_folder.CONFIG) == replace(
        run_folder.read_config(first / run_folder.CONFIG), out=str(second)
    )


def test_an_empty_name_of_a_folder_of_pictures_is_not_the_current_folder(
    capsys: Said, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "empty name" in complaint(capsys, "tiny", "--data", "", "--out", str(tmp_path / "run"))


def test_a_folder_that_holds_no_run_is_no_preset(capsys: Said, tmp_path: Path) -> None:
    assert str(tmp_path) in complaint(capsys, str(tmp_path), "--data", "D")


def test_when_memory_runs_out_options_that_need_less_are_named(
    small: str, tmp_path: Path, capsys: Said, monkeypatch: Any
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "fit", full)
    assert "--accumulate" in complaint(capsys, small, "--out", str(tmp_path))


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pixel2style", "train", *words]


def environment(**about: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **about}


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(words):
            return
    raise AssertionError(f"{words} was never said: {process.communicate()[1]}")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_a_stopped_run_prints_one_line_and_can_be_resumed(
    small: str, tmp_path: Path, number: int, code: int, capsys: Said
) -> None:
    words = [small, "--out", str(tmp_path)]
    running = subprocess.Popen(
        command(*words, "--steps", "100000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    wait_for(running, "step 3 ")
    assert cli.main(["train", *words, "--steps", "100000"]) == 2  # a second run into the same folder
    assert "another process" in capsys.readouterr().err
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == code
    said = re.fullmatch(r"pixel2style: stopped and saved at step (\d+).*\n", err)
    assert said
    end = int(said[1]) + 2
    assert cli.main(["train", *words, "--steps", str(end)]) == 0
    assert [line["step"] for line in logged(tmp_path)] == list(range(1, end + 1))


def test_the_time_that_is_left_is_that_of_the_minutes(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 10.0, 70.0])
    monkeypatch.setattr(train.time, "monotonic", lambda: next(clock))
    line = train._line_printer(10_000, minutes=2)
    line(1, {"loss": 1.0})
    line(2, {"loss": 1.0})
    line(8, {"loss": 1.0})
    said = capsys.readouterr().out
    assert "(2 min left)" in said and "(50 s left)" in said


@pytest.mark.parametrize(("processes", "interrupts"), [("1", True), ("2", False)])
def test_a_second_ctrl_c_interrupts_at_once_but_not_the_one_that_a_launcher_repeats(
    monkeypatch: Any, processes: str, interrupts: bool
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    stop = stopping.Stop()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt) if interrupts else contextlib.nullcontext():
            os.kill(os.getpid(), signal.SIGINT)
        stop.ignore_for = 0.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop.signal == signal.SIGINT


def test_a_launcher_that_would_start_fewer_processes_than_asked_for_is_refused(
    small: str, tmp_path: Path, capsys: Said, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert "replace --cpu by --multi_gpu" in complaint(capsys, small, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


LAUNCHERS = {
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port"],
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--master-port"],
}


def launched(launcher: str, *words: str) -> subprocess.Popen[str]:
    port = str(29100 + os.getpid() % 800 + 10 * list(LAUNCHERS).index(launcher))
    line = [sys.executable, "-m", *LAUNCHERS[launcher], port, "-m", "pixel2style", "train", *words]
    quiet = environment(TORCH_CPP_LOG_LEVEL="ERROR")
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_print_and_write_as_one_and_stop_together(
    small: str, tmp_path: Path, launcher: str, capsys: Said
) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    running = launched(launcher, small, "--out", str(two), "--precision", "fp32")
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    steps = [f"step {step}" for step in range(1, 5)]
    assert [" ".join(line.split()[:2]) for line in out.splitlines()] == ["2 pictures,", *steps, "finished at"]
    assert "pixel2style:" not in err
    assert cli.main(["train", small, "--out", str(one)]) == 0
    for ours, theirs in zip(logged(two), logged(one), strict=True):
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)
    names = [sorted(path.name for path in run.iterdir()) for run in (one, two)]
    assert names[0] == names[1]
    stopped = launched(launcher, small, "--out", str(two), "--steps", "100000")
    wait_for(stopped, "step 8 ")
    os.killpg(stopped.pid, signal.SIGINT)  # as a terminal does
    _, err = stopped.communicate(timeout=300)
    assert stopped.returncode != 0
    assert len(re.findall(r"pixel2style: stopped and saved at step \d+", err)) == 1, err
    kept = run_folder.RunFolder(two).read_state()
    assert kept is not None
    step = kept["counts"][0]
    assert step >= 8
    assert [line["step"] for line in logged(two)] == list(range(1, step + 1))


def drawn_faces(place: Path, count: int) -> str:
    """A folder of faces that the bundled generator draws."""
    place.mkdir()
    generator = p2s.load_generator("mobilestylegan_ffhq_1024")
    z = torch.randn(count, generator.width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for number, w in enumerate(generator.map(z).split(1)):
            images.save(generator.synthesize(w, 256)[0].clamp(-1, 1), place / f"{number}.png")
    return str(place)


def evaluated(run: Path) -> dict[int, dict[str, float]]:
    """Validation losses and scores by step."""
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in found if "validation/loss" in line}


def tiny(faces: str, run: Path, *words: str) -> tuple[dict[str, float], dict[str, float]]:
    """The first and the last evaluation of ``tiny``, on faces that are its validation too."""
    assert cli.main(["train", "tiny", "--data", faces, "--validation", faces, "--out", str(run), *words]) == 0
    first, *_, last = evaluated(run).values()
    return first, last


def test_a_step_of_tiny_changes_every_loss(tmp_path: Path) -> None:
    """That the losses fall needs more steps; see the next test, and doctor's check in ``training/test_doctor.py``."""
    first, last = tiny(drawn_faces(tmp_path / "two", 2), tmp_path / "run", "--steps", "1")
    assert (first["step"], last["step"]) == (0, 1)
    for term in ("loss", "l2", "lpips", "identity"):
        assert 0 < abs(last[f"validation/{term}"] - first[f"validation/{term}"]) < 0.1


@pytest.mark.slow
def test_tiny_overfits_ten_faces_in_two_minutes_of_two_cores(tmp_path: Path) -> None:
    ten = drawn_faces(tmp_path / "ten", 10)
    begun = time.process_time()  # of all threads: what else the machine does is not counted
    first, last = tiny(ten, tmp_path / "run")
    spent = time.process_time() - begun
    for term in ("loss", "l2", "lpips"):
        assert last[f"validation/{term}"] < 0.65 * first[f"validation/{term}"]
    assert last["validation/identity"] < 0.4 * first["validation/identity"]
    assert spent < 2 * 120


if __name__ == "__main__":
    print(listed(), end="")
