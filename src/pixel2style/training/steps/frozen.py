"""What the frozen encoder and generator of a detail run make of pictures: rows, and what these draw.

Rows are the encoder's; a share of the pictures has rows after a Newton step, so that the network learns both kinds.
Which ones follows from their pixels. The network gets what the model's task shows of a source, and the photograph is
the target: for inversion they are the same.

On a CPU this costs as much as a third of a step, so a folder can keep it: under names that follow from the picture, the
networks and the settings, so that other runs may use it too. What is kept is rounded (pictures to bytes, rows to 16
bits) whether it was found or has just been made, so a run on a full folder equals the one that filled it.

Axes: ``b`` pictures, ``k`` rows, ``d`` width of a row, ``i`` side of the detail encoder's input, ``r`` side of a
full-size picture, ``s`` cells of roughness along a side.
"""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ... import files
from ...config import TrainConfig
from ...errors import CheckpointError
from ...formats import safetensors
from ...generators import sampling
from ...inference.optimize import newton
from ...metrics.full_size import roughness
from ...metrics.losses import Objective
from ...models.psp import PSP
from ...ops import pooled
from ...tasks import Task, make_source
from ..batches import mix_codes
from ..dataset import Pictures, step_rng

if TYPE_CHECKING:
    from ...tasks.task import Degradation

Tensors = dict[str, Tensor]
PIXELS = ("images", "drawn", "shown", "full")
"""Pictures, which a folder keeps in bytes."""
BANK = 48
"""Photographs whose rows are mixed in generated pictures."""
AT_ONCE = 8
"""Pictures that are encoded together for the bank."""


@dataclass(frozen=True)
class FrozenNetworks:
    """Rows and drawn pictures of a run, of photographs and of generated pictures.

    Sources are degraded as in the training of the model's task; random numbers for it follow from the pixels, too.
    ``drawn`` is clamped to [-1, 1] and has the side of ``model.detail``'s input, or the generator's if that is smaller.
    """

    model: PSP
    objective: Objective
    pictures: Pictures
    config: TrainConfig
    task: Task

    def photographs(self, images: Tensor, rough: bool = False) -> Tensors:
        """``ws [b k d]``, ``drawn [b 3 i i]`` and ``shown [b 3 256 256]`` of images ``[b 3 256 256]`` on the CPU.

        ``shown`` is what the detail encoder gets as photographs (``Task.shown``). With ``rough`` also that,
        ``[b 1 s s]``: the roughness of what the rows draw at full size.
        """
        groups = torch.split(images, 1 if self.config.detail.cache else len(images))
        found = joined([self._group(group, rough) for group in groups])
        return {"shown": images.to(self._device), **found}

    def _group(self, images: Tensor, rough: bool) -> Tensors:
        """``photographs`` of one picture, or of several that are not kept."""
        name = self._name(images.numpy().tobytes()) if self.config.detail.cache else ""
        found = self._kept(name, lambda: self._encoded(images))
        return found | self._kept(f"{name}-rough", lambda: self._rough(found["ws"])) if rough else found

    def generated(self, place: int) -> Tensors:
        """The generated picture of this number, with rows that the encoder finds for it.

        ``images [1 3 256 256]`` and ``full [1 3 r r]`` are its pixels, the others as of a photograph.
        """
        about = json.dumps([self.config.seed, place, self.pictures.names])
        name = self._name(about.encode()) if self.config.detail.cache else ""
        found = self._kept(name, lambda: self._generated(place))
        return {"shown": found["images"], **found}

    @torch.no_grad()
    def _encoded(self, images: Tensor) -> Tensors:
        share = self.config.detail.newton if newton.bundled(self.model) is not None else 0.0
        rngs = [rng_of(image) for image in images]
        return self._inverted(images, rngs, [bool(torch.rand((), generator=rng) < share) for rng in rngs])

    def _inverted(self, images: Tensor, rngs: Sequence[torch.Generator], corrected: Sequence[bool]) -> Tensors:
        """``ws``, after a Newton step where ``corrected``, ``drawn`` and, unless that is all, ``shown`` of images."""
        model, shown = self.model, self.task.shown
        assert shown is not None and model.detail is not None
        pairs = [self._degraded(image, rng) for image, rng in zip(images.to(self._device), rngs, strict=True)]
        ws = model.encode(torch.stack([source for source, _ in pairs]))
        for index in (index for index, chosen in enumerate(corrected) if chosen):
            one, (source, degradation) = slice(index, index + 1), pairs[index]
            ws[one] = newton.optimize(
                model, source[None, :3], ws[one],
                degradation=degradation, objective=self.objective, bf16=self.config.precision == "bf16",
            )  # fmt: skip
        ws = model.detail.rows(ws)
        drawn = self._draw(ws, min(model.detail.input_size, model.generator.size))
        if self.task.inverts:
            return {"ws": ws, "drawn": drawn}
        seen = [
            shown(source[None], picture, degradation)
            for (source, degradation), picture in zip(pairs, torch.split(drawn, 1), strict=True)
        ]
        return {"ws": ws, "drawn": drawn, "shown": torch.cat(seen)}

    def _degraded(self, image: Tensor, rng: torch.Generator) -> "tuple[Tensor, Degradation | None]":
        """The source ``[c s s]`` of a picture ``[3 s s]``, and what degrades drawn pictures alike."""
        settings = self.model.config.source
        if self.task.degraded is not None:
            return self.task.degraded(image, rng, settings)
        return make_source(self.task, image, rng, settings), None

    def _rough(self, ws: Tensor) -> Tensors:
        return {"rough": roughness(self._draw(ws))}

    @torch.no_grad()
    def _generated(self, place: int) -> Tensors:
        """Of mixed rows, as in ``batches``."""
        model, rng = self.model, step_rng(self.config.seed + 1, place)
        w = sampling.draw(model.generator, 3, rng, model.w_unit)
        codes = mix_codes((w - model.w_avg[0]) / model.w_unit, self._bank, rng)
        full = self._draw(codes * model.w_unit + model.w_avg)
        images = pooled(full)
        return {"images": images, "full": full, **self._inverted(images, [rng], [False])}

    @torch.no_grad()
    def _draw(self, ws: Tensor, size: int | None = None) -> Tensor:
        with self._precision():
            return self.model.generator.synthesize(ws, size).float().clamp(-1, 1)

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        if precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, precision)

    @property
    def _device(self) -> torch.device:
        return self.model.w_avg.device

    @cached_property
    def _bank(self) -> Tensor:
        """Codes ``[n k d]`` of evenly spaced photographs."""
        model, total = self.model, len(self.pictures)
        count = min(BANK, total)
        with torch.no_grad():
            indices = [index * total // count for index in range(count)]
            found = []
            for start in range(0, count, AT_ONCE):
                some = [self.pictures.fixed(index, index + 1)[1][0] for index in indices[start : start + AT_ONCE]]
                sources = torch.stack([self._degraded(image.to(self._device), rng_of(image))[0] for image in some])
                found.append((model.encode(sources) - model.w_avg) / model.w_unit)
            return torch.cat(found)

    @cached_property
    def _networks(self) -> bytes:
        """A digest of what results depend on beside the picture: the networks, and the settings."""
        model, detail = self.model, self.config.detail
        assert model.detail is not None
        digest = hashlib.blake2b(digest_size=32)
        about = [
            replace(model.config, detail=None),
            self.config.precision,
            self.config.loss,
            detail.newton,
            detail.side,
            model.detail.config.toward_w,
        ]
        digest.update(repr(about).encode())
        frozen = (
            model.encoder.state_dict(),
            model.generator.state_dict(),
            {"w_avg": model.w_avg, "w_unit": model.w_unit},
        )
        for value in itertools.chain.from_iterable(state.values() for state in frozen):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.digest()

    def _name(self, content: bytes) -> str:
        return hashlib.blake2b(content, digest_size=16, key=self._networks).hexdigest()

    def _kept(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """What ``make`` makes; with a folder always as it is stored there. A damaged file is made again."""
        if not self.config.detail.cache:
            return make()
        file = Path(self.config.detail.cache) / name[:2] / f"{name}.safetensors"
        stored = None
        if file.exists():
            with contextlib.suppress(CheckpointError):
                stored = safetensors.read(file)
        if stored is None:
            stored = {key: _rounded(key, value.cpu()) for key, value in make().items()}
            with files.writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
            safetensors.write(stored, file)
        return {key: _restored(key, value.to(self._device)) for key, value in stored.items()}


def rng_of(image: Tensor) -> torch.Generator:
    """Random numbers that follow from the pixels of an image on the CPU."""
    digest = hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest))


def joined(parts: Sequence[Tensors]) -> Tensors:
    """Several pictures' tensors as one batch."""
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def _rounded(key: str, value: Tensor) -> Tensor:
    if key in PIXELS:
        return ((value + 1) * 127.5).round().clamp(0, 255).byte()
    return value.half() if key == "ws" else value


def _restored(key: str, value: Tensor) -> Tensor:
    return value.float() / 127.5 - 1 if key in PIXELS else value.float()
