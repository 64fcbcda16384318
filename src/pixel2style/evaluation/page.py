"""An evaluation as one HTML file that can be passed on: every picture and chart is inside, and nothing runs in it.

Shown are the summary, how each score is spread, and the best, median and worst pictures by LPIPS and by identity. This
module reads pictures again, only those it shows; it does not know how they were judged.
"""

import base64
import html as escaping
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from .. import images
from ..errors import ImageError
from ..metrics.scores import METRICS
from ..ops import COMPARE_SIZE
from .compare import Evaluation, Verdict, spread

SHOWN = 4
"""Pictures of a kind, at most."""
THUMBNAIL = 192
LISTED = 2000
"""Pictures up to which the page lists every one."""
BINS = (7, 40)
"""Bars of a histogram: twice the root of how many values there are, within these."""
CHART = (320, 120)

_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 22%, transparent); --bar: #4a7dbd; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1060px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1rem 0 .4rem; }
p { margin: .4rem 0; } .quiet { opacity: .7; } .wrong { color: #c0392b; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid var(--line); font-weight: 400; }
th { opacity: .7; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { overflow-wrap: anywhere; min-width: 8rem; }
td.about { text-align: left; opacity: .7; font-size: .85rem; }
.scroll { overflow-x: auto; } .charts, .pairs { display: flex; flex-wrap: wrap; gap: 1.2rem; }
figure { margin: 0; } figcaption { font-size: .8rem; overflow-wrap: anywhere; }
.pairs figure { width: 240px; } .pairs div { display: flex; gap: 2px; }
.pairs img, .pairs .gone { width: 119px; height: 119px; object-fit: contain; background: var(--line); }
svg text { font-size: 10px; fill: currentColor; } svg rect { fill: var(--bar); }
svg line { stroke: currentColor; } svg .median { stroke-dasharray: 3 3; }
"""


def html(evaluation: Evaluation) -> str:
    """The page."""
    body = "\n".join((*_head(evaluation), *_scores(evaluation), *_charts(evaluation), *_pictures(evaluation)))
    end = "\n".join((*_list(evaluation), *_left_out(evaluation)))
    title = f"{_text(evaluation.results.name)} against {_text(evaluation.originals.name)}"
    start = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>'
    screen = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{start}\n{screen}\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n{end}\n</body>\n</html>\n"


def number(value: float | None) -> str:
    """A score for people: four digits or so."""
    if value is None or not math.isfinite(value):
        return "∞" if value == math.inf else "–"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _text(value: object) -> str:
    return escaping.escape(str(value).encode(errors="backslashreplace").decode())


def _head(evaluation: Evaluation) -> Iterator[str]:
    judged, names = evaluation.judged, evaluation.undetected
    yield f"<h1>{len(judged)} result{'' if len(judged) == 1 else 's'} against their originals</h1>"
    folders = f"{_text(evaluation.results)} against {_text(evaluation.originals)}"
    yield f'<p class="quiet">{folders}, compared at {COMPARE_SIZE} pixels</p>'
    if names is not None and judged:
        found = (
            "A face was found in every result." if not names else f"No face was found in {len(names)} of the results"
        )
        yield f"<p>{found}{f': {_text(_some(names))}. They are judged like the others.' if names else ''}</p>"
    if evaluation.failed or evaluation.alone:
        missing = f"{len(evaluation.failed)} could not be judged, {len(evaluation.alone)} have no partner"
        yield f'<p class="wrong">{missing}: listed below.</p>'


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _scores(evaluation: Evaluation) -> Iterator[str]:
    yield "<h2>Scores</h2>"
    if evaluation.metrics:
        heads = "".join(f"<th>{head}</th>" for head in ("", "mean", "median", "std", "best", "worst", ""))
        yield f'<div class="scroll"><table><tr>{heads}</tr>'
        for metric in evaluation.metrics:
            found, kind = spread(evaluation.values(metric)), METRICS[metric]
            ends = ("least", "most") if kind.better == "less" else ("most", "least")
            cells = "".join(f"<td>{number(found[key])}</td>" for key in ("mean", "median", "std", *ends))
            arrow = "↓" if kind.better == "less" else "↑"
            yield f'<tr><td>{kind.title} {arrow}</td>{cells}<td class="about">{_text(kind.about)}</td></tr>'
        yield "</table></div>"
    for title, value in (("Fréchet distance of VGG16 features", evaluation.distance()), ("FID", evaluation.fid)):
        if value is not None:
            count = f"of {len(evaluation.judged)} pictures; compare only with as many"
            yield f'<p>{title}: {number(value)} <span class="quiet">({count})</span></p>'
    for note in evaluation.notes():
        yield f'<p class="quiet">{_text(note)}</p>'


def _charts(evaluation: Evaluation) -> Iterator[str]:
    if not evaluation.metrics:
        return
    yield '<h2>How they are spread</h2>\n<p class="quiet">Line: mean; dashed: median.</p>\n<div class="charts">'
    for metric in evaluation.metrics:
        chart = histogram([value for value in evaluation.values(metric) if math.isfinite(value)])
        yield f"<figure><figcaption>{METRICS[metric].title}</figcaption>{chart}</figure>"
    yield "</div>"


def histogram(values: Sequence[float]) -> str:
    """How often values fall where, as an SVG element. One value, or all equal, stand in the middle."""
    width, height = CHART
    base = height - 16
    opening = f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">'
    if not values:
        return f'{opening}<text x="0" y="{base}">no finite value</text></svg>'
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5, high + 0.5
    bins = min(max(math.ceil(2 * len(values) ** 0.5), BINS[0]), BINS[1])
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    step, tallest = width / bins, max(counts)
    parts = []
    for place, count in enumerate(counts):
        if count:
            tall = count / tallest * (base - 14)
            edges = (low + edge * (high - low) / bins for edge in (place, place + 1))
            span = " to ".join(map(number, edges))
            where = f'x="{place * step:.1f}" y="{base - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}"'
            parts.append(f"<rect {where}><title>{span}: {count}</title></rect>")
    for kind, value in (("mean", statistics.fmean(values)), ("median", statistics.median(values))):
        x = (value - low) / (high - low) * width
        parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="12" y2="{base}"/>')
    parts.append(
        f'<line x1="0" x2="{width}" y1="{base}" y2="{base}"/><text x="0" y="{height - 3}">{number(low)}</text>'
    )
    parts.append(f'<text x="{width}" y="{height - 3}" text-anchor="end">{number(high)}</text>')
    parts.append(f'<text x="{width}" y="8" text-anchor="end">most in one bar: {tallest}</text>')
    return f"{opening}{''.join(parts)}</svg>"


def chosen(verdicts: Sequence[Verdict], metric: str) -> dict[str, list[Verdict]]:
    """The best, median and worst by a score, best first; equal ones by name. One picture is all of them."""
    sign = 1 if METRICS[metric].better == "less" else -1
    order = sorted(verdicts, key=lambda verdict: (sign * verdict.scores[metric], verdict.pair.name))
    if len(order) < 3:
        return {"all": order}
    count = min(SHOWN, len(order) // 3)
    start = (len(order) - count) // 2
    return {"best": order[:count], "median": order[start : start + count], "worst": order[-count:]}


def _pictures(evaluation: Evaluation) -> Iterator[str]:
    for metric in ("lpips", "identity"):
        if metric not in evaluation.metrics:
            continue
        yield f"<h2>By {METRICS[metric].title}</h2>\n<p class='quiet'>Original, then result.</p>"
        for kind, some in chosen(evaluation.judged, metric).items():
            yield f'<h3>{kind}</h3>\n<div class="pairs">'
            for verdict in some:
                both = "".join(_thumbnail(file) for file in (verdict.pair.original, verdict.pair.result))
                face = ", no face found" if verdict.face is False else ""
                keys = [key for key in ("lpips", "identity") if key in verdict.scores]
                told = ", ".join(f"{METRICS[key].title} {number(verdict.scores[key])}" for key in keys)
                caption = f"{_text(verdict.pair.name)}<br><span class='quiet'>{told}{face}</span>"
                yield f"<figure><div>{both}</div><figcaption>{caption}</figcaption></figure>"
            yield "</div>"


def _thumbnail(file: Path) -> str:
    """A small picture with its bytes inside."""
    try:
        picture = images.load(file)
    except ImageError:  # it was there when it was judged: no reason to lose the page
        return '<span class="gone"></span>'
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=82)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}">'


def _list(evaluation: Evaluation) -> Iterator[str]:
    judged, metrics = evaluation.judged, evaluation.metrics
    if len(judged) > LISTED or not judged:
        return
    titles = "".join(f"<th>{METRICS[metric].title}</th>" for metric in metrics)
    yield f'<h2>Every picture</h2>\n<details><summary>{len(judged)}, by name</summary><div class="scroll">'
    yield f"<table><tr><th></th>{titles}<th>face</th></tr>"
    for verdict in judged:
        cells = "".join(f"<td>{number(verdict.scores[metric])}</td>" for metric in metrics)
        face = {True: "found", False: "not found", None: ""}[verdict.face]
        yield f"<tr><td>{_text(verdict.pair.name)}</td>{cells}<td>{face}</td></tr>"
    yield "</table></div></details>"


def _left_out(evaluation: Evaluation) -> Iterator[str]:
    sentences = [str(verdict.error) for verdict in evaluation.failed] + evaluation.alone
    if sentences:
        yield "<h2>Left out</h2>\n<ul>"
        yield from (f"<li>{_text(sentence)}</li>" for sentence in sentences)
        yield "</ul>"
