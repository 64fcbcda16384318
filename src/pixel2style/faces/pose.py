"""Head pose from five landmarks.

The camera model is scaled orthographic, and all faces are assumed to have the proportions of ``FACE``: the affine map
from its points to the landmarks is computed, then the nearest rotation. Other proportions give an error of some
degrees, which is the same in every image of a person and has the opposite sign in mirrored ones.

Axes: ``b`` faces; five points in the order of ``align``: left eye, right eye, nose, left and right mouth corner as seen
in the image, x to the right and y down.
"""

import torch
from torch import Tensor

FACE = ((-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.60, 0.38), (-0.45, 1.02, -0.14), (0.45, 1.02, -0.14))
"""A mean face in units of the distance between the eyes, z towards the viewer.

Fitted to MTCNN's landmarks in 400 photographs each of CelebA-HQ's and FFHQ's training sets (``tools/fit_face.py``). The
nose is .46 in front of the plane of eyes and mouth.
"""


def yaw(landmarks: Tensor) -> Tensor:
    """Yaw in degrees of faces ``[b 5 2]``, ``[b]``: 0 looks at the camera, 90 is a profile to the right of the image.

    It does not depend on position, size or roll. It is 0 when all points coincide. Raises ValueError for other shapes.
    """
    forwards = rotation(landmarks)[:, 2]
    return torch.rad2deg(torch.atan2(-forwards[:, 0], forwards[:, 2]))


def rotation(landmarks: Tensor) -> Tensor:
    """Rotation matrices from the axes of ``FACE`` to those of the image: ``[b 5 2] -> [b 3 3]``, float64.

    The last row is the direction of the camera in the face's axes. Raises ValueError for other shapes.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (5, 2):
        raise ValueError(f"a face has five landmarks [b 5 2], got {list(landmarks.shape)}")
    points = torch.tensor(FACE, dtype=torch.float64, device=landmarks.device)
    centred = landmarks.double() - landmarks.double().mean(1, keepdim=True)
    affine = centred.mT @ torch.linalg.pinv(points - points.mean(0)).mT
    left, _, right = torch.linalg.svd(affine, full_matrices=False)
    x_and_y = left @ right
    return torch.cat([x_and_y, torch.linalg.cross(*x_and_y.unbind(1))[:, None]], 1)
