"""Which way a face looks, from five landmarks.

The camera is taken for a scaled orthographic one, and everybody's eyes, nose and mouth for ``FACE``: the affine map
from its points to the landmarks is solved for, and the rotation nearest to it says where the camera stands. A face of
other proportions is misjudged by some degrees, but by as many in every picture of it, and its mirror image by the
same with another sign. This module does not know who found the landmarks.

Axes: ``b`` faces, five points in the order of ``align``: left eye, right eye, nose, left and right mouth corner as seen
in the picture, x to its right and y down.
"""

import torch
from torch import Tensor

FACE = ((-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.60, 0.38), (-0.45, 1.02, -0.14), (0.45, 1.02, -0.14))
"""A mean face in eye distances, z towards the viewer.

Fitted to what MTCNN finds in 400 photographs of CelebA-HQ's and 400 of FFHQ's training sets (``tools/fit_face.py``).
The nose stands .46 before the plane of eyes and mouth.
"""


def yaw(landmarks: Tensor) -> Tensor:
    """Degrees by which faces ``[b 5 2]`` are turned, ``[b]``: 0 looks at the camera, 90 is a profile.

    Positive towards the right of the picture. Neither place, size nor roll of a face changes it. A face whose points
    all coincide looks at the camera. Raises ValueError for other shapes.
    """
    forwards = rotation(landmarks)[:, 2]
    return torch.rad2deg(torch.atan2(-forwards[:, 0], forwards[:, 2]))


def rotation(landmarks: Tensor) -> Tensor:
    """From the axes of ``FACE`` to those of the picture: ``[b 5 2] -> [b 3 3]``, float64.

    The last row is where the camera stands, as the face sees it. Raises ValueError for other shapes.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (5, 2):
        raise ValueError(f"a face has five landmarks [b 5 2], got {list(landmarks.shape)}")
    points = torch.tensor(FACE, dtype=torch.float64, device=landmarks.device)
    places = landmarks.double() - landmarks.double().mean(1, keepdim=True)
    affine = places.mT @ torch.linalg.pinv(points - points.mean(0)).mT
    left, _, right = torch.linalg.svd(affine, full_matrices=False)
    across_and_down = left @ right
    return torch.cat([across_and_down, torch.linalg.cross(*across_and_down.unbind(1))[:, None]], 1)
