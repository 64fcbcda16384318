"""Cards of bundled files: origin, licence and use of the weights.

A card is ``assets/NAME.md``: a title, a paragraph that says what the file is, then facts, either as ``- **Key:** text``
or as a table of two columns. Only the header of the weights is read.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .. import assets

ROLES = ("model", "generator", "part")
"""``p2s.load`` opens a model, ``p2s.load_generator`` a generator; a part belongs to a loss, an encoder or aligner."""


@dataclass(frozen=True)
class Card:
    """The card of one bundled file."""

    name: str
    about: str
    """The first paragraph, one line."""
    facts: dict[str, str]
    """``origin``, ``licence`` and the other facts of the card, one line each."""
    size: int
    """Size of the weights, bytes."""
    role: str
    """One of ``ROLES``."""


def all_cards() -> list[Card]:
    """The cards of all bundled files, sorted by name."""
    return [read(assets.path(name)) for name in assets.names()]


def read(weights: Path) -> Card:
    """The card of a weights file."""
    text = weights.with_suffix(".md").read_text(encoding="utf-8")
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text)]
    about = next((part for part in paragraphs if not part.startswith("#")), "")
    facts = re.findall(r"^- \*\*(.+?):?\*\*:?\s*(.*?)(?=^- |^\s*$|\Z)", text, re.MULTILINE | re.DOTALL)
    facts += re.findall(r"^\| *(\w[^|]*?) *\| *([^|]*?) *\|$", text, re.MULTILINE)
    return Card(
        name=weights.stem,
        about=_plain(about),
        facts={key.lower(): _plain(value) for key, value in facts},
        size=weights.stat().st_size,
        role=role(weights),
    )


def role(weights: Path) -> str:
    """One of ``ROLES``, by the configuration in the header of the safetensors file (8 bytes of length, then JSON)."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    config = json.loads(header.get("__metadata__", {}).get("config", "{}"))
    return "model" if "encoder" in config else "generator" if config else "part"


def _plain(markdown: str) -> str:
    return " ".join(re.sub(r"[*`]", "", markdown).split())
