"""Identities of generated clips are exact, motion is the known path, and the bytes are the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from matplotlib.path import Path as Polygon
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion

from eigenseg.data.scenes import SceneSettings, Shape, draw_clip, draw_labels, plan_scene

SETTINGS = SceneSettings(length=20, size=(60, 80), objects=(3, 5))
# Frames and labels of clip 2 of seed 5; a change of it needs a new MovingShapes.revision.
GOLDEN = "ae1202aa81dc7cfd9f3571033690cf4ba6eb0f37a42cdbdd58ceb80e2138b252"


def square(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([affine, [0, 0, 1]])


def covered(shape: Shape, t: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of a shape without the others: matplotlib's polygons, and an inverted matrix for the ellipses."""
    rows, columns = np.indices(size)
    points = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5, np.ones(rows.size)])
    affine, outline = shape.path.affine(t), shape.outline
    if outline.corners is None:
        u, v, _ = np.linalg.inv(square(affine)) @ points
        return np.asarray(np.hypot(u, v / outline.ratio) <= 1).reshape(size)
    corners = outline.corners @ affine[:, :2].T + affine[:, 2]
    return Polygon(np.vstack([corners, corners[:1]]), closed=True).contains_points(points[:2].T).reshape(size)


@pytest.mark.parametrize("number", range(4))
def test_a_pixel_belongs_to_the_topmost_object_that_covers_it(number: int) -> None:
    scene = plan_scene(number, SETTINGS)
    labels = draw_labels(scene)
    for t in (0, 7, 19):
        expected = np.zeros(SETTINGS.size, dtype=np.uint8)
        for k, shape in enumerate(scene.objects, start=1):
            expected[covered(shape, t, SETTINGS.size)] = k
        np.testing.assert_array_equal(labels[t], expected)


@pytest.mark.parametrize("number", range(4))
def test_a_pixel_has_the_color_of_the_object_that_it_belongs_to(number: int) -> None:
    scene = plan_scene(number, SETTINGS)
    frames, labels = draw_clip(number, SETTINGS)
    for t in (0, 7, 19):
        for k, shape in enumerate(scene.objects, start=1):
            rows, columns = np.nonzero(labels[t] == k)
            points = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
            u, v, _ = np.linalg.inv(square(shape.path.affine(t))) @ points
            colors = shape.texture.colors(u, v).astype(int)
            np.testing.assert_allclose(frames[t, rows, columns], colors, atol=1)  # rounding


def test_every_kind_of_outline_occurs() -> None:
    kinds = [shape.outline.kind for number in range(20) for shape in plan_scene(number, SETTINGS).objects]
    assert min(kinds.count(kind) for kind in ("disc", "ellipse", "polygon", "star")) >= 5


def test_a_frame_warped_along_the_path_is_the_next_one() -> None:
    """But for pixels on the edge, where the nearest pixel may be on the other side."""
    settings = SceneSettings(length=4, size=(300, 400), objects=(1, 1), clutter=0, contrast=1.0)
    ious, still, differences = [], [], []
    for number in range(6):
        (shape,) = plan_scene(number, settings).objects
        frames, labels = draw_clip(number, settings)
        for t in range(settings.length - 1):
            # From pixels of the next frame to those of this one; ndimage counts (row, column) from pixel centers.
            back = square(shape.path.affine(t)) @ np.linalg.inv(square(shape.path.affine(t + 1)))
            matrix = back[:2, :2][::-1, ::-1]
            offset = (back[:2, 2] + back[:2, :2] @ [0.5, 0.5] - 0.5)[::-1]
            warped, after = affine_transform(labels[t], matrix, offset, order=0) > 0, labels[t + 1] > 0
            known = affine_transform(np.ones(settings.size), matrix, offset, order=0) > 0  # inside both frames
            ious.append((warped & after & known).sum() / ((warped | after) & known).sum())
            edge = binary_dilation(after, np.ones((3, 3))) & ~binary_erosion(after, np.ones((3, 3)), border_value=1)
            assert not ((warped != after) & known & ~edge).any()
            still.append(((labels[t] > 0) & after).sum() / ((labels[t] > 0) | after).sum())
            inside = warped & after & known
            moved = [affine_transform(frames[t][..., c].astype(float), matrix, offset, order=1) for c in range(3)]
            differences.append(np.abs(np.stack(moved, axis=-1) - frames[t + 1])[inside].mean())
    assert min(ious) > 0.95
    assert min(still) < 0.9  # it does move
    assert max(differences) < 2  # of 255: the texture moves with its object


def test_paths_are_smooth() -> None:
    settings = SceneSettings(length=200, size=(100, 100))
    for number in range(5):
        for shape in plan_scene(number, settings).objects:
            affine = np.stack([shape.path.affine(t) for t in range(settings.length)])
            speed = np.diff(affine, axis=0)
            assert 0.05 < np.abs(speed[..., 2]).max() < 9
            assert np.abs(np.diff(speed, axis=0)).max() < 1.2


def test_objects_enter_leave_come_back_and_occlude_each_other() -> None:
    entered = left = again = occluded = 0
    for number in range(20):
        settings = SceneSettings(length=80, size=(60, 80))
        scene = plan_scene(number, settings)
        labels = draw_labels(scene)
        for k, shape in enumerate(scene.objects, start=1):
            seen = (labels == k).any(axis=(1, 2)).astype(int)
            entered, left = entered + int((np.diff(seen) > 0).any()), left + int((np.diff(seen) < 0).any())
            again += int((np.diff(np.flatnonzero(seen)) > 1).any())
            occluded += any((covered(shape, t, scene.size) & (labels[t] != k)).any() for t in range(0, 80, 8))
    assert min(entered, left, occluded) >= 10
    assert again >= 3


@pytest.mark.parametrize("length", [1, 20])
def test_every_object_is_inside_the_image_at_some_time(length: int) -> None:
    for number in range(40):
        scene = plan_scene(number, SceneSettings(length=length, size=(60, 80)))
        for shape in scene.objects:
            centers = np.stack([shape.path.affine(t)[:, 2] for t in range(length)])
            assert ((centers > [8 - 1e-3, 6 - 1e-3]) & (centers < [72 + 1e-3, 54 + 1e-3])).all(axis=1).any()
            assert any(covered(shape, t, scene.size).any() for t in range(length))


def test_clutter_and_background_have_no_label_and_stand_still() -> None:
    plain, cluttered = (SceneSettings(length=6, size=(60, 80), clutter=clutter, seed=3) for clutter in (0, 9))
    frames, labels = draw_clip(1, cluttered)
    background = (labels == 0).all(axis=0)
    assert (frames[:, background] == frames[:1, background]).all()
    scene = plan_scene(1, cluttered)
    in_clutter = np.any([covered(shape, 0, scene.size) for shape in scene.clutter], axis=0) & background
    assert in_clutter.sum() > 30
    x, y = np.indices(scene.size)[::-1] + 0.5
    bare = scene.background.colors(x.ravel(), y.ravel()).reshape(*scene.size, 3)
    assert (frames[0] == bare).all(axis=-1)[background & ~in_clutter].all()
    assert not (frames[0] == bare).all(axis=-1)[in_clutter].any()
    assert not plan_scene(1, plain).clutter


def test_contrast_is_that_of_the_textures() -> None:
    for contrast, lowest, highest in ((0.0, 0, 0), (0.2, 5, 51), (0.8, 20, 204)):
        settings = SceneSettings(length=1, size=(60, 80), objects=(1, 1), clutter=0, contrast=contrast)
        for number in range(5):
            frames, labels = draw_clip(number, settings)
            for k in (0, 1):
                colors = frames[labels == k].astype(int)
                assert lowest <= np.ptp(colors, axis=0).max() <= highest


def test_the_bytes_are_those_of_every_other_machine() -> None:
    frames, labels = draw_clip(2, SceneSettings(length=3, size=(48, 64), objects=(4, 4), seed=5))
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    assert hashlib.sha256(frames.tobytes() + labels.tobytes()).hexdigest() == GOLDEN


def test_clips_of_other_numbers_and_seeds_differ() -> None:
    digests = {
        draw_clip(number, SceneSettings(length=1, size=(32, 32), seed=seed))[0].tobytes()
        for number in range(8)
        for seed in (0, 1, 2, 2**32 - 1)
    }
    assert len(digests) == 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"size": 96}, "size must be two numbers, got 96"),
        ({"size": (96, 8)}, "size must be an integer of at least 16, got 8"),
        ({"objects": (0, 3)}, "objects must be an integer of at least 1, got 0"),
        ({"objects": (3, 2)}, r"objects must be \(min, max\) with min <= max <= 254, got \(3, 2\)"),
        ({"objects": (3, 255)}, r"objects must be \(min, max\)"),
        ({"radius": (0.3, 0.2)}, r"radius must be \(min, max\) with 0.02 <= min <= max <= 0.5, got \(0.3, 0.2\)"),
        ({"radius": (0.3, 0.6)}, r"radius must be \(min, max\)"),
        ({"contrast": 1.5}, "contrast must be a number between 0 and 1, got 1.5"),
        ({"contrast": float("nan")}, "contrast must be a number between 0 and 1, got nan"),
        ({"clutter": -1}, "clutter must be an integer of at least 0, got -1"),
        ({"seed": 2**32}, r"seed must be below 2\*\*32, got 4294967296"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneSettings(**settings)  # type: ignore[arg-type]
