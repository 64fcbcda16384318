"""Command line arguments to photographs with unique names."""

from collections import Counter
from pathlib import Path

import pytest

from pixel2style import photos
from pixel2style.errors import ImageError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")


def names(*words: Path | str, leave_out: Path | None = None) -> list[str]:
    return [photo.name for photo in photos.find([str(word) for word in words], leave_out)]


def test_a_folder_is_searched_to_the_bottom_and_keeps_its_structure(tmp_path: Path) -> None:
    touch(tmp_path / "b.JPG", tmp_path / "deep" / "er" / "a.png", tmp_path / "notes.txt", tmp_path / ".hidden.png")
    touch(tmp_path / ".git" / "c.png")
    assert names(tmp_path) == ["b", "deep/er/a"]


def test_a_file_is_called_by_its_stem_whatever_its_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "me.weird", tmp_path / "bare")
    assert names(tmp_path / "me.weird", tmp_path / "bare") == ["me", "bare"]


def test_a_pattern_keeps_the_structure_below_its_first_wildcard(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "1.jpg", tmp_path / "y" / "1.jpg", tmp_path / "y" / "1.txt")
    assert names(tmp_path / "*" / "1.*") == ["x/1", "y/1"]
    assert names(tmp_path / "**" / "*.jpg") == ["x/1", "y/1"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path / "me [1].png", tmp_path / "me 1.png")
    assert names(tmp_path / "me [1].png") == ["me [1]"]


def test_a_photograph_given_twice_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert names(tmp_path / "a.png", tmp_path, tmp_path / "." / "a.png") == ["a"]


def test_photographs_of_one_stem_keep_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert names(tmp_path) == ["a.jpg", "a.png", "b"]


def test_photographs_of_one_name_from_several_folders_keep_their_folder(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "y" / "b.png")
    assert names(tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "y" / "b.png") == ["x/a", "y/a", "b"]


def test_results_inside_the_searched_folder_are_not_taken_for_photographs(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "out" / "old.png")
    assert names(tmp_path, leave_out=tmp_path / "out") == ["a"]


def test_a_missing_file_is_kept_to_fail_by_itself(tmp_path: Path) -> None:
    assert names(tmp_path / "gone.png") == ["gone"]


@pytest.mark.parametrize("words", [[], ["{}"], ["{}/*.png"]])
def test_nothing_to_do_is_said(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(ImageError):
        photos.find([word.format(tmp_path) for word in words])


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(ImageError, match="empty"):
        photos.find(["a.jpg", ""])


def test_links_that_lead_back_to_themselves_cost_only_themselves(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "round").symlink_to(tmp_path, target_is_directory=True)
    assert [photo.name for photo in photos.find([str(tmp_path)], tmp_path / "out")] == ["a", "loop"]


def test_what_is_no_picture_is_counted_by_suffix(tmp_path: Path) -> None:
    touch(*(tmp_path / n for n in ("a.jpg", "b.HEIC", "clip.mp4", "deep/other.mp4", "notes", ".hidden.mp4")))
    others = Counter[str]()
    assert [photo.name for photo in photos.find([str(tmp_path)], others=others)] == ["a", "b"]
    assert others == {".mp4": 2, "without a suffix": 1}
