"""Copy-paste on hand-made masks: pixels, masks and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eigenseg.segment.detector.copy_paste import LabeledImage, copy_paste, paste, resize, shift


def drawn(*rows: str, value: int = 0, scores: tuple[float, ...] | None = None) -> LabeledImage:
    """An image of one value, and an object for every letter of the drawing, in the letters' order."""
    letters = np.array([list(row) for row in rows])
    names = sorted(set(letters.ravel()) - {"."})
    masks = torch.from_numpy(np.array([letters == name for name in names], dtype=bool).reshape(-1, *letters.shape))
    pixels = torch.full((3, *letters.shape), value, dtype=torch.uint8)
    return LabeledImage(pixels, masks, torch.tensor(scores or [1.0] * len(names)))


def drawing(labeled: LabeledImage, i: int) -> list[str]:
    return ["".join("#" if pixel else "." for pixel in row) for row in labeled.masks[i].tolist()]


def brute_boxes(labeled: LabeledImage) -> list[list[float]]:
    boxes = []
    for mask in labeled.masks.numpy():
        ys, xs = np.nonzero(mask)
        boxes.append([float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)])
    return boxes


def test_a_copy_hides_what_lies_below_and_boxes_shrink_with_the_masks() -> None:
    below = drawn("aaaa..", "aaaa..", "....bb", value=10, scores=(0.9, 0.8))
    copies = drawn("...cc.", "...cc.", "......", value=200, scores=(0.3,))
    pasted = paste(below, copies)
    assert drawing(pasted, 0) == ["###...", "###...", "......"]
    assert drawing(pasted, 1) == ["......", "......", "....##"]
    assert drawing(pasted, 2) == ["...##.", "...##.", "......"]
    assert pasted.boxes.tolist() == [[0, 0, 3, 2], [4, 2, 6, 3], [3, 0, 5, 2]]
    assert pasted.scores.tolist() == pytest.approx([0.9, 0.8, 0.3])
    assert (pasted.pixels[:, pasted.masks[2]] == 200).all()
    assert (pasted.pixels[:, ~pasted.masks[2]] == 10).all()


def test_a_copy_that_covers_half_of_an_object_is_left_out_and_shows_nothing() -> None:
    below = drawn("aaaa....", value=10)
    copies = drawn("..bbb..c", value=200)
    pasted = paste(below, copies)
    assert [drawing(pasted, i) for i in range(len(pasted))] == [["####...."], [".......#"]]
    assert pasted.pixels[0, 0].tolist() == [10] * 7 + [200]
    assert len(paste(below, copies, max_covered=0.6)) == 3


def test_the_last_copy_lies_on_top_and_one_that_it_hides_is_no_object() -> None:
    copies = drawn(".bcc", value=200)
    copies = LabeledImage(
        copies.pixels, torch.tensor([[[False, True, True, False]], [[False, True, True, True]]]), torch.ones(2)
    )
    pasted = paste(drawn("....", value=10), copies)
    assert [drawing(pasted, i) for i in range(len(pasted))] == [[".###"]]


def test_an_object_that_copies_hide_together_is_removed() -> None:
    below = drawn("aaaaa", value=0)
    pasted = paste(below, drawn("bbccd", value=1))
    assert [drawing(pasted, i) for i in range(len(pasted))] == [["##..."], ["..##."], ["....#"]]
    assert len(pasted.scores) == 3


def test_shifts_go_down_and_to_the_right_and_cut_off_what_lies_outside() -> None:
    image = drawn("ab", "a.", value=7)
    moved = shift(image, (4, 5), top=1, left=3)
    assert drawing(moved, 0) == [".....", "...#.", "...#.", "....."]
    assert drawing(moved, 1) == [".....", "....#", ".....", "....."]
    assert moved.boxes.tolist() == [[3, 1, 4, 3], [4, 1, 5, 2]]
    assert len(shift(image, (4, 5), top=-1, left=4)) == 1  # b is outside, the lower half of a is not
    assert drawing(shift(image, (4, 5), top=-1, left=4), 0) == ["....#", ".....", ".....", "....."]


def test_resizing_keeps_masks_and_boxes_in_place() -> None:
    twice = resize(drawn("a..", "...", scores=(0.4,)), (4, 6))
    assert drawing(twice, 0) == ["##....", "##....", "......", "......"]
    assert twice.boxes.tolist() == [[0, 0, 2, 2]]
    assert len(resize(drawn("a......", "......."), (1, 1))) == 0  # the pixel in the middle is not a's


def test_random_copies_are_the_sources_pixels_and_boxes_are_those_of_the_masks() -> None:
    below = drawn("aa........", "aa........", *["..........."[:10]] * 6, value=10)
    source = drawn("bb..cc..dd", "bb..cc..dd", *[".........."] * 6, value=200, scores=(0.2, 0.4, 0.6))
    numbers, places = set(), set()
    for seed in range(200):
        pasted = copy_paste(below, source, np.random.default_rng(seed), (0.9, 1.0))
        again = copy_paste(below, source, np.random.default_rng(seed), (0.9, 1.0))
        assert torch.equal(pasted.masks, again.masks)
        assert torch.equal(pasted.pixels, again.pixels)
        assert pasted.boxes.tolist() == brute_boxes(pasted)
        assert int(pasted.masks.sum(dim=0).max()) == 1  # no pixel belongs to two objects
        copied = pasted.scores < 1
        changed = pasted.masks[copied].any(dim=0)
        assert torch.equal(pasted.pixels[0] == 200, changed)
        numbers.add(int(copied.sum()))
        places |= {tuple(box) for box in pasted.boxes[copied].tolist()}
    assert numbers == {0, 1, 2}  # of three objects at most two; none where all would cover half of a
    assert len(places) > 5


def test_a_source_of_one_object_gives_it_and_one_without_any_nothing() -> None:
    below = drawn("....", "....")
    assert len(copy_paste(below, drawn("a...", "a..."), np.random.default_rng(0), (1.0, 1.0))) == 1
    assert copy_paste(below, drawn("....", "...."), np.random.default_rng(0)) is below


def test_copies_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"copies of \[3, 1, 2\] do not fit an image of \[3, 1, 3\]"):
        paste(drawn("..."), drawn(".a"))
