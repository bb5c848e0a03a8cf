"""An image method on the frames of a clip: the same instances as on single images, linked by hand-worked rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eigenseg import ClipPredictor
from eigenseg.data import Clip, Instances, UnreadableFrame
from eigenseg.data.rle import RleMasks, decode_mask
from eigenseg.data.stages import Batching
from eigenseg.discovery import PlainImage, TokenCut
from eigenseg.segment.refine import MaskRefiner, Refined
from eigenseg.segment.refine.base import OnDisagreement, compare
from eigenseg.video import FramePredictor, PerFrame
from eigenseg.video.method import check_needs
from eigenseg.video.refining import refine_tracks


class Bright:
    """An image model: each column block of ten pixels with a bright pixel is an object, its score the brightness."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    prepare = staticmethod(PlainImage.of)

    def infer(self, batch: Sequence[PlainImage]) -> list[Instances]:
        self.batches.append(len(batch))
        return [self._one(prepared.image) for prepared in batch]

    def _one(self, image: NDArray[np.uint8]) -> Instances:
        bright = image[..., 0] > 100
        columns = np.arange(bright.shape[1])[None] // 10
        blocks = [bright & (columns == i) for i in range(bright.shape[1] // 10)]
        masks = np.array([block for block in blocks if block.any()], dtype=bool).reshape(-1, *bright.shape)
        scores = np.array([image[..., 0][mask].max() / 250 for mask in masks], dtype=np.float32)
        boxes = np.array([[0, 0, *bright.shape[::-1]]] * len(masks), dtype=np.float32).reshape(-1, 4)
        return Instances(masks, scores, boxes, bright.shape)

    def to(self, device: torch.device) -> Bright:
        return self

    def provenance(self) -> dict[str, Any]:
        return {}


class Shrinking:
    """A refiner that removes the lowest row of every mask and all masks left of column 10."""

    def to(self, device: torch.device) -> Shrinking:
        return self

    def __call__(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Instances]) -> list[Instances]:
        results = []
        for image, one in zip(images, instances, strict=True):
            masks = np.asarray(one.masks) & (image[..., 0] > 100)
            for mask in masks:
                mask[np.flatnonzero(mask.any(axis=1))[-1]] = False
            kept = np.flatnonzero(masks[:, :, 10:].any(axis=(1, 2)))
            extras = {name: [values[i] for i in kept] for name, values in one.extras.items()}
            results.append(Instances(masks[kept], one.scores[kept], one.boxes[kept], one.image_size, extras=extras))
        return results


def frame(*objects: tuple[int, int]) -> NDArray[np.uint8]:
    """(12, 30, 3): objects of 6 rows and 6 columns in blocks of ten columns, given as (block, brightness)."""
    image = np.zeros((12, 30, 3), dtype=np.uint8)
    for block, brightness in objects:
        image[3:9, 10 * block + 2 : 10 * block + 8] = brightness
    return image


def clip_of(frames: Sequence[NDArray[np.uint8] | None]) -> Clip:
    def read(i: int) -> NDArray[np.uint8]:
        image = frames[i]
        if image is None:
            raise UnreadableFrame(f"frame {i:05d} is damaged")
        return image

    return Clip("clip", tuple(f"{i:05d}" for i in range(len(frames))), (12, 30), 25.0, read)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("workers", [1, 4])
def test_frames_give_what_single_images_give_in_order(batch_size: int, workers: int) -> None:
    frames = [frame((i % 3, 150 + i)) for i in range(11)]
    counted: list[int] = []
    predictor = FramePredictor(Bright(), batching=Batching(batch_size, workers), on_frames=counted.append)
    results = list(predictor(clip_of(frames)))
    assert sum(counted) == 11
    for image, result in zip(frames, results, strict=True):
        assert isinstance(result, Instances)
        assert isinstance(result.masks, RleMasks)
        np.testing.assert_array_equal(np.asarray(result.masks)[0], image[..., 0] > 100)
    some = list(predictor(clip_of(frames), [7, 2]))
    assert [float(one.scores[0]) for one in some if isinstance(one, Instances)] == [
        pytest.approx(157 / 250),
        pytest.approx(152 / 250),
    ]


def test_tracks_are_linked_over_a_gap_and_scored_by_presence() -> None:
    frames = [frame((0, 200)), frame((0, 250), (2, 125)), None, frame((2, 125)), frame((0, 150))]
    tracks = ClipPredictor(None, PerFrame(Bright()), device="cpu")(clip_of(frames))
    assert tracks.track_ids.tolist() == [1, 2]
    assert tracks.present().tolist() == [[True, True, False, False, True], [False, True, False, True, False]]
    assert tracks.scores.tolist() == pytest.approx([(0.8 + 1.0 + 0.6) / 3 * 3 / 5, 0.5 * 2 / 5])
    assert tracks.metadata["unreadable"] == {"00002": "frame 00002 is damaged"}
    assert tracks.frame_rate == 25.0
    for t, image in enumerate(frames):
        expected = np.zeros((12, 30), dtype=bool) if image is None else image[..., 0] > 100
        np.testing.assert_array_equal(tracks.label_map(t) > 0, expected)


def test_a_gap_longer_than_allowed_starts_a_new_track() -> None:
    frames = [frame((0, 200)), frame(), frame(), frame((0, 200))]
    model = Bright()
    assert len(PerFrame(model, max_gap=2)(clip_of(frames), FramePredictor(model))) == 1
    assert len(PerFrame(model, max_gap=1)(clip_of(frames), FramePredictor(model))) == 2


def test_one_frame_is_a_clip() -> None:
    tracks = PerFrame(Bright())(clip_of([frame((1, 250))]), FramePredictor(Bright()))
    assert tracks.scores.tolist() == [1.0]


def test_a_clip_without_objects_has_a_reason_and_one_without_readable_frames_an_error() -> None:
    tracks = PerFrame(Bright())(clip_of([frame(), frame()]), FramePredictor(Bright()))
    assert len(tracks) == 0
    assert tracks.reason is not None
    with pytest.raises(ValueError, match="clip clip: no frame can be read; the first: frame 00000 is damaged"):
        ClipPredictor(None, PerFrame(Bright()), device="cpu")(clip_of([None, None]))


def test_any_other_error_ends_the_clip() -> None:
    def read(i: int) -> NDArray[np.uint8]:
        raise ValueError("frame 00001 has another size")

    with pytest.raises(ValueError, match="frame 00001 has another size"):
        list(FramePredictor(Bright())(Clip("clip", ("00000",), (12, 30), None, read)))


def test_every_frame_is_refined_before_linking() -> None:
    frames = [frame((0, 200), (1, 200)), frame((1, 200))]
    tracks = PerFrame(Bright())(clip_of(frames), FramePredictor(Bright(), Shrinking()))
    assert len(tracks) == 1  # what lies left of column 10 was dropped
    rle = tracks.masks[0][0]
    assert rle is not None
    assert np.flatnonzero(decode_mask(rle).any(axis=1)).tolist() == [3, 4, 5, 6, 7]


def test_tracks_are_refined_frame_by_frame_and_keep_ids_and_scores() -> None:
    frames = [frame((0, 200), (1, 200)), frame((0, 200), (1, 250)), frame((2, 125))]
    clip = clip_of(frames)
    before = PerFrame(Bright())(clip, FramePredictor(Bright()))
    after = refine_tracks(Shrinking(), clip, before)
    assert after.track_ids.tolist() == [2, 3]
    np.testing.assert_array_equal(after.scores, before.scores[1:])
    np.testing.assert_array_equal(after.present(), before.present()[1:])
    for t, image in enumerate(frames):
        expected = image[..., 0] > 100
        expected[8], expected[:, :10] = False, False
        np.testing.assert_array_equal(after.label_map(t) > 0, expected)
    nothing = refine_tracks(Shrinking(), clip, before[:1])
    assert nothing.reason == (
        "no object: refinement rejected every mask of every frame; postprocess.on_disagreement=keep keeps those before"
    )


class Halving(MaskRefiner):
    """Keeps the upper half of bright masks; darker ones become too small to be kept."""

    on_disagreement: OnDisagreement = "keep"

    def refine_masks(self, images: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> list[Refined]:
        results = []
        for image, before in zip(images, masks, strict=True):
            after = before.clone()
            after[:, 6:] = False
            after[:, 4:] &= image[4:, :, 0] > 150
            results.append(compare(after.float(), after, before, min_iou=0.5))
        return results


def test_a_track_says_how_many_of_its_masks_are_refined_and_how_far() -> None:
    clip = clip_of([frame((0, 200), (1, 120)), frame((0, 120), (1, 120))])
    before = PerFrame(Bright())(clip, FramePredictor(Bright()))
    after = refine_tracks(Halving(), clip, before)
    assert after.track_ids.tolist() == before.track_ids.tolist() == [1, 2]
    assert after.extras["refined"] == [0.5, 0.0]
    assert after.extras["refinement_iou"] == pytest.approx([(3 / 6 + 1 / 6) / 2, 1 / 6])
    assert after.masks[1] == before.masks[1]
    assert after.masks[0][1] == before.masks[0][1]
    rle = after.masks[0][0]
    assert rle is not None
    assert np.flatnonzero(decode_mask(rle).any(axis=1)).tolist() == [3, 4, 5]


def test_settings_out_of_range_and_a_video_method_as_base_are_rejected() -> None:
    with pytest.raises(ValueError, match="min_iou"):
        PerFrame(TokenCut(), min_iou=1.5)
    with pytest.raises(ValueError, match="max_gap"):
        PerFrame(TokenCut(), max_gap=-1)
    with pytest.raises(ValueError, match="base must be an image method, got the video method PerFrame"):
        PerFrame(PerFrame(TokenCut()))  # type: ignore[arg-type]


def test_a_video_method_must_say_what_it_needs() -> None:
    class Wants:
        needs = "everything"

        def __call__(self, clip: Clip, frames: object) -> object:
            return None

    with pytest.raises(ValueError, match="Wants.needs must be 'features', 'predictor' or None, got 'everything'"):
        check_needs(Wants())  # type: ignore[arg-type]
    Wants.needs = "predictor"
    with pytest.raises(ValueError, match="Wants has needs='predictor' and no attribute 'base'"):
        check_needs(Wants())  # type: ignore[arg-type]
