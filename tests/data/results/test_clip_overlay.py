"""Overlays of clips: where a track is drawn, in which color, and what a contact sheet shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from eigenseg.data import Clip, Tracks, encode_masks, open_clip
from eigenseg.data.results.clip_overlay import draw_contact_sheet, draw_frame
from eigenseg.data.results.overlay import PALETTE

SIZE = (120, 160)


def tracks_of(masks: NDArray[np.bool_], ids: list[int], scores: list[float] | None = None) -> Tracks:
    """(K, T, H, W) masks; absent where empty."""
    rows = tuple(tuple(encode_masks(m[None])[0] if m.any() else None for m in track) for track in masks)
    names = tuple(f"{t:05d}" for t in range(masks.shape[1]))
    return Tracks(rows, np.array(scores or [0.5] * len(ids), np.float32), np.array(ids), names, masks.shape[2:])


def two_squares(frames: int = 3) -> NDArray[np.bool_]:
    """(2, T, H, W): one that moves right, and a higher one in the last frame only."""
    masks = np.zeros((2, frames, *SIZE), dtype=bool)
    for t in range(frames):
        masks[0, t, 50:90, 10 + 20 * t : 50 + 20 * t] = True
    masks[1, -1, 30:70, 90:140] = True
    return masks


def hue(pixels: NDArray[np.uint8], gray: int) -> NDArray[np.float64]:
    """The direction in which pixels differ from a gray background."""
    difference = pixels.reshape(-1, 3).astype(float).mean(0) - gray
    return difference / np.linalg.norm(difference)


def test_a_track_is_tinted_in_the_color_of_its_id_in_every_frame_and_selection() -> None:
    masks = two_squares()
    image = np.full((*SIZE, 3), 100, np.uint8)
    tracks = tracks_of(masks, [4, 17])
    for selection, t, k in ((tracks, 0, 0), (tracks, 2, 0), (tracks, 2, 1), (tracks[[1]], 2, 1)):
        drawn = draw_frame(image, selection, t)
        inside = cv2.erode(masks[k, t].astype(np.uint8), np.ones((9, 9))).astype(bool) & ~masks[1 - k, t]
        inside[:50] = inside[:, :20] = False  # far from ids
        expected = PALETTE[(int(tracks.track_ids[k]) - 1) % 10].astype(float)
        assert inside.sum() > 100
        np.testing.assert_allclose(drawn[inside].mean(0) - 100, 0.42 * (expected - 100), atol=1.5)
    assert (image == 100).all()


def test_outside_of_masks_contours_and_ids_nothing_changes() -> None:
    masks = two_squares()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    drawn = draw_frame(image, tracks_of(masks, [1, 2]), 0)
    near = cv2.dilate(masks[0, 0].astype(np.uint8), np.ones((5, 5))).astype(bool)
    near[30:52, 20:60] = True  # the id above the middle of the highest row
    np.testing.assert_array_equal(drawn[~near], image[~near])
    assert (drawn[30:48, 20:60] != image[30:48, 20:60]).any()
    empty = draw_frame(image, tracks_of(masks, [1, 2])[[1]], 0)
    np.testing.assert_array_equal(empty, image)


def test_the_track_with_the_higher_score_is_on_top() -> None:
    masks = np.zeros((2, 1, *SIZE), dtype=bool)
    masks[0, 0, 30:100, 20:100] = masks[1, 0, 60:100, 60:140] = True
    image = np.full((*SIZE, 3), 100, np.uint8)
    for scores, top in (([0.9, 0.2], 0), ([0.2, 0.9], 1)):
        drawn = draw_frame(image, tracks_of(masks, [1, 2], scores), 0)
        overlap = drawn[75:90, 75:90].astype(float).mean((0, 1))
        below = 100 + 0.42 * (PALETTE[1 - top].astype(float) - 100)
        np.testing.assert_allclose(overlap, 0.58 * below + 0.42 * PALETTE[top], atol=2)


def test_an_id_stays_inside_of_the_image() -> None:
    masks = np.zeros((1, 1, *SIZE), dtype=bool)
    masks[0, 0, 40:60, 159:] = True
    image = np.full((*SIZE, 3), 100, np.uint8)
    drawn = draw_frame(image, tracks_of(masks, [123456]), 0)
    box = (drawn == PALETTE[(123456 - 1) % 10]).all(-1)
    assert np.ptp(np.flatnonzero(box[20:38].any(0))) > 30


def test_an_image_of_another_size_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"image must be \(120, 160\) \(H, W\) pixels like the tracks, got \(60, 80\)"):
        draw_frame(np.zeros((60, 80, 3), np.uint8), tracks_of(two_squares(), [1, 2]), 0)


@pytest.mark.parametrize(("count", "columns", "frames"), [(12, 4, 30), (5, 2, 30), (12, 4, 3), (1, 4, 30), (4, 9, 4)])
def test_a_sheet_shows_evenly_spaced_frames_in_order(count: int, columns: int, frames: int) -> None:
    levels = 8 * np.arange(frames, dtype=np.uint8)
    clip = Clip.from_array(np.broadcast_to(levels[:, None, None, None], (frames, *SIZE, 3)).copy())
    sheet = draw_contact_sheet(clip, Tracks.empty(clip.frame_names, SIZE, "no object"), columns, count)
    shown = min(count, frames)
    wide, high = min(columns, shown), -(-shown // min(columns, shown))
    assert sheet.shape == (high * (SIZE[0] + 6) + 6, wide * (SIZE[1] + 6) + 6, 3)
    middles = [sheet[6 + (i // wide) * 126 + 40, 6 + (i % wide) * 166 + 80, 0] for i in range(shown)]
    expected = [round(i * (frames - 1) / max(1, shown - 1)) for i in range(shown)]
    assert [int(level) // 8 for level in middles] == expected


def test_a_sheet_of_large_frames_is_scaled_down_to_2000_pixels() -> None:
    clip = Clip.from_array(np.zeros((4, 600, 1200, 3), np.uint8))
    sheet = draw_contact_sheet(clip, Tracks.empty(clip.frame_names, (600, 1200), "no object"))
    assert 1980 <= sheet.shape[1] <= 2000
    assert sheet.shape[0] - 12 == pytest.approx((sheet.shape[1] - 30) / 8, abs=1)


def test_an_unreadable_frame_is_gray_and_the_tracks_are_on_the_others(tmp_path: Path) -> None:
    for t in range(3):
        cv2.imwrite(str(tmp_path / f"{t:05d}.png"), np.full((*SIZE, 3), 30, np.uint8))
    (tmp_path / "00001.png").write_bytes(b"no image")
    masks = two_squares()
    masks[1, 1] = masks[1, 2]
    sheet = draw_contact_sheet(open_clip(tmp_path), tracks_of(masks, [1, 2]), columns=3)
    tiles = [sheet[6:126, 6 + 166 * i : 166 + 166 * i] for i in range(3)]
    assert (tiles[1][:90] == 128).all()
    assert (tiles[1][100:] != 128).any()
    for t in (0, 2):
        assert (tiles[t][:10] == 30).all()
        tint = hue(tiles[t][75:85, 20 + 20 * t : 40 + 20 * t], 30)
        np.testing.assert_allclose(tint, hue(PALETTE[:1], 30), atol=0.05)


def test_what_does_not_fit_is_rejected() -> None:
    clip = Clip.from_array(np.zeros((3, *SIZE, 3), np.uint8))
    with pytest.raises(ValueError, match="tracks must have the 3 frames of clip clip, got 4"):
        draw_contact_sheet(clip, tracks_of(two_squares(4), [1, 2]))
    for wrong in ({"columns": 0}, {"count": 0}):
        with pytest.raises(ValueError, match="columns and count must be at least 1"):
            draw_contact_sheet(clip, tracks_of(two_squares(), [1, 2]), **wrong)
