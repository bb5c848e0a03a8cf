"""A mask belongs to the image with the same path below its folder; unmatched files are counted and named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_files import assert_same_after_pickling, save, write

from eigenseg.data.datasets import SaliencyFolder, check_images

gray = np.array([[0, 1, 128], [255, 254, 3]], dtype=np.uint8)


def tree(root: Path, images: list[str], masks: list[str]) -> Path:
    for name in images:
        write(root / "images" / name)
    for i, name in enumerate(masks):
        save(root / "masks" / name, gray + i)
    return root


def test_masks_and_images_are_matched_by_path_without_suffix(tmp_path: Path) -> None:
    tree(tmp_path, ["b.jpg", "a.JPG", "s/a.jpeg", "s/t/a.png"], ["a.png", "b.bmp", "s/a.png", "s/t/a.png"])
    dataset = SaliencyFolder("images", "masks", root=tmp_path, title="mine")
    assert list(dataset.items) == ["a.JPG", "b.jpg", "s/a.jpeg", "s/t/a.png"]
    for i, name in enumerate(dataset.items):
        np.testing.assert_array_equal(dataset.annotation(i), gray + i, strict=True)
        assert dataset.images(i)[0].name == name
        assert dataset.images(i)[0].path == tmp_path / "images" / name
    assert (dataset.unannotated, dataset.title, dataset.kind) == (0, "mine", "saliency")
    check_images(dataset)
    assert_same_after_pickling(dataset)
    assert list(SaliencyFolder(tmp_path / "images", tmp_path / "masks").items) == list(dataset.items)


def test_dots_within_a_name_are_not_a_suffix(tmp_path: Path) -> None:
    dataset = SaliencyFolder("images", "masks", root=tree(tmp_path, ["a.1.jpg", "a.2.jpg"], ["a.1.png", "a.2.png"]))
    assert list(dataset.items) == ["a.1.jpg", "a.2.jpg"]
    np.testing.assert_array_equal(dataset.annotation(1), gray + 1)


@pytest.mark.parametrize(("images", "masks", "prefix"), [("J/480p", "A/480p", ""), ("J", "A", "480p/")])
def test_trees_of_videos_are_read_from_either_level(tmp_path: Path, images: str, masks: str, prefix: str) -> None:
    for sequence in ("cows", "bear"):
        write(tmp_path / "J" / "480p" / sequence / "00000.jpg")
        save(tmp_path / "A" / "480p" / sequence / "00000.png", gray)
    dataset = SaliencyFolder(images, masks, root=tmp_path)
    assert list(dataset.items) == [f"{prefix}bear/00000.jpg", f"{prefix}cows/00000.jpg"]


def test_images_without_a_mask_are_skipped_and_counted(tmp_path: Path) -> None:
    dataset = SaliencyFolder("images", "masks", root=tree(tmp_path, ["a.jpg", "b.jpg", "b.png", "c.jpg"], ["a.png"]))
    assert (list(dataset.items), dataset.unannotated) == (["a.jpg"], 2)


def test_a_mask_without_an_image_is_counted_and_named(tmp_path: Path) -> None:
    tree(tmp_path, ["b.jpg"], ["b.png", "c/d.png", "e.png"])
    with pytest.raises(
        ValueError, match=r"mine: 2 of 3 masks have no image below .*/images, the first is c/d\.png; .*null"
    ):
        SaliencyFolder("images", "masks", root=tmp_path, title="mine")


def test_without_images_items_are_named_after_masks_and_images_count_as_missing(tmp_path: Path) -> None:
    dataset = SaliencyFolder(None, "masks", root=tree(tmp_path, [], ["b.png", "a/c.png"]), title="mine")
    assert list(dataset.items) == ["a/c.png", "b.png"]
    assert [dataset.images(i)[0].name for i in range(2)] == ["a/c.png", "b.png"]
    np.testing.assert_array_equal(dataset.annotation(1), gray)
    with pytest.raises(FileNotFoundError, match="mine: 2 of 2 images are missing"):
        check_images(dataset)
    assert_same_after_pickling(dataset)


def test_two_files_with_the_same_stem_are_rejected(tmp_path: Path) -> None:
    tree(tmp_path, ["a.jpg", "a.png"], ["a.png"])
    with pytest.raises(ValueError, match=r"/images holds two images that differ in their suffix alone: a\.jpg, a\.png"):
        SaliencyFolder("images", "masks", root=tmp_path)
    save(tmp_path / "masks" / "a.bmp", gray)
    with pytest.raises(ValueError, match=r"/masks holds two masks that differ in their suffix alone: a\.bmp, a\.png"):
        SaliencyFolder("images", "masks", root=tmp_path)


@pytest.mark.parametrize(
    ("images", "masks", "hint"),
    [("images", "gone", "root or dataset.masks"), ("gone", "masks", "root or dataset.images")],
)
def test_without_a_root_the_hint_names_the_folder_that_is_missing(
    tmp_path: Path, images: str, masks: str, hint: str
) -> None:
    tree(tmp_path, ["a.jpg"], ["a.png"])
    with pytest.raises(FileNotFoundError, match=rf"needs .*/gone, which is not there; set dataset\.{hint}, or get it"):
        SaliencyFolder(tmp_path / images, tmp_path / masks)


def test_a_missing_folder_is_named_with_its_source(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"ECSSD needs .*/masks, .* or get it from https://ecssd\.org"):
        SaliencyFolder("images", "masks", root=tmp_path, title="ECSSD", origin="https://ecssd.org")
    (tmp_path / "masks").mkdir()
    with pytest.raises(ValueError, match=r"/masks holds no image"):
        SaliencyFolder("images", "masks", root=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"saliency needs .*/none, "):
        SaliencyFolder("none", "masks", root=tree(tmp_path, [], ["a.png"]))


def test_three_hundred_real_masks_and_the_folders_of_davis_are_read(test_data: Path) -> None:
    sod = SaliencyFolder(None, test_data / "saliency_sod" / "ground_truth", title="SOD")
    assert len(sod.items) == 300
    assert {value for i in range(len(sod.items)) for value in np.unique(sod.annotation(i)).tolist()} >= {0, 255}
    published = SaliencyFolder("saliency_sod/dss", "saliency_sod/ground_truth", root=test_data)
    assert list(published.items) == list(sod.items)
    for images, masks in (("JPEGImages", "Annotations"), ("JPEGImages/480p", "Annotations/480p")):
        davis = SaliencyFolder(images, masks, root=test_data / "davis")
        assert (len(davis.items), davis.unannotated) == (139, 0)
        check_images(davis)
    assert davis.items[0] == "car-shadow/00000.jpg"
