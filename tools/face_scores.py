"""Scores of generated or aligned faces that directions are found and measured with: numbers by name, differentiable.

``Faces`` are generated ones on which directions are measured.

Age, gender, expressions and landmarks are those of ``metrics.attributes``; pose and shape follow from the landmarks;
light and colours from pixels of fixed regions, those of lips and cheeks from pixels beside landmarks; glasses and
hair from the face parser's probabilities in fixed regions. Beard, curls and eye make-up are linear in AlexNet's maps
(``LookedAt``), fitted to labels of faces that were looked at (``fit_looked_at.py``).

Axes: ``b`` faces, ``n`` points, ``a`` scores, ``f`` features, ``h w`` sides of a map, ``k`` rows of W+, ``d`` width of
a row.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pixel2style.editing.latents import Rows, move
from pixel2style.faces import pose
from pixel2style.formats import safetensors
from pixel2style.generators import Generator, sampling
from pixel2style.metrics import attributes, parsing
from pixel2style.metrics.identity import Identity
from pixel2style.metrics.lpips import LPIPS

FIVE = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))
"""Eyes, nose and corners of the mouth, for ``faces.pose``, of 68 landmarks."""
LIPS = ((50, 61), (51, 62), (52, 63), (56, 65), (57, 66), (58, 67))
CHEEKS = ((40, 48), (41, 48), (46, 54), (47, 54))
"""Pairs of landmarks; pixels are read halfway between them."""
BEARD = (
    (57, 8), (58, 7), (56, 9), (48, 4), (48, 5), (48, 6), (54, 10), (54, 11), (54, 12),
    (31, 49), (32, 50), (33, 51), (34, 52), (35, 53),
)  # fmt: skip
"""The same around the mouth."""
LIDS = (
    (((37, 19), (38, 20), (43, 23), (44, 24)), 0.12),
    (((36, 17), (45, 26)), 0.05),
    (((36, 0), (45, 16)), 0.1),
    (((37, 41), (38, 40), (43, 47), (44, 46)), 0.9),
)
"""Above the upper lids, at and beside the outer corners, on the lower lids: pairs, and the share of the second one."""
PROBES = Path(__file__).with_name("looked_at.safetensors")
EYES, SIDES, FOREHEAD = (slice(46, 66), slice(34, 94)), slice(74, 122), (slice(34, 46), slice(48, 80))
"""Rows and columns of the parser's 128 pixels: where glasses are, the height of the jaw and below, under a fringe."""
BESIDE = 34
"""Columns on each side that are beside the jaw."""
UNITS = {"age": "years", "yaw": "degrees", "pitch": "degrees", "roll": "degrees"}
"""Units of scores that have one."""
TRUNCATION = 0.7
"""Of ``Faces``."""
BATCH = 10


class Scorer:
    """Scores of pictures ``[b 3 256 256]`` by name, ``[b]`` each; gradients pass to the pictures."""

    def __init__(self) -> None:
        self.networks, self.parser, self.looked_at = attributes.pretrained(), parsing.pretrained(), LookedAt()
        self.names = tuple(self(torch.zeros(1, 3, 256, 256)))

    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Scores of aligned faces."""
        found = self.networks(pictures)
        points = found.landmarks
        turned = pose.rotation(torch.stack([points[:, part].mean(1) for part in FIVE], 1))[:, 2]
        eyes = points[:, 42:48].mean(1) - points[:, 36:42].mean(1)
        gray = (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
        cheeks, lips = (_colours(pictures, points, pairs) for pairs in (CHEEKS, LIPS))
        classes = self.parser(pictures).float().log_softmax(1)
        glasses, hair = (classes[:, parsing.CLASSES.index(name)] for name in ("eyeglasses", "hair"))
        below = hair[:, SIDES].exp()
        return {
            "age": found.age,
            "masculine": found.male,
            "smile": found.log_odds("happy"),
            "surprise": found.log_odds("surprised"),
            "anger": found.log_odds("angry"),
            "yaw": torch.rad2deg(torch.atan2(-turned[:, 0], turned[:, 2])),
            "pitch": torch.rad2deg(torch.atan2(-turned[:, 1], turned[:, 2])),
            "roll": torch.rad2deg(torch.atan2(eyes[:, 1], eyes[:, 0])).double(),
            "mouth-open": _gap(points, (61, 62, 63), (67, 66, 65), (60, 64)),
            "eyes-open": (
                _gap(points, (37, 38), (41, 40), (36, 39)) + _gap(points, (43, 44), (47, 46), (42, 45))
            ) / 2,
            "face-width": (points[:, 14] - points[:, 2]).norm(dim=1) / (points[:, 8] - points[:, 27]).norm(dim=1),
            "light": gray[:, 110:200, 80:176].mean((1, 2)),
            "light-from-right": gray[:, 120:180, 150:185].mean((1, 2)) - gray[:, 120:180, 71:106].mean((1, 2)),
            "warmth": (pictures[:, 0] - pictures[:, 2])[:, 110:200, 80:176].mean((1, 2)),
            "hair-light": gray[:, 8:40, 90:166].mean((1, 2)),
            "background-light": torch.cat([gray[:, :60, :30], gray[:, :60, -30:]], 2).mean((1, 2)),
            "lipstick": (lips[:, 0] - lips[:, 1]) - (cheeks[:, 0] - cheeks[:, 1]),
            "glasses": (glasses - torch.log1p(-glasses.exp().clamp(max=1 - 1e-6)))[:, EYES[0], EYES[1]].mean((1, 2)),
            "hair-length": torch.cat([below[:, :, :BESIDE], below[:, :, -BESIDE:]], 2).mean((1, 2)),
            "fringe": hair[:, FOREHEAD[0], FOREHEAD[1]].exp().mean((1, 2)),
            **self.looked_at(pictures, points, hair.exp()),
        }  # fmt: skip

    def table(self, pictures: Tensor) -> Tensor:
        """The same as ``[b a]``, float32, in the order of ``names``."""
        return torch.stack([score.float() for score in self(pictures).values()], 1)


class LookedAt:
    """Labels by eye, read off AlexNet's maps: 0 none, 1 some, 2 a beard, curls, clear eye make-up. ``[b]`` each."""

    def __init__(self) -> None:
        self.network, self.probes = LPIPS(), safetensors.read(PROBES)

    def __call__(self, pictures: Tensor, points: Tensor, hair: Tensor) -> dict[str, Tensor]:
        """Of aligned faces ``[b 3 256 256]``; the rest as of ``features``."""
        found = self.features(pictures, points, hair)
        return {name: own @ self.probes[name] + self.probes[f"{name}.bias"] for name, own in found.items()}

    def features(self, pictures: Tensor, points: Tensor, hair: Tensor) -> dict[str, Tensor]:
        """What each label is read off, ``[b f]``: maps around the mouth, in the hair and at the lids.

        ``points`` ``[b 68 2]`` are landmarks, ``hair`` ``[b h w]`` the probability of hair.
        """
        fine, middle, coarse, *_ = self.network.features(pictures)
        share = F.interpolate(hair[:, None], coarse.shape[-2:], mode="bilinear", align_corners=False)
        lids = [_read(fine, points, pairs, far).mean(2) for pairs, far in LIDS]
        return {
            "beard": _read(middle, points, BEARD).mean(2),
            "curls": (coarse * share).sum((2, 3)) / (share.sum((2, 3)) + 1e-3),
            "eye-make-up": torch.cat(lids, 1),
        }


def drawn(generator: Generator, ws: Tensor) -> Tensor:
    """Faces of latents or rows, ``[b d]`` or ``[b k d]``, one by one: ``[b 3 256 256]`` in [-1, 1]."""
    return torch.cat([generator.synthesize(one[None], 256) for one in ws]).clamp(-1, 1)


class Faces:
    """Generated faces, drawn at 256 pixels, and what a move of their rows does to scores and identity (dlib's).

    ``deviations`` ``[a]`` are units of scores, by default the standard deviations among these faces.
    """

    def __init__(self, generator: Generator, count: int, seed: int, scorer: Scorer, deviations: Tensor | None = None):
        self.generator, self.scorer, self.identity = generator, scorer, Identity("dlib")
        w = sampling.draw(generator, count, torch.Generator().manual_seed(seed), generator.w_avg, TRUNCATION)
        self.ws = w[:, None].expand(-1, generator.rows, -1)
        found = [self._measured(ws) for ws in torch.split(self.ws, BATCH)]
        self.scores, self.features = (torch.cat(part) for part in zip(*found, strict=True))
        self.deviations = self.scores.std(0) if deviations is None else deviations

    @torch.no_grad()
    def _measured(self, ws: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[b a]`` and identity vectors of rows ``[b k d]``."""
        pictures = drawn(self.generator, ws)
        return self.scorer.table(pictures), self.identity.features(pictures)

    def changed(self, ws: Tensor) -> tuple[Tensor, float]:
        """Mean change of each score ``[a]``, in its deviations, and mean identity: the first faces with rows ``ws``."""
        found = [self._measured(some) for some in torch.split(ws, BATCH)]
        scores, features = (torch.cat(part) for part in zip(*found, strict=True))
        change = (scores - self.scores[: len(ws)]) / self.deviations
        return change.mean(0), float(self.identity.similarity(features, self.features[: len(ws)]).mean())

    def moved(self, vector: Tensor, amount: float, rows: Rows, first: int | None = None) -> tuple[Tensor, float]:
        """The same for a move of all faces or of the ``first``."""
        return self.changed(move(self.ws[:first], vector, amount, rows))

    def both(self, vector: Tensor, rows: Rows, first: int | None = None) -> tuple[Tensor, float]:
        """Half the change from -1 to +1 unit, and mean identity."""
        (up, same_up), (down, same_down) = (self.moved(vector, amount, rows, first) for amount in (1.0, -1.0))
        return (up - down) / 2, (same_up + same_down) / 2


def _gap(points: Tensor, upper: tuple[int, ...], lower: tuple[int, ...], ends: tuple[int, int]) -> Tensor:
    """Mean distance of upper and lower points as a share of the distance of the ends."""
    opening = (points[:, list(lower)] - points[:, list(upper)]).norm(dim=2).mean(1)
    found: Tensor = opening / (points[:, ends[1]] - points[:, ends[0]]).norm(dim=1)
    return found


def _colours(pictures: Tensor, points: Tensor, pairs: tuple[tuple[int, int], ...]) -> Tensor:
    """Mean colour ``[b 3]`` of the pixels halfway between pairs of landmarks, 4x4 pixels each."""
    return _read(F.avg_pool2d(pictures, 4), points, pairs).mean(2)


def _read(maps: Tensor, points: Tensor, pairs: tuple[tuple[int, int], ...], share: float = 0.5) -> Tensor:
    """Maps ``[b c h w]`` of the picture between pairs of landmarks, ``share`` of the way to the second: ``[b c n]``."""
    first, second = zip(*pairs, strict=True)
    places = torch.lerp(points[:, list(first)], points[:, list(second)], share) / 128 - 1
    return F.grid_sample(maps, places[:, None].to(maps), align_corners=False)[:, :, 0]
