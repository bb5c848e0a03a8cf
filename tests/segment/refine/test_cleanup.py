"""Holes, components and overlap as counted by hand; malformed pictures and masks get one sentence."""

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
from eigenseg.segment.refine import DEEP_SPECTRAL, MASKCUT, BilateralSolver, DenseCRF, Refiner
from eigenseg.segment.refine.base import as_columns, chunks, compare, from_columns, hard
from eigenseg.segment.refine.cleanup import fill_holes, mask_iou, published_component

CONFIGS = Path(__file__).parents[3] / "configs" / "postprocess"


def mask(*rows: str) -> torch.Tensor:
    return torch.tensor([[[letter == "#" for letter in row] for row in rows]])


def test_a_hole_is_what_the_outside_does_not_reach_through_sides() -> None:
    ring = mask(".....", ".###.", ".#.#.", ".###.", ".....")
    assert torch.equal(fill_holes(ring), mask(".....", ".###.", ".###.", ".###.", "....."))
    corner_only = mask("##.", "#.#", "##.")  # the middle touches the outside by corners alone
    assert fill_holes(corner_only).sum() == 7
    assert ring.sum() == 8  # what was given is untouched


def test_the_largest_component_is_kept_and_the_first_of_equals() -> None:
    assert torch.equal(largest_component(mask("#..##", "...##", "#....")), mask("...##", "...##", "....."))
    assert torch.equal(largest_component(mask("##.##")), mask("##..."))
    assert torch.equal(largest_component(mask("#.", ".#")), mask("#.", ".."))  # corners do not connect
    assert not largest_component(mask("...")).any()


def test_the_published_component_is_the_second_largest_area_background_included() -> None:
    small = mask(".....", ".##..", "....#")
    assert torch.equal(published_component(small), largest_component(small))
    large = mask("####.", "####.", "...##")  # 8 of the object, 5 of the background, 2 of another object
    assert torch.equal(published_component(large), ~large)
    assert published_component(mask("...")).all()
    assert not published_component(mask("###")).any()


def test_several_masks_are_treated_one_by_one() -> None:
    masks = torch.cat([mask("#.##"), mask("...."), mask("##.#")])
    kept = torch.cat([mask("..##"), mask("...."), mask("##..")])
    assert torch.equal(largest_component(masks), kept)
    assert largest_component(masks[:0]).shape == (0, 1, 4)


def test_overlap_is_shared_over_joined_and_one_if_both_are_empty() -> None:
    first, second = (
        torch.cat([mask("##.."), mask("...."), mask("#...")]),
        torch.cat([mask(".##."), mask("...."), mask("...#")]),
    )
    assert mask_iou(first, second).tolist() == [1 / 3, 1.0, 0.0]


def test_tables_of_pixels_come_back_as_the_maps_they_were() -> None:
    maps = [torch.rand(2, 3, 4, 5), torch.rand(0, 3, 2, 2), torch.rand(1, 3, 6, 1)]
    table = as_columns(maps, torch.float64)
    assert table.shape == (20 + 4 + 6, 2, 3)
    for given, back in zip(maps, from_columns(table, maps), strict=True):
        assert torch.equal(given.double(), back)


def test_a_mask_is_accepted_from_the_least_agreement_on_and_soft_ones_begin_above_half() -> None:
    before, after = mask("##..").double() / 2 + mask("#...").double() / 4, mask("##..")
    assert torch.equal(hard(before), mask("#..."))
    assert torch.equal(hard(after), after)
    assert [bool(compare(before, after, before, least).kept) for least in (0.0, 0.5, 0.51)] == [True, True, False]


def test_chunks_cover_all_images_in_order_and_stay_below_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.segment.refine.base._PIXELS_AT_ONCE", 2048 * 1024)
    images = [torch.empty(side, 1024, 3, dtype=torch.uint8) for side in (1024, 1024, 1, 4096, 5, 2040)]
    assert [(part.start, part.stop) for part in chunks(images)] == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert list(chunks([])) == []


REFINERS: Sequence[Refiner] = (BilateralSolver(), DenseCRF())
PICTURE, FLAT = torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(1, 4, 5)


@pytest.mark.parametrize("refiner", REFINERS)
@pytest.mark.parametrize(
    ("image", "given", "error", "message"),
    [
        (PICTURE.numpy(), FLAT, TypeError, r"^images\[0\] must be a tensor of uint8, got ndarray; torch.from_numpy"),
        (PICTURE.float(), FLAT, TypeError, r"^images\[0\] must be a tensor of uint8, got torch.float32"),
        (PICTURE[..., 0], FLAT, ValueError, r"^images\[0\] must be \(H, W, 3\) with H, W > 0, got shape \(4, 5\)"),
        (PICTURE[:0], FLAT[:, :0], ValueError, r"^images\[0\] must be \(H, W, 3\) .* got shape \(0, 5, 3\)"),
        (PICTURE, FLAT[0], ValueError, r"^masks\[0\] must be \(n, 4, 5\) as its image is, got shape \(4, 5\)"),
        (PICTURE, FLAT[:, :3], ValueError, r"^masks\[0\] must be \(n, 4, 5\) as its image is, got shape \(1, 3, 5\)"),
        (PICTURE, FLAT.int(), TypeError, r"^masks\[0\] must be a bool or floating tensor, got torch.int32"),
        (PICTURE, FLAT.numpy(), TypeError, r"^masks\[0\] must be a bool or floating tensor, got ndarray"),
        (PICTURE, FLAT * np.nan, ValueError, r"^masks\[0\] holds values that are not finite"),
        (PICTURE, FLAT + 255, ValueError, r"^masks\[0\] must lie in \[0, 1\], got 255 to 255"),
        (PICTURE, FLAT - 1, ValueError, r"^masks\[0\] must lie in \[0, 1\], got -1 to -1"),
        (PICTURE, FLAT.to("meta"), ValueError, r"^masks\[0\] is on meta, its image on cpu"),
    ],
)
def test_bad_input_gets_one_sentence(refiner, image, given, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        refiner([image], [given])


@pytest.mark.parametrize("refiner", REFINERS)
def test_images_and_masks_must_be_as_many_and_on_one_device(refiner: Refiner) -> None:
    with pytest.raises(ValueError, match="masks must hold one entry an image, got 2 for 1 images"):
        refiner([PICTURE], [FLAT, FLAT])
    with pytest.raises(ValueError, match=r"images\[1\] is on meta, images\[0\] on cpu"):
        refiner([PICTURE, PICTURE.to("meta")], [FLAT, FLAT])
    assert refiner([], []) == []


@pytest.mark.parametrize("refiner", REFINERS)
def test_an_image_may_have_no_mask_and_a_picture_one_pixel(refiner: Refiner) -> None:
    none, one = refiner([PICTURE, PICTURE[:1, :1]], [FLAT[:0], torch.ones(1, 1, 1)])
    assert none.soft.shape == none.masks.shape == (0, 4, 5)
    assert none.kept.shape == (0,)
    assert one.soft.item() > 0.7


def test_every_yaml_is_built_with_its_values_and_names_the_published_set() -> None:
    built = {path.stem: (OmegaConf.load(path), instantiate(OmegaConf.load(path))) for path in CONFIGS.glob("*.yaml")}
    assert set(built) == {"bilateral", "bilateral_fine", "crf_maskcut", "crf_deep_spectral"}
    for config, refiner in built.values():
        for node, owner in ((config, refiner), (config.parameters, refiner.parameters)):
            for name, value in node.items():
                assert name in ("_target_", "parameters") or getattr(owner, name) == value, name
    assert vars(built["bilateral"][1]) == vars(BilateralSolver())
    assert vars(built["crf_maskcut"][1]) == vars(DenseCRF())
    assert built["crf_maskcut"][1].parameters == MASKCUT
    assert built["crf_deep_spectral"][1].parameters == DEEP_SPECTRAL
    assert all(field.name in built["crf_maskcut"][0].parameters for field in fields(MASKCUT))
