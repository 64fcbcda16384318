"""Models to and from the Hugging Face Hub, through huggingface_hub's mixin; ``PSP`` has its three methods.

The mixin wraps a model instead of being a base class of it: importing it takes a fifth of a second, which only sharing
should cost. A repository holds what ``save_pretrained`` writes: ``model.safetensors``, complete, in our format;
``README.md``; and ``config.json`` for people and for the hub, which loading never reads.
"""

import inspect
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelCard, ModelHubMixin, hf_hub_download
from pydantic import TypeAdapter, ValidationError
from torch import nn

from .. import checkpoints, tasks
from ..checkpoints.download import MODEL, failures
from ..checkpoints.resolve import local
from ..config import ModelConfig
from ..errors import ConfigError, OutputError
from ..files import reason, write_json
from ..models.psp import PSP
from ..training import run_folder
from . import card

CONFIG, CARD, LOG = "config.json", "README.md", "log.jsonl"

_JSON: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def load(source: str | Path, trainable: bool = False, **options: Any) -> PSP:
    """As ``checkpoints.load``; for repositories, ``options`` are those of ``download.from_hub``."""
    return checkpoints.load(local(source, **options) if options else source, trainable=trainable)


OPTIONS = {
    name
    for method in (ModelHubMixin.save_pretrained, ModelHubMixin.push_to_hub)
    for name, parameter in inspect.signature(method).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
"""Options of the mixin, which ignores any others."""


class Repository(ModelHubMixin):
    """A model and the facts for its card, as the mixin saves and pushes them."""

    def __init__(
        self,
        model: PSP,
        dtype: torch.dtype = torch.float32,
        metrics: Mapping[str, float] | None = None,
        measured_on: str = "",
        run: str | Path | None = None,
        license: str | None = None,
    ):
        self.model, self.dtype = model, dtype
        facts = card.Facts(
            about=_about(model.config.task),
            weights={"encoder": _count(model.encoder), "generator": _count(model.generator)},
            license=license,
        )
        facts = facts if run is None else _of_run(facts, model, Path(run))
        if metrics is not None:
            facts = replace(facts, metrics=dict(metrics), measured_on=measured_on)
        self.facts = facts

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """As the mixin's. Raises OutputError where the folder cannot be written, or has another ``config.json``."""
        config = Path(save_directory) / CONFIG
        for name in options.keys() - OPTIONS:
            raise TypeError(f"save_pretrained has no option {name!r}: there are {', '.join(sorted(OPTIONS))}")
        try:
            if config.exists():
                _JSON.validate_json(config.read_bytes())  # the mixin removes it first
            return super().save_pretrained(save_directory, **options)
        except ValidationError:
            raise OutputError(
                f"{config} is no model's, but a run's or another program's: choose another folder"
            ) from None
        except OSError as error:
            if type(error).__module__.partition(".")[0] != "builtins":  # of the hub's client
                raise
            raise OutputError(f"{save_directory}: cannot be written ({reason(error)}); choose another") from error

    def _save_pretrained(self, save_directory: Path) -> None:
        checkpoints.save(self.model, save_directory / MODEL, dtype=self.dtype)
        write_json(save_directory / CONFIG, asdict(self.model.config))
        readme = save_directory / CARD
        if readme.is_file() and card.is_untouched(readme.read_text(encoding="utf-8", errors="replace")):
            readme.unlink()  # the mixin writes one where there is none

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """The README, from the model's configuration and facts."""
        return ModelCard(card.card(self.model.config, self.facts))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """As the mixin's; an edited README on the hub is kept."""
        token = options.get("token")
        repo_id = HfApi(token=token).create_repo(repo_id, private=options.get("private"), exist_ok=True).repo_id
        self.facts = replace(self.facts, repo=repo_id)
        ignored = options.pop("ignore_patterns", None) or []
        ignored = [ignored] if isinstance(ignored, str) else list(ignored)
        if self._is_edited(repo_id, options.get("branch"), token):
            ignored.append(CARD)
        return str(super().push_to_hub(repo_id, ignore_patterns=ignored or None, **options))

    def _is_edited(self, repo: str, revision: str | None, token: str | None) -> bool:
        """Whether the repository has a README that was not written by this package, or was edited since."""
        try:
            there = Path(hf_hub_download(repo, CARD, revision=revision, token=token))
        except failures():  # there is none, or the push will say what is wrong
            return False
        return not card.is_untouched(there.read_text(encoding="utf-8", errors="replace"))


def _about(task: str) -> str:
    try:
        return tasks.find_task(task).about
    except ConfigError:
        return ""  # a task of the user's own


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _of_run(facts: card.Facts, model: PSP, folder: Path) -> card.Facts:
    """Facts with those of the run's folder. Raises ConfigError for a folder that is none or holds another model."""
    config = run_folder.read_config(folder / run_folder.CONFIG)
    evaluated = {run_folder.MODEL: card.last_scores, run_folder.BEST: card.best_scores}
    for name, scores in evaluated.items():
        if (folder / name).is_file() and _same(model, checkpoints.load(folder / name)):
            step, metrics = scores(folder / LOG) or (None, {})
            where = ", ".join(card.folder_names(config.validation))
            return replace(
                facts,
                run=config,
                steps=step if name == run_folder.BEST else _last_step(folder),
                metrics=metrics,
                measured_on=f"validation pictures of the run ({where}), at step {step}",
            )
    raise ConfigError(f"{folder}: holds another model than this one; give the run that trained it")


def _last_step(folder: Path) -> int | None:
    """The step of the run's last saved state, which is that of its last model."""
    steps = [int(found[1]) for found in (run_folder.STATE.fullmatch(file.name) for file in folder.iterdir()) if found]
    return max(steps, default=None)


def _same(one: PSP, other: PSP) -> bool:
    """Whether two models have the same encoder and the same detail encoder."""
    ours, theirs = (
        {key: value for key, value in model.state_dict().items() if key.startswith(("encoder.", "detail."))}
        for model in (one, other)
    )
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key].cpu(), theirs[key]) for key in ours)
