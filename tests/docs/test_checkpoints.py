"""docs/checkpoints.md names tests, and they are there."""

import re

import pytest

from tests.support.paths import TESTS

PAGE = (TESTS.parent / "docs" / "checkpoints.md").read_text()
NAMED = re.findall(r"`([\w/]*test_\w+)::(test_\w+)`", PAGE)
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| **")]


@pytest.mark.parametrize(("module", "test"), sorted(set(NAMED)))
def test_a_test_that_the_page_names_is_there(module: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (TESTS / f"{module}.py").read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_cell_of_the_table_is_shown_by_a_test_or_says_what_it_follows(row: list[str]) -> None:
    assert len(row) == 4
    for cell in row[1:]:
        follows = cell.startswith(("–", "the same", "as ", "into and from, as"))
        assert follows or "::" in cell


def test_the_table_has_all_families() -> None:
    assert len(ROWS) == 15
    assert len(set(NAMED)) > 30
