"""Damaged pictures are read or refused in one sentence, quickly, in little memory, without a word of a codec."""

import json
import subprocess
import sys

import pytest

from tests.support import damaged_pictures
from tests.support.paths import ROOT


@pytest.mark.parametrize("name", damaged_pictures.sound())
def test_what_is_damaged_was_sound(name: str) -> None:
    assert damaged_pictures.images.from_bytes(damaged_pictures.sound()[name]).size == damaged_pictures.SIDES[::-1]


def test_sixty_damaged_pictures_are_read_or_refused() -> None:
    outcomes = {damaged_pictures.outcome(number) for number in range(60)}
    assert outcomes == {"read", "refused"}


def test_the_same_number_gives_the_same_picture() -> None:
    assert damaged_pictures.damaged(7) == damaged_pictures.damaged(7) != damaged_pictures.damaged(8)


@pytest.mark.slow
def test_a_thousand_damaged_pictures_take_neither_time_nor_memory() -> None:
    command = [sys.executable, "-m", "tests.support.damaged_pictures", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] == 1000
    assert found["slowest"] < 20 and found["peak_gb"] < 1.5
    assert done.stderr == ""
