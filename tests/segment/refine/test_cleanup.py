"""Holes, components and IoU as counted by hand; malformed images and masks raise a clear error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from eigenseg.discovery.grid import largest_component
from eigenseg.segment.refine import DEEP_SPECTRAL, MASKCUT, BilateralSolver, DenseCRF, MaskRefiner
from eigenseg.segment.refine.base import as_columns, chunks, compare, from_columns, hard
from eigenseg.segment.refine.cleanup import fill_holes, mask_iou, published_component

CONFIGS = Path(__file__).parents[3] / "configs" / "postprocess"


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[[letter == "#" for letter in row] for row in rows]])


def test_a_hole_is_not_4_connected_to_the_outside() -> None:
    ring = mask(".....", ".###.", ".#.#.", ".###.", ".....")
    assert torch.equal(fill_holes(ring), mask(".....", ".###.", ".###.", ".###.", "....."))
    corner_only = mask("##.", "#.#", "##.")  # the middle touches the outside by corners alone
    assert fill_holes(corner_only).sum() == 7
    assert ring.sum() == 8  # the input is unchanged


def test_the_published_component_is_the_second_largest_area_background_included() -> None:
    small = mask(".....", ".##..", "....#")
    assert torch.equal(published_component(small), largest_component(small))
    large = mask("####.", "####.", "...##")  # 8 of the object, 5 of the background, 2 of another object
    assert torch.equal(published_component(large), ~large)
    assert published_component(mask("...")).all()
    assert not published_component(mask("###")).any()


def test_iou_is_intersection_over_union_and_one_if_both_are_empty() -> None:
    first, second = (
        torch.cat([mask("##.."), mask("...."), mask("#...")]),
        torch.cat([mask(".##."), mask("...."), mask("...#")]),
    )
    assert mask_iou(first, second).tolist() == [1 / 3, 1.0, 0.0]


def test_maps_survive_the_round_trip_through_columns() -> None:
    maps = [torch.rand(2, 3, 4, 5), torch.rand(0, 3, 2, 2), torch.rand(1, 3, 6, 1)]
    table = as_columns(maps, torch.float64)
    assert table.shape == (20 + 4 + 6, 2, 3)
    for given, back in zip(maps, from_columns(table, maps), strict=True):
        assert torch.equal(given.double(), back)


def test_a_mask_is_kept_from_the_minimum_iou_on_and_soft_masks_are_thresholded_above_half() -> None:
    before, after = mask("##..").double() / 2 + mask("#...").double() / 4, mask("##..")
    assert torch.equal(hard(before), mask("#..."))
    assert torch.equal(hard(after), after)
    assert [bool(compare(before, after, before, least).kept) for least in (0.0, 0.5, 0.51)] == [True, True, False]


def test_chunks_cover_all_images_in_order_and_stay_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.segment.refine.base._PIXELS_AT_ONCE", 2048 * 1024)
    images = [torch.empty(side, 1024, 3, dtype=torch.uint8) for side in (1024, 1024, 1, 4096, 5, 2040)]
    assert [(part.start, part.stop) for part in chunks(images)] == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert list(chunks([])) == []


REFINERS: Sequence[MaskRefiner] = (BilateralSolver(), DenseCRF())
IMAGE, FLAT = torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(1, 4, 5)


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize(
    ("image", "given", "error", "message"),
    [
        (IMAGE.numpy(), FLAT, TypeError, r"^images\[0\] must be a uint8 tensor, got ndarray; torch.from_numpy"),
        (IMAGE.float(), FLAT, TypeError, r"^images\[0\] must be a uint8 tensor, got torch.float32"),
        (IMAGE[..., 0], FLAT, ValueError, r"^images\[0\] must be \(H, W, 3\) with H, W > 0, got shape \(4, 5\)"),
        (IMAGE[:0], FLAT[:, :0], ValueError, r"^images\[0\] must be \(H, W, 3\) .* got shape \(0, 5, 3\)"),
        (IMAGE, FLAT[0], ValueError, r"^masks\[0\] must be \(n, 4, 5\) to fit its image, got shape \(4, 5\)"),
        (IMAGE, FLAT[:, :3], ValueError, r"^masks\[0\] must be \(n, 4, 5\) to fit its image, got shape \(1, 3, 5\)"),
        (IMAGE, FLAT.int(), TypeError, r"^masks\[0\] must be a bool or floating tensor, got torch.int32"),
        (IMAGE, FLAT.numpy(), TypeError, r"^masks\[0\] must be a bool or floating tensor, got ndarray"),
        (IMAGE, FLAT * np.nan, ValueError, r"^masks\[0\] holds values that are not finite"),
        (IMAGE, FLAT + 255, ValueError, r"^masks\[0\] must be in \[0, 1\], got 255 to 255"),
        (IMAGE, FLAT - 1, ValueError, r"^masks\[0\] must be in \[0, 1\], got -1 to -1"),
        (IMAGE, FLAT.to("meta"), ValueError, r"^masks\[0\] is on meta, its image on cpu"),
    ],
)
def test_bad_input_raises(refiner, image, given, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        refiner.refine_masks([image], [given])


@pytest.mark.parametrize("refiner", REFINERS)
def test_images_and_masks_must_be_equally_many_and_on_one_device(refiner: MaskRefiner) -> None:
    with pytest.raises(ValueError, match="masks must hold one entry per image, got 2 for 1 images"):
        refiner.refine_masks([IMAGE], [FLAT, FLAT])
    with pytest.raises(ValueError, match=r"images\[1\] is on meta, images\[0\] on cpu"):
        refiner.refine_masks([IMAGE, IMAGE.to("meta")], [FLAT, FLAT])
    assert refiner.refine_masks([], []) == []


@pytest.mark.parametrize("refiner", REFINERS)
def test_an_image_may_have_no_mask_and_an_image_one_pixel(refiner: MaskRefiner) -> None:
    none, one = refiner.refine_masks([IMAGE, IMAGE[:1, :1]], [FLAT[:0], torch.ones(1, 1, 1)])
    assert none.soft.shape == none.masks.shape == (0, 4, 5)
    assert none.kept.shape == (0,)
    assert one.soft.item() > 0.7


def test_every_yaml_is_built_with_its_values_and_names_the_published_set() -> None:
    built = {path.stem: (OmegaConf.load(path), instantiate(OmegaConf.load(path))) for path in CONFIGS.glob("*.yaml")}
    assert set(built) == {"bilateral", "bilateral_fine", "crf_maskcut", "crf_deep_spectral"}
    for config, refiner in built.values():
        for node, target in ((config, refiner), (config.parameters, refiner.parameters)):
            for name, value in node.items():
                assert name in ("_target_", "parameters") or getattr(target, name) == value, name
    assert vars(built["bilateral"][1]) == vars(BilateralSolver())
    assert vars(built["crf_maskcut"][1]) == vars(DenseCRF())
    assert built["crf_maskcut"][1].parameters == MASKCUT
    assert built["crf_deep_spectral"][1].parameters == DEEP_SPECTRAL
    assert all(field.name in built["crf_maskcut"][0].parameters for field in fields(MASKCUT))
