"""Files are written whole or not at all, and claimed before any work."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pixel2style import files
from pixel2style.errors import NoRoomError, OutputError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")


def test_an_existing_result_is_refused_and_named(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(OutputError, match=r"a\.png \(and 1 more\) .*--overwrite"):
        files.claim(tmp_path, [tmp_path / "a.png", tmp_path / "b.png"], [], overwrite=False)
    files.claim(tmp_path, [tmp_path / "a.png", tmp_path / "b.png"], [], overwrite=True)


def test_a_photograph_is_never_replaced_by_its_own_result(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    with pytest.raises(OutputError, match="photographs"):
        files.claim(tmp_path, [tmp_path / "a.png"], [tmp_path / "x" / ".." / "a.png"], overwrite=True)


def test_two_results_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="two results"):
        files.claim(tmp_path, [tmp_path / "a.pair.png", tmp_path / "a.pair.png"], [], overwrite=True)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name of a file"):
        files.claim(tmp_path, [tmp_path / f"{'a' * 300}.png"], [], overwrite=True)


def test_a_file_where_the_folder_should_be_is_refused_untouched(tmp_path: Path) -> None:
    touch(tmp_path / "out")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(OutputError, match="cannot write to"):
            files.claim(out, [], [], overwrite=True)
    assert (tmp_path / "out").read_bytes() == b"picture"


def test_claiming_leaves_nothing_behind_but_the_folder(tmp_path: Path) -> None:
    files.claim(tmp_path / "new" / "er", [tmp_path / "new" / "er" / "a.png"], [], overwrite=False)
    assert not list((tmp_path / "new" / "er").iterdir())


def test_a_written_file_replaces_the_old_one_and_leaves_no_other(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    files.write_text(file, "old")
    files.write_text(file, "new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_after_an_error_the_old_file_is_there_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    files.write_text(file, "old")
    with pytest.raises(RuntimeError), files.replacing(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_an_output_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "missing" / "a.txt"
    with pytest.raises(OutputError, match=str(file)):
        files.write_bytes(file, b"content")


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    touch(tmp_path / "usual")
    files.write_bytes(tmp_path / "written", b"content")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_librarys_error_on_a_full_disk_is_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = RuntimeError("unexpected pos 704\nframe #0")
    assert files.system_error(tmp_path / "x", theirs).errno == errno.EIO
    assert str(files.system_error(tmp_path / "x", theirs)).endswith("unexpected pos 704")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))  # type: ignore[attr-defined]
    with pytest.raises(NoRoomError), files.writing(tmp_path / "x"):
        raise files.system_error(tmp_path / "x", theirs)


def test_a_lock_is_held_by_one_and_freed(tmp_path: Path) -> None:
    with files.locked(tmp_path):
        held = "import sys; from pathlib import Path; from pixel2style import files\n"
        held += "with files.locked(Path(sys.argv[1]), 'busy'): pass"
        other = [sys.executable, "-c", held, str(tmp_path)]
        refused = subprocess.run(other, capture_output=True, text=True, check=False)
        assert refused.returncode == 1 and "OutputError: busy" in refused.stderr
    assert subprocess.run(other, check=False).returncode == 0
