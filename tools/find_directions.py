"""Find the bundled directions: change of W with measured attributes of generated faces, one unit a standard deviation.

    python tools/find_directions.py --samples 3000 --out src/pixel2style/assets/directions_ffhq.safetensors

Faces are drawn from W (truncation .8) at 256 pixels by the generator's small head and scored: age, gender, expressions
and landmarks by ``metrics.attributes``, light and colours by the pixels of regions. The directions are the linear
regression of ``w`` on all scores at once, so each changes one score while the others stay (on average). Then, on a few
other faces, the rows are chosen (of ``RANGES``, those with the largest share of wanted change) and the length is set so
that a unit changes the score by one standard deviation. What else changes is measured on faces drawn in full: the
largest change of another score, in its standard deviations, and identity by dlib's network. Scores of an interrupted
run are kept.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

from pixel2style import assets, checkpoints, files, runtime
from pixel2style.editing import directions, find
from pixel2style.editing.latents import move
from pixel2style.faces import pose
from pixel2style.formats import safetensors
from pixel2style.generators import Generator, sampling
from pixel2style.metrics import attributes
from pixel2style.metrics.identity import Identity
from pixel2style.ops import pooled

RANGES = ("0-", "0-3", "2-6", "3-8", "8-")
TRUNCATION = 0.8
FIVE = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))
"""Eyes, nose and corners of the mouth, for ``faces.pose``, of 68 landmarks."""
UNITS = {"age": "years", "yaw": "degrees", "pitch": "degrees", "roll": "degrees"}


class Scorer:
    """Scores of pictures ``[b 3 256 256]`` by name, ``[b]`` each."""

    def __init__(self) -> None:
        self.networks = attributes.pretrained()

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> dict[str, Tensor]:
        """Scores of aligned faces."""
        found = self.networks(pictures)
        points = found.landmarks
        turned = pose.rotation(torch.stack([points[:, part].mean(1) for part in FIVE], 1))[:, 2]
        eyes = points[:, 42:48].mean(1) - points[:, 36:42].mean(1)
        gray = (pictures * pictures.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
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
        }  # fmt: skip


def _gap(points: Tensor, upper: tuple[int, ...], lower: tuple[int, ...], ends: tuple[int, int]) -> Tensor:
    """Mean distance of upper and lower points as a share of the distance of the ends."""
    opening = (points[:, list(lower)] - points[:, list(upper)]).norm(dim=2).mean(1)
    found: Tensor = opening / (points[:, ends[1]] - points[:, ends[0]]).norm(dim=1)
    return found


@torch.no_grad()
def scored(generator: Generator, count: int, cache: Path, scorer: Scorer) -> tuple[Tensor, Tensor, list[str]]:
    """Latents ``[n d]``, their scores ``[n a]``, and the names of these."""
    w = sampling.draw(generator, count, torch.Generator().manual_seed(1), generator.w_avg, TRUNCATION)
    done = (
        safetensors.read(cache)["scores"]
        if cache.is_file()
        else torch.zeros(0, len(scorer(torch.zeros(1, 3, 256, 256))))
    )
    names: list[str] = list(scorer(torch.zeros(1, 3, 256, 256)))
    while len(done) < count:
        some = w[len(done) : len(done) + 20]
        drawn = torch.cat([generator.synthesize(one[None], 256) for one in some]).clamp(-1, 1)
        done = torch.cat([done, torch.stack([score.float() for score in scorer(drawn).values()], 1)])
        if len(done) % 200 == 0 or len(done) >= count:
            safetensors.write({"scores": done}, cache)
            print(f"{len(done)} of {count} faces scored", flush=True)
    return w, done[:count], names


class Trial:
    """Other faces, drawn in full, on which directions are measured."""

    def __init__(self, generator: Generator, count: int, scorer: Scorer, deviations: Tensor):
        self.generator, self.scorer, self.deviations = generator, scorer, deviations
        w = sampling.draw(generator, count, torch.Generator().manual_seed(2), generator.w_avg, 0.7)
        self.ws = w[:, None].expand(-1, generator.rows, -1)
        self.identity = Identity("dlib")
        self.pictures = {full: self._drawn(self.ws, full) for full in (False, True)}
        self.scores = {full: self._scored(pictures) for full, pictures in self.pictures.items()}

    @torch.no_grad()
    def _drawn(self, ws: Tensor, full: bool) -> Tensor:
        size = None if full else 256
        return torch.cat([pooled(self.generator.synthesize(one[None], size)) for one in ws]).clamp(-1, 1)

    def _scored(self, pictures: Tensor) -> Tensor:
        return torch.stack([score.float() for score in self.scorer(pictures).values()], 1)

    @torch.no_grad()
    def change(self, vector: Tensor, amount: float, rows: str, first: int | None = None) -> tuple[Tensor, float]:
        """Mean change of all scores ``[a]``, in their deviations, and identity, after a move of all faces.

        Of the ``first`` faces alone, they are drawn by the small head, and identity is not measured.
        """
        ws, full = self.ws[:first], first is None
        drawn = self._drawn(move(ws, vector, amount, rows), full)
        changes = (self._scored(drawn) - self.scores[full][:first]) / self.deviations
        same = float(self.identity(drawn, self.pictures[full]).mean()) if full else 1.0
        return changes.mean(0), same


def measured(trial: Trial, index: int, name: str, vector: Tensor, few: int) -> tuple[Tensor, str, dict[str, float]]:
    """The direction scaled to a unit of one deviation, its rows and figures."""
    best, chosen = -1.0, RANGES[0]
    for rows in RANGES:
        up, down = (trial.change(vector, amount, rows, few)[0] for amount in (1.0, -1.0))
        change = (up - down) / 2
        others = torch.cat([change[:index], change[index + 1 :]])
        wanted = float(change[index])
        share = wanted / (wanted + float(others.abs().amax())) if wanted > 0.15 else 0.0
        if share > best:
            best, chosen = share, rows
    for _ in range(2):  # the second time near the right length
        up, down = (trial.change(vector, amount, chosen, few)[0][index] for amount in (1.0, -1.0))
        vector = vector / max(0.1, float(up - down) / 2)
    up, same_up = trial.change(vector, 1.0, chosen)
    down, same_down = trial.change(vector, -1.0, chosen)
    change = (up - down) / 2
    others = torch.cat([change[:index], change[index + 1 :]]).abs()
    figures = {
        "wanted": float(change[index]),
        "unwanted": float(others.amax()),
        "unwanted_mean": float(others.mean()),
        "identity": (same_up + same_down) / 2,
        "deviation": float(trial.deviations[index]),
    }
    return vector, chosen, {key: round(value, 4) for key, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3000)
    parser.add_argument("--faces", type=int, default=24, help="on which directions are measured")
    parser.add_argument("--few", type=int, default=8, help="of them, on which rows and length are chosen")
    parser.add_argument("--leave-out", nargs="*", default=["surprise", "roll"], help="scores that are only held")
    parser.add_argument("--cache", type=Path, default=Path("scores.safetensors"))
    parser.add_argument("--out", type=Path, default=Path("directions_ffhq.safetensors"))
    options = parser.parse_args()
    runtime.keep_freed_memory()
    generator = checkpoints.load_generator(assets.path("mobilestylegan_ffhq_1024"))
    scorer = Scorer()
    w, scores, names = scored(generator, options.samples, options.cache, scorer)
    found = find.conditional(w, scores)
    trial = Trial(generator, options.faces, scorer, scores.std(0))
    stored, facts = {}, {}
    for index, name in enumerate(names):
        if name in options.leave_out:
            continue
        vector, rows, figures = measured(trial, index, name, found[index], options.few)
        unit = f"{figures['deviation']:.1f} {UNITS[name]}" if name in UNITS else "one standard deviation"
        stored[name], facts[name] = vector.half(), {"rows": rows, "unit": unit, "figures": figures}
        print(f"| `{name}` | {rows} | {unit} | {figures['wanted']:.2f} | {figures['unwanted']:.2f} | "
              f"{figures['identity']:.3f} |", flush=True)  # fmt: skip
    metadata = {"generator": directions.id_of(generator), "directions": json.dumps(facts)}
    files.make_folder(options.out.parent)
    safetensors.write(stored, options.out, metadata)


if __name__ == "__main__":
    main()
