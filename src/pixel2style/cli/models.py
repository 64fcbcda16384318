"""``pixel2style models``."""

import textwrap


def models() -> int:
    """List what is bundled, with authors and terms."""
    from .. import assets
    from ..assets import cards

    for card in sorted(cards.all_cards(), key=lambda card: cards.ROLES.index(card.role)):
        print(f"{card.name}  ({card.role}, {card.size / 1e6:.1f} MB)")
        facts = [f"{key.capitalize()}: {card.facts[key]}" for key in ("origin", "data", "licence") if key in card.facts]
        for text in (card.about, *facts):
            print(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    "))
        print()
    print(f"The cards in full: {assets.FOLDER}")
    return 0
