"""ImageNet's corners count from 0 and are inclusive; CUB's boxes are corner and size."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_files import assert_same_after_pickling, write

from eigenseg.data.datasets import CubBoxes, ImageNetLocalization


def imagenet(root: Path) -> Path:
    write(root / "LOC_synset_mapping.txt", "n01443537 goldfish, Carassius auratus\nn01440764 tench, Tinca tinca\n")
    objects = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in (("n01443537", 0, 0, 499, 374), ("n01443537", 111, 108, 441, 193))
    )
    size = "<size><width>500</width><height>375</height></size>"
    folder = root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val"
    write(folder / "ILSVRC2012_val_00000002.xml", f"<annotation>{size}{objects}</annotation>")
    write(folder / "ILSVRC2012_val_00000001.xml", f"<annotation>{size}</annotation>")
    write(folder / "readme.txt")
    return root


def test_an_imagenet_box_that_fills_the_image_is_the_whole_image(tmp_path: Path) -> None:
    dataset = ImageNetLocalization(imagenet(tmp_path))
    assert list(dataset.items) == ["ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG"]
    annotation = dataset.annotation(1)
    assert annotation.boxes.tolist() == [[0, 0, 500, 375], [111, 108, 442, 194]]
    assert annotation.areas.tolist() == [500 * 375, 331 * 86]
    assert annotation.image_size == (375, 500)
    assert len(dataset.annotation(0)) == 0
    assert dataset.images(1)[0].path == tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG"
    assert_same_after_pickling(dataset)


def test_imagenets_classes_are_sorted_whatever_the_order_of_the_mapping(tmp_path: Path) -> None:
    dataset = ImageNetLocalization(imagenet(tmp_path))
    assert dataset.classes == ("n01440764", "n01443537")
    assert dataset.annotation(1).labels.tolist() == [1, 1]


def test_missing_files_of_imagenet_are_named_with_the_source(tmp_path: Path) -> None:
    source = r"https://www\.kaggle\.com/c/imagenet-object-localization-challenge/data"
    with pytest.raises(FileNotFoundError, match=rf"ILSVRC 2012 val\) needs .*/LOC_synset_mapping\.txt, .*{source}"):
        ImageNetLocalization(tmp_path)
    mapping = write(tmp_path / "LOC_synset_mapping.txt", "n1 a\nn1 b\n")
    with pytest.raises(ValueError, match=r"LOC_synset_mapping\.txt: class 'n1' occurs twice"):
        ImageNetLocalization(tmp_path)
    write(mapping, "n1 a\n")
    with pytest.raises(FileNotFoundError, match=rf"needs .*/ILSVRC/Annotations/CLS-LOC/val, .*{source}"):
        ImageNetLocalization(tmp_path)
    (tmp_path / "ILSVRC" / "Annotations" / "CLS-LOC" / "val").mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"/val holds no \.xml; .*{source}"):
        ImageNetLocalization(tmp_path)
    imagenet(tmp_path)
    write(mapping, "n1 a\n")
    with pytest.raises(ValueError, match=r"ILSVRC2012_val_00000002\.xml names the unknown class 'n01443537'"):
        ImageNetLocalization(tmp_path).annotation(1)


def cub(root: Path, **changes: str) -> Path:
    tables = {
        "images": "1 001.Albatross/A_1.jpg\n2 002.Auk/B_1.jpg\n10 001.Albatross/A_2.jpg\n",
        "bounding_boxes": "1 60.0 27.0 325.0 304.0\n2 0.0 1.5 10.0 20.25\n10 5.0 6.0 7.0 8.0\n",
        "train_test_split": "1 0\n2 1\n10 0\n",
        "image_class_labels": "1 1\n2 2\n10 1\n",
        "classes": "1 001.Albatross\n2 002.Auk\n",
    }
    for name, text in {**tables, **changes}.items():
        write(root / f"{name}.txt", text)
    return root


@pytest.mark.parametrize(
    ("split", "items", "boxes", "labels"),
    [
        ("test", ["001.Albatross/A_1.jpg", "001.Albatross/A_2.jpg"], [[60, 27, 385, 331], [5, 6, 12, 14]], [0, 0]),
        ("train", ["002.Auk/B_1.jpg"], [[0, 1.5, 10, 21.75]], [1]),
    ],
)
def test_birds_of_a_split_have_their_own_box_and_class(
    tmp_path: Path, split: str, items: list[str], boxes: list[list[float]], labels: list[int]
) -> None:
    dataset = CubBoxes(cub(tmp_path), split=split)
    assert list(dataset.items) == items
    assert [dataset.annotation(i).boxes[0].tolist() for i in range(len(items))] == boxes
    assert [dataset.annotation(i).labels.tolist() for i in range(len(items))] == [[label] for label in labels]
    assert dataset.classes == ("001.Albatross", "002.Auk")
    assert dataset.annotation(0).image_size is None
    assert dataset.images(0)[0].path == tmp_path / "images" / items[0]
    assert dataset.images(0)[0].name == items[0]
    assert_same_after_pickling(dataset)


def test_all_birds_are_both_splits(tmp_path: Path) -> None:
    assert len(CubBoxes(cub(tmp_path), split="all").items) == 3
    with pytest.raises(ValueError, match="split must be 'train', 'test' or 'all', got 'val'"):
        CubBoxes(tmp_path, split="val")


@pytest.mark.parametrize("name", ["images", "bounding_boxes", "train_test_split", "image_class_labels", "classes"])
def test_each_missing_table_of_cub_is_named_with_the_source(tmp_path: Path, name: str) -> None:
    (cub(tmp_path) / f"{name}.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"CUB-200-2011 test needs .*/{name}\.txt, .*caltech\.edu/datasets/cub_200"
    ):
        CubBoxes(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bounding_boxes": "1 60.0 27.0 325.0\n"}, r"bounding_boxes\.txt has the line '1 60\.0 27\.0 325\.0'"),
        ({"bounding_boxes": "1 60.0 27.0 325.0 x\n"}, r"bounding_boxes\.txt: the box of image 1 is damaged"),
        ({"bounding_boxes": "2 1 1 1 1\n"}, r"lack '1' for image 1 \(001\.Albatross/A_1\.jpg\)"),
        ({"image_class_labels": "1 3\n2 2\n10 1\n"}, r"lack '3' for image 1"),
        ({"train_test_split": "1 0\n1 1\n2 0\n10 0\n"}, r"train_test_split\.txt has two lines for id 1"),
    ],
)
def test_damaged_tables_of_cub_are_named(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CubBoxes(cub(tmp_path, **changes))
