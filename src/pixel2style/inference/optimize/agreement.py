"""Newton steps on rows until what they draw agrees with a drawing, where a task can tell how little it does.

An encoder reads a drawing in one pass, and what it draws follows the drawing only roughly: a mouth is half open, hair
ends elsewhere. The regions of its picture can be found again and compared with the drawing, so the gradient of this
disagreement says how rows have to change. Along most directions that gradient is noise, which only the network that
compares likes; steps damped by the curvature of *pictures* (``newton``) change a picture alike in all directions, and
then the places of eyes, mouth and hair move and skin stays skin.

Axes: ``b`` batch, ``k`` rows, ``d`` width of a row.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ...models.psp import PSP
from .newton import Curvature, gradients, known, minimized

Disagreement = Callable[[Tensor], Tensor]
"""From drawn pictures ``[b 3 256 256]`` to how little each agrees with the drawing, ``[b]``."""

STEEPNESS = 5.0
"""How steep disagreement is, in units of the loss that the curvature is of."""
DAMPING = 0.02
STAY = 0.05
"""Weight of the mean squared distance from the first rows, in deviations of W."""


def agree(
    model: PSP,
    ws: Tensor,
    disagreement: Disagreement,
    steps: int,
    *,
    still: Sequence[int] = (),
    curvature: Curvature | None = None,
    bf16: bool | None = None,
) -> Tensor:
    """Rows ``[b k d]`` near ``ws`` whose pictures agree better with a drawing.

    Rows ``still`` do not change. Pictures do not influence each other, and none agrees less than before. ``curvature``
    and ``bf16`` as of ``newton.optimize``. Raises ConfigError if no curvature is known.
    """
    own = known(model, curvature)
    found = []
    with gradients(model.w_avg.device, bf16):
        curvature = Curvature(own.directions, STEEPNESS * own.values)
        moving = torch.ones_like(model.w_avg[:, :1])
        moving[list(still)] = 0
        for start in torch.split(ws.to(model.w_avg).clone(), 1):
            loss = partial(_loss, start=start, moving=moving, model=model, disagreement=disagreement)
            moved, _, _ = minimized(loss, torch.zeros_like(start), steps, curvature, damping=DAMPING)
            found.append(start + moving * moved * model.w_unit)
    return torch.cat(found)


def _loss(
    moved: Tensor, start: Tensor, moving: Tensor, model: PSP, disagreement: Disagreement
) -> tuple[Tensor, Tensor]:
    """The loss of rows that ``moved [1 k d]``, in ``w_unit``, from ``start`` where ``moving [k 1]``; what they draw."""
    moved = moving * moved
    drawn = model.draw_to_compare(start + moved * model.w_unit)
    return disagreement(drawn).mean() + STAY * moved.square().mean(), drawn
