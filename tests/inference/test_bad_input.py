"""Whatever is thrown at the command line: done, or refused in one sentence with exit 2; and nothing executes."""

import io
import os
import pickle
import shlex
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixel2style import checkpoints, cli
from pixel2style.errors import CheckpointError
from tests.support import stand_in


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in.save_random_model(tmp_path_factory.mktemp("model") / "random.safetensors")


def noise(height: int = 40, width: int = 60) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_bomb(side: int = 30_000) -> bytes:
    """A real black picture of ``side`` squared pixels in about 100 kB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (side + 7) // 8) * side), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def rotated_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(), "JPEG", exif=exif)


def palette_with_transparency() -> bytes:
    return encoded(noise().quantize(16), "PNG", transparency=3)


REFUSED: dict[str, Callable[[], bytes]] = {
    "empty.png": lambda: b"",
    "truncated.png": lambda: encoded(noise(), "PNG")[:2000],
    "truncated.jpg": lambda: encoded(noise(), "JPEG")[:600],
    "header_only.png": lambda: encoded(noise(), "PNG")[:33],
    "text.png": lambda: b"Dear diary, today I was saved under the wrong name.\n",
    "random.jpg": lambda: np.random.default_rng(1).bytes(5000),
    "bomb.png": png_bomb,
}
DONE: dict[str, Callable[[], bytes]] = {
    "cmyk.jpg": lambda: encoded(noise().convert("CMYK"), "JPEG"),
    "sixteen.png": lambda: encoded(Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256)), "PNG"),
    "palette.png": palette_with_transparency,
    "rotated.jpg": rotated_jpeg,
    "tiny.png": lambda: encoded(noise(1, 1), "PNG"),
    "line.png": lambda: encoded(noise(1, 500), "PNG"),
    "bits.png": lambda: encoded(noise().convert("1"), "PNG"),
    "alpha.webp": lambda: encoded(noise().convert("RGBA"), "WEBP"),
    "moving.gif": lambda: encoded(noise(), "GIF", save_all=True, append_images=[noise(40, 60)]),
    "a name with spaces, ünïcödé.png": lambda: encoded(noise(), "PNG"),
}


def run(command: str, *arguments: object) -> int:
    return cli.main([*shlex.split(command), *map(str, arguments)])


@pytest.mark.parametrize("name", DONE)
def test_an_odd_picture_is_done(name: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(DONE[name]())
    out = tmp_path / "out"
    assert run("invert --no-align", tmp_path / name, "--out", out, "--model", model) == 0, capsys.readouterr().err
    assert (out / f"{Path(name).stem}.pair.png").is_file()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("align", ["", "--no-align"])
@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_picture_is_refused_in_one_sentence_and_leaves_nothing(
    name: str, align: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(REFUSED[name]())
    out = tmp_path / "out"
    assert run(f"invert {align}", tmp_path / name, "--out", out, "--model", model) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert name in said.err
    assert said.out == ""
    assert not list(out.iterdir())


def test_the_good_pictures_of_a_folder_with_bad_ones_are_done(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "mixed", tmp_path / "out"
    folder.mkdir()
    for name, content in {**REFUSED, **DONE}.items():
        (folder / name).write_bytes(content())
    (folder / "loop.png").symlink_to("loop.png")
    missing = folder / "missing.png"
    assert run("invert --no-align --batch 3", folder, missing, "--out", out, "--model", model) == 2
    assert sorted(path.name for path in out.glob("*.pair.png")) == sorted(
        f"{Path(name).stem}.pair.png" for name in DONE
    )
    said = capsys.readouterr()
    assert said.err.count("\n") == len(REFUSED) + 2
    assert all(name in said.err for name in [*REFUSED, "missing.png", "loop.png"])
    assert f"{len(DONE)} of {len(DONE) + len(REFUSED) + 2} photographs" in said.out


def test_a_photograph_is_turned_as_its_exif_data_says(tmp_path: Path, model: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    upright = Image.new("RGB", (64, 64), "black")
    upright.paste("white", (0, 0, 64, 32))
    upright.rotate(180).save(tmp_path / "turned.png", exif=exif)
    assert run("invert --no-align", tmp_path / "turned.png", "--out", tmp_path / "out", "--model", model) == 0
    with Image.open(tmp_path / "out" / "turned.pair.png") as pair:
        left = np.asarray(pair)[:, : stand_in.SIZE]
    half = stand_in.SIZE // 2
    assert left[: half - 1].mean() > 250
    assert left[half + 1 :].mean() < 5


@pytest.mark.parametrize("path", ["missing.png", "missing/folder/me.png", "missing/*.png"])
def test_a_missing_photograph_is_named(
    path: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("invert", tmp_path / path, "--out", tmp_path / "out", "--model", model) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(tmp_path / path) in said


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_an_output_that_cannot_be_a_folder_is_refused(
    out: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("precious")
    noise().save(tmp_path / "me.png")
    for command in ("invert --no-align --model " + shlex.quote(str(model)), "align"):
        assert run(command, tmp_path / "me.png", "--out", tmp_path / out) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert str(tmp_path / out) in said
    assert (tmp_path / "file").read_text() == "precious"


def test_a_result_that_cannot_be_written_fails_alone(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    (folder / "blocked").mkdir(parents=True)
    out.mkdir()
    (out / "blocked").write_text("in the way")
    noise().save(folder / "blocked" / "me.png")
    noise().save(folder / "you.png")
    assert run("invert --no-align", folder, "--out", out, "--model", model) == 2
    assert (out / "you.png").is_file()
    assert capsys.readouterr().err.count("\n") == 1


class Command:
    """Unpickling this runs a command."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {shlex.quote(str(self.marker))}",)


def hostile_pickle(marker: Path) -> bytes:
    return pickle.dumps({"state_dict": Command(marker)})


def hostile_archive(marker: Path) -> bytes:
    buffer = io.BytesIO()
    torch.save({"g_ema": Command(marker), "latent_avg": torch.zeros(512)}, buffer)
    return buffer.getvalue()


def test_the_hostile_files_would_run_if_they_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(hostile_pickle(tmp_path / "ran"))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
@pytest.mark.parametrize("hostile", [hostile_pickle, hostile_archive])
def test_a_hostile_model_file_runs_nothing(
    hostile: Callable[[Path], bytes], suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker, file = tmp_path / "ran", tmp_path / f"model{suffix}"
    file.write_bytes(hostile(marker))
    noise().save(tmp_path / "me.png")
    for command in (
        ("invert --no-align", tmp_path / "me.png", "--out", tmp_path / "out", "--model", file),
        ("convert", file, tmp_path / "converted.safetensors"),
    ):
        assert run(*command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert file.name in said
    assert not marker.exists()
    assert not (tmp_path / "converted.safetensors").exists()


def junk_models(model: Path) -> dict[str, bytes]:
    good = model.read_bytes()
    archive = io.BytesIO()
    torch.save({"g_ema": {"input.input": torch.zeros(1, 512, 4, 4)}}, archive)
    strange = io.BytesIO()
    torch.save([1, 2, 3], strange)
    return {
        "empty.safetensors": b"",
        "empty.pt": b"",
        "random.safetensors": np.random.default_rng(2).bytes(4000),
        "random.pt": np.random.default_rng(3).bytes(4000),
        "text.pt": b"<html>Not found</html>",
        "half.safetensors": good[: len(good) // 2],
        "header.safetensors": good[:100],
        "huge_header.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "half.pt": archive.getvalue()[:-200],
        "few_keys.pt": archive.getvalue(),
        "list.pt": strange.getvalue(),
        "picture.pt": encoded(noise(), "PNG"),
    }


JUNK = list(junk_models(Path(__file__)))


@pytest.mark.parametrize("name", JUNK)
def test_a_junk_model_file_is_refused_in_one_sentence(
    name: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(junk_models(model)[name])
    noise().save(tmp_path / "me.png")
    for command in (
        ("invert --no-align", tmp_path / "me.png", "--out", tmp_path / "out", "--model", file),
        ("convert", file, tmp_path / "converted.safetensors"),
    ):
        assert run(*command) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert name in said
    assert not (tmp_path / "converted.safetensors").exists()


def test_a_missing_model_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise().save(tmp_path / "me.png")
    gone = tmp_path / "gone.safetensors"
    assert run("invert --no-align", tmp_path / "me.png", "--out", tmp_path / "out", "--model", gone) == 2
    assert str(gone) in capsys.readouterr().err


def test_an_empty_name_is_no_model() -> None:
    with pytest.raises(CheckpointError, match="'' is no model"):
        checkpoints.find("")


@pytest.mark.parametrize("target", ["file.txt", "present.safetensors", "present.safetensors/below.safetensors"])
def test_convert_refuses_a_bad_target_and_replaces_nothing(
    target: str, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "present.safetensors").write_text("precious")
    assert run("convert", model, tmp_path / target) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "present.safetensors").read_text() == "precious"


@pytest.mark.slow
def test_the_real_program_exits_with_2_and_no_traceback(tmp_path: Path, model: Path) -> None:
    (tmp_path / "text.png").write_bytes(REFUSED["text.png"]())
    process = subprocess.run(
        [sys.executable, "-m", "pixel2style", "invert", tmp_path / "text.png", "--out", tmp_path / "out"]
        + ["--model", model],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
