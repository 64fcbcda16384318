"""Draw what edits cost: ``python tools/draw_edits.py edits.json --out docs/images/edits.svg``.

The file is of ``benchmarks/edits.py --json``. One panel for each edit: to the right how much the attribute changed,
upwards the identity with the photograph; a line joins the strengths of a method. Further out and higher is better.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pixel2style import files

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from edits import UNITS, Mean, Measured, means

COLOURS = ("#9aa7b8", "#0369a1", "#c2410c", "#15803d", "#7e22ce", "#a16207")
WIDTH, HEIGHT, LEFT, LOW, HIGH = 330, 260, 44, 34, 30
Point = tuple[float, float]


def lines(mean: dict[tuple[str, str, float], Mean], edit: str) -> dict[str, list[Point]]:
    """By method: change and identity at each strength, in order."""
    found: dict[str, list[Point]] = {}
    for (which, method, _), one in sorted(mean.items(), key=lambda item: item[0][2]):
        if which == edit:
            found.setdefault(method, []).append((one.change, one.identity))
    return found


def panel(found: dict[str, list[Point]], edit: str, colours: dict[str, str], span: Point) -> str:
    """One edit, as SVG without a frame; identities of ``span`` (lowest, highest) fill the height."""
    changes = [change for points in found.values() for change, _ in points]
    least, most = min(changes), max(changes)
    low, high = span

    def place(change: float, identity: float) -> str:
        x = LEFT + (WIDTH - LEFT - 14) * (change - least) / max(most - least, 1e-6)
        return f"{x:.1f},{HIGH + (HEIGHT - LOW - HIGH) * (high - identity) / max(high - low, 1e-6):.1f}"

    parts = [f'<text x="{LEFT}" y="16" font-weight="bold">{edit}: change in {UNITS.get(edit, "units")}</text>']
    for identity in (low, (low + high) / 2, high):
        y = place(0, identity).split(",")[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 14}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y}" text-anchor="end" dominant-baseline="middle">{identity:.2f}</text>')
    for change in (least, 0.0, most):
        x = place(change, low).split(",")[0]
        parts.append(f'<text x="{x}" y="{HEIGHT - 14}" text-anchor="middle">{change:+.0f}</text>')
    for method, points in found.items():
        places = [place(*point) for point in points]
        parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colours[method]}" stroke-width="2"/>')
        for one in places:
            x, y = one.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colours[method]}"/>')
    return "".join(parts)


def drawn(measurements: Sequence[Measured]) -> str:
    """All edits side by side, as SVG."""
    mean = means(list(measurements))
    edits = list(dict.fromkeys(one.edit for one in measurements))
    methods = list(dict.fromkeys(one.method for one in measurements))
    colours = {method: COLOURS[number % len(COLOURS)] for number, method in enumerate(methods)}
    identities = [one.identity for one in mean.values()]
    span = min(identities), max(identities)
    width, height = WIDTH * len(edits), HEIGHT + 20
    parts = ['<rect width="100%" height="100%" fill="white"/>']
    for number, edit in enumerate(edits):
        content = panel(lines(mean, edit), edit, colours, span)
        parts.append(f'<g transform="translate({WIDTH * number},0)">{content}</g>')
    for number, method in enumerate(methods):
        x = LEFT + 150 * number
        parts.append(f'<circle cx="{x}" cy="{height - 14}" r="4" fill="{colours[method]}"/>')
        parts.append(f'<text x="{x + 9}" y="{height - 10}">{method}</text>')
    frame = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {frame}>{"".join(parts)}</svg>\n'


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    measurements = [Measured(**one) for one in json.loads(given.measured.read_text())]
    files.write_bytes(given.out, drawn(measurements).encode())
    print(given.out)


if __name__ == "__main__":
    main()
