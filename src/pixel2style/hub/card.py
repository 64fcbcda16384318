"""The model card (README) of a shared model: its configuration, measured scores, training; nothing that is not known.

A card says where something was not measured or recorded. It ends with a digest of its own text, so a card that was
edited is recognised and not overwritten.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import ModelConfig, TrainConfig
from ..tasks import task_or_none, values_of

TAGS = ["pixel2style", "psp", "stylegan", "gan-inversion", "image-to-image"]
PIPELINE = "image-to-image"

_MARK = "<!-- written by pixel2style; edited text is kept: "
_KNOWN = {
    "l2": "L2 (less is better)",
    "psnr": "PSNR, dB (more)",
    "ms_ssim": "MS-SSIM (more)",
    "lpips": "LPIPS, AlexNet (less)",
    "identity": "identity, MobileFaceNet's cosine (more)",
}


GENERATOR_TERMS = (
    "Its generator is pixel2style's bundled MobileStyleGAN, which was trained on photographs of FFHQ: their terms "
    "(CC BY-NC-SA 4.0, non-commercial) apply, whatever is stated above."
)
"""Terms of every model for the bundled generator."""


@dataclass(frozen=True)
class Facts:
    """Facts about a model beyond its configuration."""

    about: str = ""
    """Its task in one sentence."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Numbers of weights of ``encoder`` and ``generator``."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    measured_on: str = ""
    """The pictures that the metrics were measured on."""
    run: TrainConfig | None = None
    steps: int | None = None
    license: str | None = None
    """An identifier from the hub's list, such as ``mit``."""
    repo: str = "USER/REPO"


def card(config: ModelConfig, facts: Facts) -> str:
    """The whole README."""
    name = facts.repo.rpartition("/")[2] if facts.repo != Facts.repo else f"pSp, {config.task}"
    about = facts.about or f"pictures to the rows of a generator (task: {config.task})"
    parts = [
        f"---\n{_front_matter(name, facts)}\n---",
        f"# {_plain(name)}",
        f"An encoder to the rows (W+) of a frozen generator (pSp, arXiv 2008.00951): {_plain(about)}. Made with "
        "pixel2style; the file holds weights and their configuration, no code.",
        _table("", _sizes(config, facts)),
        "## Use",
        _use(config, facts.repo),
        "## Figures",
        _figures(facts),
        "## Training",
        _training(facts),
        "## Terms",
        f"Licence: {_plain(facts.license)}." if facts.license else "Its author has stated no licence.",
        *([GENERATOR_TERMS] if config.generator.kind == "mobilestylegan" else []),
    ]
    text = "\n\n".join(parts)
    return f"{text}\n\n{_MARK}{_digest(text)} -->\n"


def is_untouched(text: str) -> bool:
    """Whether a README is a card that was not edited."""
    body, mark, rest = text.replace("\r\n", "\n").rpartition(_MARK)
    return bool(mark) and rest.strip() == f"{_digest(body)} -->"


def last_scores(log: Path) -> tuple[int, dict[str, float]] | None:
    """Step and scores of the last evaluation in a run's log, None where there is none."""
    found: tuple[int, dict[str, float]] | None = None
    for entry in _entries(log):
        scores = _below("scores/", entry)
        if scores and isinstance(entry.get("step"), int):
            found = (entry["step"], scores)
    return found


def best_scores(log: Path) -> tuple[int, dict[str, float]] | None:
    """Step and scores of the best evaluation in a run's log, None where there is none."""
    found: tuple[int, dict[str, float]] | None = None
    for entry in _entries(log):
        best = entry.get("summary")
        if isinstance(best, dict) and isinstance(best.get("best/step"), int):
            values = {name: value for name, value in _below("best/", best).items() if name not in ("step", "loss")}
            found = (best["best/step"], values)
    return found


def _entries(log: Path) -> list[dict[str, Any]]:
    try:
        texts = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for text in texts:
        try:
            entry = json.loads(text)
        except ValueError:
            continue  # the last line, truncated by an interruption
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _below(prefix: str, values: Mapping[str, Any]) -> dict[str, float]:
    return {
        key.removeprefix(prefix): float(value)
        for key, value in values.items()
        if key.startswith(prefix) and isinstance(value, int | float) and math.isfinite(value)
    }


def _front_matter(name: str, facts: Facts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=PIPELINE, dataset_type="pictures", dataset_name=_one_line(facts.measured_on) or "not named",
            metric_type=_one_line(metric), metric_value=round(value, 4),
        )
        for metric, value in facts.metrics.items()
    ]  # fmt: skip
    known: dict[str, Any] = {"license": _one_line(facts.license)} if facts.license else {}
    if results:
        known |= {
            "model_name": name,
            "eval_results": results,
            "metrics": [_one_line(metric) for metric in facts.metrics],
        }
    data = ModelCardData(library_name="pixel2style", pipeline_tag=PIPELINE, tags=TAGS, **known)
    return str(data.to_yaml()).strip()


def _sizes(config: ModelConfig, facts: Facts) -> list[tuple[str, str]]:
    encoder, generator = config.encoder, config.generator
    channels = encoder.input_channels - 3 * config.feedback
    height, width = encoder.input_shape
    iterations = f", with feedback, {config.iterations} iterations" if config.feedback else ""
    sides = () if config.detail is None else config.detail.sides
    detail = [("detail", f"residuals for the maps of {' and '.join(map(str, sides))} pixels")] if sides else []
    return [
        ("task", config.task),
        ("reads", f"{channels} channels, resized to {width} x {height} pixels"),
        ("encoder", f"{encoder.kind} on {encoder.trunk}{iterations}{_millions(facts, 'encoder')}"),
        ("rows", f"{encoder.rows} of {encoder.width} numbers"),
        *detail,
        ("generator", f"{generator.kind}, frozen{_millions(facts, 'generator')}"),
        ("draws", f"{generator.size} x {generator.size} pixels"),
    ]


def _millions(facts: Facts, part: str) -> str:
    return f", {facts.weights[part] / 1e6:.3g} million weights" if part in facts.weights else ""


def _use(config: ModelConfig, repo: str) -> str:
    channels = config.encoder.input_channels - 3 * config.feedback
    task = task_or_none(config.task)
    lines = [
        "    # pip install pixel2style",
        "    import pixel2style as p2s",
        f'    model = p2s.PSP.from_pretrained("{repo}")',
        f"    ws = model.encode(images)     # images [b {channels} h w]: {values_of(config.task, channels)}",
        f"    pictures = model.decode(ws)   # [b 3 {config.generator.size} {config.generator.size}] in about [-1, 1]",
    ]
    command = "invert photo.jpg" if channels == 3 else ""
    if task is not None and not task.inverts:
        command = f"translate {config.task} picture.png"
    shell = f"or, from files to files, `pixel2style {command} --model hf://{repo} --out results`."
    return "\n".join(lines) + (f"\n\n{shell}" if command else "")


def _figures(facts: Facts) -> str:
    if not facts.metrics:
        return "Not measured."
    rows = [(_KNOWN.get(name, name), f"{value:.4f}") for name, value in facts.metrics.items()]
    where = f"Measured on {_plain(facts.measured_on)}." if facts.measured_on else "The pictures are not named."
    return f"{where}\n\n{_table('score', rows)}"


def _training(facts: Facts) -> str:
    run = facts.run
    if run is None:
        return "Not recorded."
    terms = ((name, getattr(run.loss, name)) for name in run.loss.__dataclass_fields__)
    rows = [
        ("pictures", ", ".join(folder_names(run.data)) or "not named"),
        ("steps", f"{facts.steps if facts.steps is not None else 'up to ' + str(run.steps)}"),
        ("batch", f"{run.batch}" + (f" and {run.generated} generated" if run.generated else "")),
        ("optimiser", f"{run.optimizer}, lr {run.lr:g}, {run.schedule}"),
        ("loss", ", ".join(f"{name} {value:g}" for name, value in terms if isinstance(value, float) and value)),
        ("precision", run.precision),
        ("seed", str(run.seed)),
    ]
    if run.start_from:
        rows.insert(0, ("started from", _source_name(run.start_from)))
    return _table("", rows)


def folder_names(folders: tuple[str, ...]) -> list[str]:
    """Names of folders without their paths, which a public card should not show."""
    return [Path(folder).name for folder in folders]


def _source_name(source: str) -> str:
    return re.split(r"[/\\]", source.partition("#")[0].partition("?")[0].rstrip("/\\"))[-1]


def _table(head: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head} | |", "|---|---|", *(f"| {_plain(key)} | {_plain(value)} |" for key, value in rows)]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text for a cell of a table: one line, markup escaped."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()
