import itertools
import json
import os
import resource
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pixel2style import images
from pixel2style.errors import ConfigError, NoFaceError
from pixel2style.faces import mtcnn
from pixel2style.faces.align import Face, FaceAligner, crop, ffhq_quad, from_left, paste_back, pick
from pixel2style.faces.mtcnn import Detections, suppress
from tests.support.paths import ROOT

GOLDEN = json.loads((ROOT / "tests/golden/lfw_mtcnn.json").read_text())
PHOTOS = Path(os.environ.get("PIXEL2STYLE_DATA", ROOT.parent / "shared" / "data")) / "lfw.tar"

NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 5, 2))

# What the detector that reproduces the figures of lfw_mtcnn.json found in the astronaut.
ASTRONAUT = {
    "box": [180.32, 60.71, 268.4, 172.17],
    "landmarks": [[205.37, 101.48], [246.86, 103.11], [225.06, 129.24], [201.15, 139.58], [245.14, 141.09]],
    "quad": [[147.69, 18.42], [138.13, 184.22], [303.94, 193.78], [313.5, 27.98]],
}


@pytest.fixture(scope="module")
def aligner() -> FaceAligner:
    return FaceAligner()


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return images.load(ROOT / "examples" / "astronaut.png")


@pytest.fixture(scope="module")
def face(aligner, astronaut):
    return aligner.find(astronaut)


def difference(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


@pytest.mark.skipif(not PHOTOS.is_file(), reason=f"the photographs may not be shipped: {PHOTOS} is not there")
def test_boxes_landmarks_and_quads_are_the_published_detectors(aligner):
    with tarfile.open(PHOTOS) as tar:
        for name, expected in GOLDEN.items():
            photo = images.from_bytes(tar.extractfile(name).read(), name)
            found = aligner.find(photo)
            assert np.abs(found.box - expected["box"]).max() < 0.1, name
            assert np.abs(found.landmarks - expected["landmarks"]).max() < 0.1, name
            assert np.abs(found.quad - expected["quad"]).max() < 0.1, name
            assert found.probability == pytest.approx(expected["prob"], abs=1e-3), name


@pytest.mark.parametrize("name", GOLDEN)
def test_published_landmarks_give_the_published_quad(name):
    quad = ffhq_quad(np.array(GOLDEN[name]["landmarks"]))
    assert np.abs(quad - GOLDEN[name]["quad"]).max() < 0.1


def test_the_astronaut_is_found_where_the_validated_detector_found_her(face):
    assert np.abs(face.box - ASTRONAUT["box"]).max() < 0.5
    assert np.abs(face.landmarks - ASTRONAUT["landmarks"]).max() < 0.5
    assert np.abs(face.quad - ASTRONAUT["quad"]).max() < 0.5
    assert face.probability > 0.99


def test_a_face_is_found_at_the_same_place_in_a_photograph_of_any_scale(aligner, astronaut, face):
    for side in (128, 300, 1500, 3000):
        scale = side / 512
        found = aligner.find(astronaut.resize((side, side), Image.Resampling.LANCZOS))
        assert np.abs(found.landmarks / scale - face.landmarks).max() < 0.06 * np.sqrt(face.area(astronaut.size)), side


def test_a_face_under_twenty_pixels_is_still_found(aligner, astronaut):
    found = aligner.find(astronaut.resize((90, 90), Image.Resampling.LANCZOS))
    assert 10 < found.box[2] - found.box[0] < 20


@pytest.mark.parametrize("angle", [-30, -10, 20])
def test_the_crop_turns_and_moves_with_the_head(aligner, astronaut, face, angle):
    centre, shift = np.array([225.0, 115.0]), np.array([40.0, 120.0])
    turned = astronaut.rotate(angle, Image.Resampling.BICUBIC, center=tuple(centre), translate=tuple(shift))
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    expected = (face.quad - centre) @ np.array([[cos, -sin], [sin, cos]]) + centre + shift
    side = np.hypot(*(face.quad[3] - face.quad[0]))
    assert np.abs(aligner.find(turned).quad - expected).max() < 0.1 * side


def test_the_crop_shows_the_face_upright_with_eyes_and_mouth_in_place(aligner, astronaut):
    again = aligner.find(aligner.align(astronaut.rotate(15, Image.Resampling.BICUBIC), 512))
    left, right, _, mouth_left, mouth_right = again.landmarks
    assert abs(left[1] - right[1]) < 8
    assert np.abs((left + right) / 2 - [256, 240]).max() < 20
    assert np.abs((mouth_left + mouth_right) / 2 - [256, 360]).max() < 30


def test_a_crop_along_the_pixels_is_exactly_those_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    quad = np.array([[19.5, 9.5], [19.5, 41.5], [51.5, 41.5], [51.5, 9.5]])
    found = np.asarray(crop(Image.fromarray(pixels), quad, 32))
    assert (found == pixels[10:42, 20:52]).all()


def test_a_large_crop_averages_what_it_leaves_out():
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    quad = np.array([[50.0, 50.0], [50.0, 550.0], [550.0, 550.0], [550.0, 50.0]])
    found = np.asarray(crop(Image.fromarray(stripes), quad, 32)).astype(float)
    assert np.abs(found - 127.5).max() < 20


def test_reducing_first_does_not_move_the_crop(astronaut):
    large = astronaut.resize((4096, 4096), Image.Resampling.BICUBIC)
    quad = np.array([[145.1, 16.7], [135.7, 186.6], [305.5, 196.0], [314.9, 26.1]])
    small = crop(astronaut, quad, 64)
    assert difference(crop(large, (quad + 0.5) * 8 - 0.5, 64), small) < 2.0
    assert difference(crop(large, (quad + 0.5) * 8 + 15.5, 64), small) > 3.0, "two pixels' shift would be seen"


def test_surroundings_are_mirrored_and_blurred_without_a_seam_or_black(astronaut, face):
    # The face moved to the corner: a third of the crop lies outside.
    cornered = astronaut.crop((170, 60, 512, 512))
    found = np.asarray(crop(cornered, face.quad - [170, 60], 256)).astype(float)
    whole = np.asarray(crop(astronaut, face.quad, 256)).astype(float)
    assert np.abs(found - whole)[80:240, 80:240].mean() < 1.0
    outside = found[:20].mean(axis=(0, 1))
    assert (outside > 40).all()
    assert np.abs(np.diff(found, axis=0)).mean(axis=(1, 2)).max() < 40


def test_a_quad_far_outside_a_tiny_picture_still_gives_a_crop():
    for size in ((1, 1), (3, 40), (40, 3)):
        quad = np.array([[-30.0, -30.0], [-30.0, 60.0], [60.0, 60.0], [60.0, -30.0]])
        found = np.asarray(crop(Image.new("RGB", size, (200, 100, 50)), quad, 32))
        assert np.abs(found.astype(int) - [200, 100, 50]).max() <= 1


@pytest.fixture(scope="module")
def group(astronaut) -> Image.Image:
    """Three faces: a middle, a small and a large one from the left."""
    head = astronaut.crop((120, 0, 340, 220))
    sheet = Image.new("RGB", (900, 500), (128, 128, 128))
    sheet.paste(head.resize((380, 380)), (500, 60))
    sheet.paste(head.resize((180, 180)), (330, 150))
    sheet.paste(head, (20, 140))
    return sheet


def test_the_largest_face_counts_unless_another_is_asked_for(aligner, group):
    faces = aligner.detect(group)
    assert len(faces) == 3
    areas = [face.area(group.size) for face in faces]
    assert areas == sorted(areas, reverse=True)
    assert aligner.find(group).box[0] > 500
    assert 330 < aligner.find(group, "central").box[0] < 510
    best = max(faces, key=lambda f: f.probability)
    assert aligner.find(group, "most_probable").probability == best.probability


def test_numbers_count_faces_from_the_left(aligner, group):
    left = [aligner.find(group, number).box[0] for number in (1, 2, 3)]
    assert left == sorted(left)
    assert left[0] < 240 < left[1] < 500 < left[2]
    with pytest.raises(NoFaceError, match="3 faces"):
        aligner.find(group, 4)


@pytest.mark.parametrize("choice", [0, -1, True, "second", "1", None, 1.0])
def test_what_is_no_choice_of_a_face_is_refused(choice):
    with pytest.raises(ConfigError, match="from the left"):
        pick([], choice, (10, 10))


def test_only_the_part_of_a_box_inside_the_photograph_counts(face):
    cut = Face(np.array([-300.0, 50.0, 100.0, 450.0]), 1.0, face.landmarks)
    whole = Face(np.array([300.0, 200.0, 520.0, 420.0]), 1.0, face.landmarks)
    assert cut.area((800, 600)) == 100 * 400
    assert pick([cut, whole], "largest", (800, 600)) is whole
    assert Face(np.array([-90.0, 0.0, -10.0, 80.0]), 1.0, face.landmarks).area((800, 600)) == 0


@pytest.mark.parametrize("way", [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270])
def test_a_photograph_on_its_side_or_upside_down_gives_the_upright_crop(aligner, astronaut, way):
    upright = astronaut.crop((0, 0, 400, 512))
    photo = upright.transpose(way)
    found = aligner.find(photo)
    degrees = {Image.Transpose.ROTATE_90: 270, Image.Transpose.ROTATE_180: 180, Image.Transpose.ROTATE_270: 90}
    assert found.turned == degrees[way]
    assert difference(crop(photo, found.quad, 256), aligner.align(upright, 256)) < 0.5
    x, y = found.landmarks[2].round().astype(int)
    box = found.box
    assert box[0] < x < box[2] and box[1] < y < box[3]


def test_numbers_count_from_the_left_as_seen_upright(aligner, group):
    expected = [aligner.find(group, number).area(group.size) for number in (1, 2, 3)]
    for way in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180):
        photo = group.transpose(way)
        faces = from_left(aligner.detect_turned(photo), photo.size)
        assert np.allclose([face.area(photo.size) for face in faces], expected, rtol=0.1)


def test_a_photograph_is_turned_only_where_no_sure_face_is_found(aligner, astronaut, face, monkeypatch):
    seen = []

    doubtful, surer, sure = (replace(face, probability=p) for p in (0.8, 0.9, 0.999))
    for found, turned, looks in (
        ([[sure]], 0, 1),
        ([[doubtful], [], [surer], []], 0, 4),
        ([[doubtful], [], [surer], [sure]], 270, 4),
        ([[], [surer], [doubtful], []], 90, 4),
    ):
        seen.clear()
        monkeypatch.setattr(aligner, "detect", lambda image, found=found: seen.append(image) or found[len(seen) - 1])
        assert aligner.find(astronaut).turned == turned
        assert len(seen) == looks


@pytest.mark.skipif(not PHOTOS.is_file(), reason=f"the photographs may not be shipped: {PHOTOS} is not there")
def test_turned_photographs_are_aligned_as_upright_ones(aligner):
    with tarfile.open(PHOTOS) as tar:
        for name in list(GOLDEN)[:2]:
            photo = images.from_bytes(tar.extractfile(name).read(), name)
            upright = aligner.align(photo, 64)
            for degrees in (90, 180, 270):
                turned = photo.rotate(degrees, expand=True)
                found = aligner.find(turned)
                assert found.turned == 360 - degrees, name
                assert difference(crop(turned, found.quad, 64), upright) < 4, name


def test_a_gray_photograph_has_a_face_too(aligner, astronaut, face):
    found = aligner.find(astronaut.convert("L"))
    assert np.abs(found.landmarks - face.landmarks).max() < 6


@pytest.mark.parametrize("size", [(1, 1), (11, 300), (200, 200), (3000, 20)])
def test_no_face_is_an_error_that_names_the_option(aligner, size):
    empty = Image.new("RGB", size, (90, 120, 200))
    ImageDraw.Draw(empty).rectangle((0, 0, size[0] // 2, size[1] // 2), fill=(40, 90, 30))
    assert aligner.detect(empty) == []
    with pytest.raises(NoFaceError, match=r"no face was found.*--no-align"):
        aligner.align(empty)


def test_pictures_seen_together_give_what_each_gives_alone(aligner, astronaut):
    photos = [astronaut, astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT), Image.new("RGB", (512, 512))]
    batch = torch.stack([images.to_tensor(photo) for photo in photos])
    together = aligner._detector.detect(batch, 40.0)
    assert [len(found.boxes) for found in together] == [1, 1, 0]
    for picture, found in zip(batch, together, strict=True):
        alone = aligner._detector.detect(picture[None], 40.0)[0]
        assert torch.allclose(found.landmarks, alone.landmarks, atol=0.01)


def test_what_is_pasted_back_lands_where_it_was_cut(aligner, astronaut, face):
    aligned = crop(astronaut, face.quad, 512)
    again = paste_back(astronaut, aligned, face.quad)
    assert difference(again, astronaut) < 0.5
    shifted = paste_back(astronaut, aligned, face.quad + 2.0)
    assert difference(shifted, astronaut) > 2 * difference(again, astronaut)
    assert (np.asarray(again)[250:] == np.asarray(astronaut)[250:]).all(), "nothing outside the quad changes"


def test_a_pasted_change_shows_inside_and_fades_at_the_edge(astronaut, face):
    changed = np.asarray(paste_back(astronaut, Image.new("RGB", (256, 256), (0, 255, 0)), face.quad)).astype(int)
    centre = face.quad.mean(axis=0).astype(int)
    assert changed[centre[1], centre[0]].tolist() == [0, 255, 0]
    path = (
        face.quad[0]
        + (face.quad[3] - face.quad[0]) / 2
        + np.linspace(0, 0.1, 20)[:, None] * (face.quad[1] - face.quad[0])
    )
    before = np.asarray(astronaut).astype(int)
    along = [tuple(point.round().astype(int)) for point in path]
    red = [changed[y, x, 0] / max(1, before[y, x, 0]) for x, y in along]
    assert red[0] > 0.85 and red[-1] < 0.15
    assert max(abs(a - b) for a, b in itertools.pairwise(red)) < 0.3


def test_a_face_half_out_of_the_photograph_can_be_pasted_back(astronaut, face):
    cornered = astronaut.crop((200, 60, 512, 512))
    quad = face.quad - [200, 60]
    assert difference(paste_back(cornered, crop(cornered, quad, 256), quad), cornered) < 1.0
    assert paste_back(cornered, crop(cornered, quad, 256), quad + 5000).size == cornered.size


def test_what_is_made_up_is_smoother_than_the_photograph():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    quad = np.array([[-80.5, 19.5], [-80.5, 179.5], [79.5, 179.5], [79.5, 19.5]])
    found = np.asarray(crop(Image.fromarray(noise), quad, 160)).astype(float)
    assert found[:, 120:].std() > 60, "away from its edge the photograph is left alone"
    assert found[:, :60].std() < 20


def test_a_large_photograph_is_reduced_before_faces_are_sought(astronaut, monkeypatch):
    aligner = FaceAligner()
    seen = []
    monkeypatch.setattr(aligner._detector, "detect", lambda pixels, _: seen.append(pixels.shape) or [NOTHING])
    aligner.detect(astronaut.resize((2000, 1000)))
    aligner.detect(astronaut.resize((300, 200)))
    assert seen[0] == (1, 3, 512, 1024)
    assert seen[-1] == (1, 3, 200, 300), "a small one is not enlarged"


def test_a_photograph_of_twelve_megapixels_is_aligned_quickly_in_little_memory(aligner, astronaut, tmp_path):
    large = astronaut.resize((3000, 3000)).crop((0, 0, 4000, 3000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for a busy processor count as work
    start = time.process_time()
    assert aligner.align(large, 1024).size == (1024, 1024)
    taken = time.process_time() - start
    torch.set_num_threads(threads)
    assert taken < 2.0, "processor seconds"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000, "kilobytes"


def test_threads_that_detect_at_once_leave_onednn_as_it_was() -> None:
    before, inside, left = torch.backends.mkldnn.enabled, threading.Event(), threading.Event()

    def second() -> None:
        with mtcnn._without_onednn():
            inside.set()
            left.wait(5)

    thread = threading.Thread(target=second)
    with mtcnn._without_onednn():
        thread.start()
        inside.wait(0.2)  # in vain, where one has to wait for the other
    left.set()
    thread.join()
    assert torch.backends.mkldnn.enabled == before


@pytest.mark.parametrize("pictures", [1, 3])
def test_suppression_keeps_what_torchvision_keeps_in_its_order(pictures: int) -> None:
    from torchvision.ops import batched_nms

    rng = torch.Generator().manual_seed(pictures)
    for count in (0, 1, 40, 300):
        corner = (torch.rand(count, 2, generator=rng) * 200).floor()
        boxes = torch.cat([corner, corner + (torch.rand(count, 1, generator=rng) * 60 + 5).floor()], 1)
        scores = (torch.rand(count, generator=rng) * 50).round() / 50  # with ties
        owner = torch.randint(pictures, (count,), generator=rng)
        for threshold in (0.5, 0.7):
            expected = batched_nms(boxes, scores, owner, threshold)
            assert suppress(boxes, scores, owner, threshold).tolist() == expected.tolist()
