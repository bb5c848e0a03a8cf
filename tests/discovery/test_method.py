"""Masks on the token grid become instances in original pixels, and an image without one has a reason."""

from __future__ import annotations

import numpy as np
import torch

from eigenseg.data import Geometry
from eigenseg.discovery.method import seed_points, token_instances
from eigenseg.discovery.reasons import (
    ALL_ALIKE,
    NOT_CONVERGED,
    NOT_FINITE,
    no_cut_reason,
    single_tokens,
    too_few_reason,
)
from eigenseg.discovery.spectral import Status

# 4 x 6 pixels doubled to 8 x 12 and padded to 8 x 16: patches of 2 x 2 pixels, the last of four columns all padding.
GEOMETRY = Geometry(image_size=(4, 6), scaled_size=(8, 12), input_size=(8, 16), patch_size=4)
SINGLE = "the image has a single token, which cannot be cut; enlarge it with preprocess.resize"


def masks(*cells: tuple[int, int]) -> torch.Tensor:
    """Masks (n, 2, 4) of one token each."""
    grids = torch.zeros(len(cells), 2, 4, dtype=torch.bool)
    for grid, cell in zip(grids, cells, strict=True):
        grid[cell] = True
    return grids


def test_masks_in_the_padding_alone_are_left_out_with_their_scores_and_extras() -> None:
    result = token_instances(
        masks((0, 1), (1, 3), (1, 2)),
        [0.5, 0.75, 0.25],
        GEOMETRY,
        reason="unused",
        extras={"seed": [1, 7, 6]},
        metadata={"status": "dense"},
    )
    expected = np.zeros((2, 4, 6), dtype=bool)
    expected[0, 0:2, 2:4], expected[1, 2:4, 4:6] = True, True
    np.testing.assert_array_equal(result.masks, expected)
    assert result.boxes.tolist() == [[2, 0, 4, 2], [4, 2, 6, 4]]
    assert result.scores.tolist() == [0.5, 0.25]
    assert result.extras == {"seed": [1, 6]}
    assert result.metadata == {"geometry": GEOMETRY, "status": "dense"}
    assert result.reason is None


def test_a_mask_that_reaches_into_the_padding_is_clipped_to_the_image() -> None:
    whole_row = masks((1, 2)) | masks((1, 3))
    result = token_instances(whole_row, [1.0], GEOMETRY, reason="unused")
    assert np.argwhere(result.masks[0]).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    assert result.boxes.tolist() == [[4, 2, 6, 4]]


def test_without_a_mask_in_the_image_the_result_is_empty_with_the_reason() -> None:
    for given in (masks(), masks((0, 3))):
        result = token_instances(given, [1.0] * len(given), GEOMETRY, "nothing stands out", {"seed": [3] * len(given)})
        assert len(result) == 0
        assert result.reason == "no object: nothing stands out"
        assert result.metadata["geometry"] == GEOMETRY


def test_seed_points_are_the_centers_of_tokens() -> None:
    assert seed_points(GEOMETRY, [0, 6]) == [[1.0, 1.0], [5.0, 3.0]]
    assert seed_points(GEOMETRY, []) == []


def test_reasons_name_the_first_cause() -> None:
    assert no_cut_reason(Status.TRIVIAL, 8, 8, "other") == NOT_FINITE
    assert no_cut_reason(Status.FAILED, 8, 7, "other") == NOT_CONVERGED
    assert no_cut_reason(Status.TRIVIAL, 8, 0, "other") == ALL_ALIKE
    assert no_cut_reason(Status.DEGENERATE, 8, 0, "other") == "other"
    assert too_few_reason(8, 0, 8, "stand out") == NOT_FINITE
    assert "method.padding=keep" in (too_few_reason(8, 1, 0, "stand out") or "")
    assert too_few_reason(8, 2, 6, "stand out") is None
    assert [one.reason for one in single_tokens([GEOMETRY, GEOMETRY])] == [f"no object: {SINGLE}"] * 2
