"""pSp itself: an encoder, a frozen generator and the average rows between them: ``pSp(x) = G(E(x) + w_avg)``.

``encode`` and ``decode`` are separate and have no modes, so whatever happens to rows in between (``latents``) is plain
code of the caller's. With ``iterations`` above 1 the encoder also sees what its rows have drawn so far and corrects
them (ReStyle, arXiv 2104.02699).

Generators draw squares. An encoder of wide pictures (``EncoderShape.input_height``) sees the middle rows of one.

Axes: ``b`` batch, ``c`` channels, ``h w`` picture, ``k`` rows, ``d`` width, ``r`` the generator's resolution.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..generators.base import Generator
from ..images import resize
from ..ops import COMPARE_SIZE, pooled
from .encoders import Encoder


class PSP(nn.Module):
    """An encoder into the rows of a frozen generator.

    ``w_avg`` (``[k d]``, ``[d]`` or ``[1 d]``) is added to what the encoder says, unless the configuration says
    otherwise; ``w_unit`` (``[d]``) is the length of the encoder's unit along each axis of a row, 1 by default.
    """

    w_avg: Tensor
    w_unit: Tensor

    def __init__(
        self, encoder: Encoder, generator: Generator, config: ModelConfig, w_avg: Tensor, w_unit: Tensor | None = None
    ):
        super().__init__()
        rows, width = generator.rows, generator.width
        if (encoder.config.rows, encoder.config.width) != (rows, width):
            raise ValueError(
                f"the encoder writes {encoder.config.rows} rows of {encoder.config.width}, "
                f"the generator reads {rows} of {width}"
            )
        if config.feedback and encoder.config.input_channels <= 3:
            raise ValueError(
                "an encoder that sees its reconstruction needs three more input channels than its pictures"
            )
        self.config, self.encoder = config, encoder
        self.generator: Generator = generator.requires_grad_(False)
        self.register_buffer("w_avg", w_avg.detach().expand(rows, width).clone())
        self.register_buffer("w_unit", torch.ones(width) if w_unit is None else w_unit.detach().clone())
        self._average_image: Tensor | None
        self.register_buffer("_average_image", None, persistent=False)

    def encode(self, images: Tensor, iterations: int | None = None) -> Tensor:
        """Pictures ``[b c h w]`` of any size to rows ``[b k d]``.

        Photographs are in [-1, 1], sketches and label maps in [0, 1]. ``iterations`` (default: the configuration's)
        counts the looks of an encoder that corrects itself. Raises ValueError when the channels do not fit.
        """
        iterations = self.config.iterations if iterations is None else iterations
        images = self.fit(images)
        if not self.corrects_itself:
            return self.step(images, None, None)
        ws, drawn = None, None
        for look in range(iterations):
            ws = self.step(images, ws, drawn)
            if look + 1 < iterations:
                drawn = self.redraw(ws)
        if ws is None:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        return ws

    def decode(self, ws: Tensor, size: int | None = None) -> Tensor:
        """Rows ``[b k d]`` to pictures ``[b 3 r r]`` in about [-1, 1]; deterministic."""
        return self.generator.synthesize(ws, size)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "PSP":
        """The model in a folder, or in a repository of the Hugging Face Hub (``USER/REPO``), as ``p2s.load`` gives it.

        ``options``: ``revision``, ``token``, ``cache_dir``, ``force_download``, ``local_files_only``.
        """
        from ..hub import repository

        return repository.load(source, **options)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        dtype: torch.dtype = torch.float32,
        metrics: Mapping[str, float] | None = None,
        measured_on: str = "",
        run: str | Path | None = None,
        license: str | None = None,
        **options: Any,
    ) -> str | None:
        """Write a folder that ``from_pretrained`` reads: ``model.safetensors``, ``README.md``, ``config.json``.

        The README says what the configuration says, ``metrics`` (of the pictures ``measured_on``) and ``license``; with
        the folder of the ``run`` that the model came out of, also how it was taught and judged. One that somebody has
        edited is kept. ``options`` as ``huggingface_hub.ModelHubMixin``'s. Raises OutputError, ConfigError.
        """
        from ..hub.repository import Repository

        return Repository(self, dtype, metrics, measured_on, run, license).save_pretrained(folder, **options)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        dtype: torch.dtype = torch.float32,
        metrics: Mapping[str, float] | None = None,
        measured_on: str = "",
        run: str | Path | None = None,
        license: str | None = None,
        **options: Any,
    ) -> str:
        """Upload what ``save_pretrained`` writes as one commit, and return its address.

        ``options`` as ``huggingface_hub.ModelHubMixin``'s: ``private``, ``token``, ``branch``, ``create_pr``,
        ``commit_message`` and others. Raises what the hub's client does.
        """
        from ..hub.repository import Repository

        return Repository(self, dtype, metrics, measured_on, run, license).push_to_hub(repo_id, **options)

    @property
    def corrects_itself(self) -> bool:
        """Whether the encoder looks at its own reconstruction too."""
        return self.config.feedback

    @property
    def source_channels(self) -> int:
        """Channels of the pictures that ``encode`` takes."""
        return self.encoder.config.input_channels - (3 if self.corrects_itself else 0)

    def fit(self, images: Tensor) -> Tensor:
        """Resize pictures to the encoder's input, whatever their shape. Never folds space into the batch."""
        if images.ndim != 4 or images.shape[1] != self.source_channels:
            raise ValueError(f"expected pictures [b {self.source_channels} h w], got {list(images.shape)}")
        return resize(images, self.encoder.config.input_shape)

    def framed(self, drawn: Tensor) -> Tensor:
        """The part of a drawn picture that the encoder would see: ``[b 3 r r] -> [b 3 h r]``, middle rows or all."""
        height, width = self.encoder.config.input_shape
        rows = round(drawn.shape[-1] * height / width)
        first = (drawn.shape[-2] - rows) // 2
        return drawn if height == width else drawn[..., first : first + rows, :]

    @property
    def compare_size(self) -> int:
        """The side at which to draw what losses and scores compare: 256 pixels, or all that the generator has."""
        return min(COMPARE_SIZE, self.generator.size)

    def draw_to_compare(self, ws: Tensor, *, full_size: bool = False) -> Tensor:
        """Rows ``[b k d]`` to the pictures that losses compare, ``[b 3 256 256]``, float32, not clipped.

        Drawn at ``compare_size``, which generators with a 256-pixel head do at a tenth of the cost, or at full size.
        """
        return self.to_compare(self.decode(ws, None if full_size else self.compare_size))

    def to_compare(self, drawn: Tensor) -> Tensor:
        """Drawn pictures ``[b 3 r r]`` as losses compare them: framed, float32, pooled to ``[b 3 256 256]``."""
        return pooled(self.framed(drawn).float())

    def step(self, images: Tensor, ws: Tensor | None, drawn: Tensor | None) -> Tensor:
        """One look: pictures that fit, the rows so far and what they draw (None: the average) to better rows."""
        if self.corrects_itself:
            drawn = self.average_image().expand(images.shape[0], -1, -1, -1) if drawn is None else drawn
            images = torch.cat([images, drawn.to(images.dtype)], 1)
        codes = self.encoder(images) * self.w_unit
        if ws is None:
            return cast(Tensor, codes + self.w_avg if self.config.add_average else codes)
        return cast(Tensor, ws + codes)

    def redraw(self, ws: Tensor) -> Tensor:
        """What rows draw, as the encoder's input: ``[b k d] -> [b 3 h w]``."""
        side = self.encoder.config.input_size
        return self.framed(resize(self.decode(ws, min(side, self.generator.size)), side))

    @torch.no_grad()
    def average_image(self) -> Tensor:
        """The picture of the average rows as the encoder's input: ``[1 3 h w]``."""
        if self._average_image is None:
            with torch.autocast(self.w_avg.device.type, enabled=False):  # it is kept for callers of any precision
                self._average_image = self.redraw(self.w_avg[None])
        return self._average_image
