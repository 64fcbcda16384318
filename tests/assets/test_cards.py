"""Cards of bundled files in both of their forms."""

from pathlib import Path

import pytest

from pixel2style.assets import cards

HEADER = (54).to_bytes(8, "little") + b'{"__metadata__": {"config": "{\\"kind\\": \\"x\\"}"}}     '
LIST = """# thing

It does *this*,
and `that`.

- **Origin:** somewhere
  far, `file.zip`.
- **Licence:** MIT

## More

- **Not** a fact with a colon
"""
TABLE = """# thing: with a title

It does this, and that.

| | |
|---|---|
| origin | somewhere far, `file.zip`. |
| Licence | MIT |
"""


@pytest.mark.parametrize("text", [LIST, TABLE])
def test_a_card_has_description_origin_and_licence(text: str, tmp_path: Path) -> None:
    (tmp_path / "thing.md").write_text(text, encoding="utf-8")
    (tmp_path / "thing.safetensors").write_bytes(HEADER)
    card = cards.read(tmp_path / "thing.safetensors")
    assert card.name == "thing"
    assert card.size == len(HEADER)
    assert card.role == "generator"
    assert card.about == "It does this, and that."
    assert card.facts["origin"] == "somewhere far, file.zip."
    assert card.facts["licence"] == "MIT"
