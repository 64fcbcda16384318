"""pSp: an encoder, a frozen generator and the average rows between them, ``pSp(x) = G(E(x) + w_avg)``.

``encode`` and ``decode`` are separate, so that rows can be edited in between (``editing.latents``). With ``iterations``
above 1 the encoder also gets the image of its current rows, and corrects them (ReStyle, arXiv 2104.02699).

Generated images are square. An encoder of wide images (``EncoderShape.input_height``) uses their middle rows of pixels.

Axes: ``b`` batch, ``c`` channels, ``h w`` sides of an image, ``k`` rows, ``d`` width of a row, ``r`` the generator's
resolution.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..errors import ConfigError
from ..generators.base import NO_RESIDUALS, Generator, Residuals
from ..images import resize
from ..ops import COMPARE_SIZE, pooled
from . import given
from .detail import DetailEncoder
from .encoders import Encoder
from .inversion import Inversion


class PSP(nn.Module):
    """An encoder into the rows of a frozen generator.

    The output of the encoder is multiplied by ``w_unit`` (``[d]``, by default 1), then ``w_avg`` (``[k d]``, ``[d]`` or
    ``[1 d]``) is added, unless ``config.add_average`` is off. Raises ValueError where encoder and generator do not fit.
    """

    w_avg: Tensor
    w_unit: Tensor

    def __init__(
        self,
        encoder: Encoder,
        generator: Generator,
        config: ModelConfig,
        w_avg: Tensor,
        w_unit: Tensor | None = None,
        detail: DetailEncoder | None = None,
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
                "an encoder with feedback needs three more input channels than its images have, for its reconstruction"
            )
        if config.detail != (None if detail is None else detail.config):
            raise ValueError("the configuration describes another detail encoder than the one given")
        if detail is not None and not detail.config.fits(generator.map_channels()):
            raise ValueError(f"the detail encoder is of other maps than the generator's: {detail.config}")
        self.config, self.encoder, self.detail = config, encoder, detail
        self.generator: Generator = generator.requires_grad_(False)
        self.register_buffer("w_avg", w_avg.detach().expand(rows, width).clone())
        self.register_buffer("w_unit", torch.ones(width) if w_unit is None else w_unit.detach().clone())
        self._average_image: Tensor | None
        self.register_buffer("_average_image", None, persistent=False)

    def encode(self, images: Tensor, iterations: int | None = None) -> Tensor:
        """Images ``[b c h w]`` of any size to rows ``[b k d]``.

        Photographs are in [-1, 1], sketches in [0, 1]. Label maps are one-hot; probabilities of classes, which are 1
        together, are encoded as they are, in between what the classes alone give (``argmax`` makes them what training
        has seen). All may be of any floating-point type. ``iterations`` (default: the configuration's) are passes of an
        encoder with feedback; others make one. Raises ConfigError for images of other types, shapes or channels, and,
        unless this is being compiled or exported, for numbers that are not finite or far outside and for pixels of no
        class or several; a warning says that RGB is probably in [0, 1].
        """
        iterations = self.config.iterations if iterations is None else iterations
        if not isinstance(iterations, int) or iterations < 1:
            raise ConfigError(f"iterations must be a whole number of at least 1, got {iterations}")
        images = self.fit(given.images_of(images, self.source_channels, self.w_avg.dtype))
        given.check_pixels(images, self.has_classes)
        if not self.corrects_itself:
            return self.step(images, None, None)
        ws = self.step(images, None, None)
        for _ in range(1, iterations):
            ws = self.step(images, ws, self.redraw(ws))
        return ws

    def decode(self, ws: Tensor, size: int | None = None, features: Residuals = NO_RESIDUALS) -> Tensor:
        """Rows ``[b k d]``, or ``[b d]`` for all rows alike, to images ``[b 3 r r]`` in about [-1, 1]; deterministic.

        ``features`` are an inversion's: residuals ``[b c s s]`` by the side of the map that they are added to. Raises
        ConfigError for rows, size or features that do not fit, for NaN in them and rows beyond 10,000, and for
        ``[k d]``, which may be the rows of one picture or the vectors of ``k`` pictures.
        """
        ws = given.rows_of(ws, self.generator.rows, self.generator.width)
        return self.generator.synthesize(ws, size, residuals=given.features_of(features))

    def invert(self, images: Tensor, iterations: int | None = None) -> Inversion:
        """Photographs ``[b 3 h w]`` in [-1, 1] to rows and, where the model has a detail encoder, features.

        Rows alone where the detail encoder needs what a task makes of its sources: ``inference.Session`` has both.
        Raises ConfigError as ``encode`` does.
        """
        ws = self.encode(images, iterations)
        whole = self.detail is not None and not self.detail.config.needs_task
        return self.with_detail(images, ws) if whole else Inversion(ws)

    def with_detail(
        self, images: Tensor | Callable[[Tensor], Tensor], ws: Tensor, drawn: Tensor | None = None
    ) -> Inversion:
        """Rows ``[b k d]`` with the features that photographs ``[b 3 h w]`` have beyond them.

        Rows are first moved towards W where the detail encoder was made for that (``DetailConfig.toward_w``).
        Where not all of a photograph is known, ``images`` is a function that completes it with what the rows draw: from
        pictures ``[b 3 s s]`` to photographs ``[b 3 h w]``, both float32. ``drawn`` ``[b 3 s s]`` is what the rows
        draw, if that is known, at least at the detail encoder's input size.
        """
        if self.detail is None:
            return Inversion(ws)
        size, own = self.detail.input_size, self.detail.rows(ws)
        if own is not ws:
            ws, drawn = own, None
        drawn = self.generator.synthesize(ws, min(size, self.generator.size)) if drawn is None else drawn
        drawn = resize(drawn, size).clamp(-1, 1)
        if not isinstance(images, Tensor):
            with torch.autocast(drawn.device.type, enabled=False):
                images = images(drawn.float())
        features = self.generator.features(ws, self.detail.config.side)
        shown = resize(images.to(self.w_avg.dtype), size, "bicubic").clamp(-1, 1)  # as sharp as in training
        return Inversion(ws, self.detail(shown, drawn, features))

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> "PSP":
        """The model in a folder or in a repository of the Hugging Face Hub (``USER/REPO``), as from ``p2s.load``.

        ``options``: ``trainable`` as in ``p2s.load``, and ``revision``, ``token``, ``cache_dir``, ``force_download``,
        ``local_files_only``.
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
        """Write a folder for ``from_pretrained``: ``model.safetensors``, ``README.md``, ``config.json``.

        The README lists the configuration, ``metrics`` (on the images ``measured_on``) and ``license``; with the folder
        of the training ``run`` also its settings and scores. An edited README is kept. ``options`` are those of
        ``huggingface_hub.ModelHubMixin``. Raises OutputError, ConfigError.
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
        """Upload the files of ``save_pretrained`` as one commit and return its address.

        ``options`` are those of ``huggingface_hub.ModelHubMixin``: ``private``, ``token``, ``branch``, ``create_pr``,
        ``commit_message`` and others. Raises the errors of the hub's client.
        """
        from ..hub.repository import Repository

        return Repository(self, dtype, metrics, measured_on, run, license).push_to_hub(repo_id, **options)

    @property
    def corrects_itself(self) -> bool:
        """Whether the encoder also gets its current reconstruction (feedback)."""
        return self.config.feedback

    @property
    def source_channels(self) -> int:
        """Channels of the images that ``encode`` takes."""
        return self.encoder.config.input_channels - (3 if self.corrects_itself else 0)

    @property
    def has_classes(self) -> bool:
        """Whether images are label maps, with a channel for each of the configuration's classes."""
        return self.source_channels == self.config.source.classes

    def fit(self, images: Tensor) -> Tensor:
        """Resize images ``[b c h w]`` to the encoder's input. Raises ConfigError when the channels do not fit."""
        if images.ndim != 4 or images.shape[1] != self.source_channels:
            raise ConfigError(f"expected images [b {self.source_channels} h w], got {list(images.shape)}")
        return resize(images, self.encoder.config.input_shape)

    def framed(self, drawn: Tensor) -> Tensor:
        """Generated images in the encoder's aspect ratio, all or middle rows: ``[b 3 r r] -> [b 3 h r]``."""
        height, width = self.encoder.config.input_shape
        rows = round(drawn.shape[-1] * height / width)
        first = (drawn.shape[-2] - rows) // 2
        return drawn if height == width else drawn[..., first : first + rows, :]

    @property
    def compare_size(self) -> int:
        """Size at which to generate images for losses and scores: 256, or the generator's if it is smaller."""
        return min(COMPARE_SIZE, self.generator.size)

    def draw_to_compare(self, ws: Tensor, *, full_size: bool = False) -> Tensor:
        """Rows ``[b k d]`` to images for losses and scores: ``[b 3 256 256]``, float32, not clipped.

        They are generated at ``compare_size``, which costs a tenth with a 256-pixel head, or at full size.
        """
        return self.to_compare(self.generator.synthesize(ws, None if full_size else self.compare_size))

    def to_compare(self, drawn: Tensor) -> Tensor:
        """Generated images ``[b 3 r r]`` for losses and scores: ``framed``, float32, resized to ``[b 3 256 256]``."""
        return pooled(self.framed(drawn).float())

    def step(self, images: Tensor, ws: Tensor | None, drawn: Tensor | None) -> Tensor:
        """One iteration: images from ``fit``, current rows and their image (None: the average) to new rows."""
        if self.corrects_itself:
            drawn = self.average_image().expand(images.shape[0], -1, -1, -1) if drawn is None else drawn
            images = torch.cat([images, drawn.to(images.dtype)], 1)
        codes = self.encoder(images) * self.w_unit
        if ws is None:
            return cast(Tensor, codes + self.w_avg if self.config.add_average else codes)
        return cast(Tensor, ws + codes)

    def redraw(self, ws: Tensor) -> Tensor:
        """The image of rows as an input of the encoder: ``[b k d] -> [b 3 h w]``."""
        side = self.encoder.config.input_size
        return self.framed(resize(self.generator.synthesize(ws, min(side, self.generator.size)), side))

    @torch.no_grad()
    def average_image(self) -> Tensor:
        """The image of the average rows as an input of the encoder: ``[1 3 h w]``."""
        if self._average_image is None:
            with torch.autocast(self.w_avg.device.type, enabled=False):  # it is cached for callers of any precision
                self._average_image = self.redraw(self.w_avg[None])
        return self._average_image
