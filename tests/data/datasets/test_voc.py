"""PASCAL VOC's corners count from 1, its flags stay with their objects, and its palettes are classes and objects."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_files import assert_same_after_pickling, save, write

from eigenseg.data.datasets import VocDetection, VocSegmentation, check_images


def annotation_xml(*objects: str, size: str = "<size><width>50</width><height>40</height><depth>3</depth></size>") -> str:
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def entry(name: str, corners: tuple[object, ...], flags: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name>{flags}<bndbox>{box}</bndbox>{part}</object>"


def tree(root: Path, **texts: str) -> Path:
    write(root / "ImageSets" / "Main" / "trainval.txt", "".join(f"{name}\n" for name in texts))
    for name, text in texts.items():
        write(root / "Annotations" / f"{name}.xml", text)
    return root


def test_one_is_subtracted_from_minima_only_and_flags_stay_with_their_objects(tmp_path: Path) -> None:
    text = annotation_xml(
        entry("dog", (1, 1, 50, 40), "<truncated>1</truncated><difficult>0</difficult>"),
        entry("person", (10, 20.5, 10, 21), "<difficult> 1 </difficult>"),
    )
    dataset = VocDetection(tree(tmp_path, **{"000005": text, "000007": annotation_xml()}))
    annotation = dataset.annotation(0)
    np.testing.assert_array_equal(annotation.boxes, [[0, 0, 50, 40], [9, 19.5, 10, 21]])
    assert [dataset.classes[label] for label in annotation.labels] == ["dog", "person"]
    assert annotation.difficult.tolist() == [False, True]
    assert annotation.truncated.tolist() == [True, False]
    assert annotation.crowd.tolist() == [False, False]
    assert annotation.areas.tolist() == [2000, 1.5]
    assert (annotation.image_size, annotation.masks) == ((40, 50), None)
    assert dataset.annotation(1).boxes.shape == (0, 4)
    assert list(dataset.items) == ["000005.jpg", "000007.jpg"]
    assert [source.name for source in dataset.images(1)] == ["000007.jpg"]
    assert dataset.images(1)[0].path == tmp_path / "JPEGImages" / "000007.jpg"
    assert dataset.title == "PASCAL VOC 2007 trainval"
    assert_same_after_pickling(dataset)


def test_a_list_may_have_a_second_column_and_an_annotation_no_size(tmp_path: Path) -> None:
    root = tree(tmp_path, a=annotation_xml(entry("cat", (2, 3, 4, 5)), size=""))
    write(root / "ImageSets" / "Main" / "cat_train.txt", "a  1\n\n")
    dataset = VocDetection(root, year=2012, split="cat_train")
    assert (list(dataset.items), dataset.annotation(0).image_size) == (["a.jpg"], None)


def test_a_missing_file_is_named_with_the_dataset_and_its_source(tmp_path: Path) -> None:
    source = r"http://host\.robots\.ox\.ac\.uk/pascal/VOC/"
    with pytest.raises(FileNotFoundError, match=rf"PASCAL VOC 2007 trainval needs .*/Annotations, .*{source}"):
        VocDetection(tmp_path)
    root = tree(tmp_path, a=annotation_xml())
    with pytest.raises(FileNotFoundError, match=rf"PASCAL VOC 2007 test needs .*/ImageSets/Main/test\.txt, .*{source}"):
        VocDetection(root, split="test")
    (root / "Annotations" / "a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=rf"needs .*/Annotations/a\.xml, .*{source}"):
        VocDetection(root).annotation(0)
    with pytest.raises(FileNotFoundError, match=r"PASCAL VOC 2007 trainval: 1 of 1 images are missing.*/a\.jpg"):
        check_images(VocDetection(root))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "is not XML"),
        (annotation_xml(entry("unicorn", (1, 1, 2, 2))), "names the unknown class 'unicorn'"),
        (annotation_xml("<object><name>cat</name></object>"), "<object> has no <bndbox/xmin>"),
        (annotation_xml(entry("cat", (1, "x", 2, 2))), "could not convert string to float"),
        (annotation_xml(entry("cat", (5, 1, 2, 2))), r"x0 <= x1 and y0 <= y1, got \[4.0, 0.0, 2.0, 2.0\]"),
    ],
)
def test_a_damaged_annotation_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"/Annotations/a\.xml.*{message}"):
        VocDetection(tree(tmp_path, a=text)).annotation(0)


def test_every_box_of_the_real_trainval_is_read(tmp_path: Path, test_data: Path) -> None:
    with gzip.open(test_data / "voc07" / "voc2007_trainval_boxes.json.gz") as file:
        images = json.load(file)
    texts = {
        Path(image["file_name"]).stem: annotation_xml(
            *(entry(o["name"], o["bbox_1based_xyxy"], f"<difficult>{o['difficult']}</difficult>") for o in image["objects"])
        )
        for image in images
    }
    dataset = VocDetection(tree(tmp_path, **texts))
    annotations = [dataset.annotation(i) for i in range(len(dataset.items))]
    assert len(annotations) == 5011
    assert sum(len(annotation) for annotation in annotations) == 15662
    assert sum(int(annotation.difficult.sum()) for annotation in annotations) == 3054
    # "000005.jpg", as published: the chair at 263 211 324 339.
    assert annotations[0].boxes[0].tolist() == [262, 210, 324, 339]
    minima = np.concatenate([annotation.boxes[:, :2] for annotation in annotations])
    assert (minima.min(), np.concatenate([annotation.boxes for annotation in annotations]).max()) == (0, 500)


classes = np.zeros((5, 6), dtype=np.uint8)
classes[1:3, 1:3], classes[3:5, 4:6], classes[0, 0] = 15, 7, 255
objects = np.zeros((5, 6), dtype=np.uint8)
objects[1:3, 1:3], objects[3:5, 4:6], objects[0, 0] = 2, 1, 255


def segmentation(root: Path, by_class: object = classes, by_object: object = objects) -> VocSegmentation:
    write(root / "ImageSets" / "Segmentation" / "val.txt", "2007_000033\n")
    save(root / "SegmentationClass" / "2007_000033.png", np.asarray(by_class), palette=True)
    save(root / "SegmentationObject" / "2007_000033.png", np.asarray(by_object), palette=True)
    return VocSegmentation(root)


def test_classes_are_palette_indices_with_background_and_void(tmp_path: Path) -> None:
    dataset = segmentation(tmp_path)
    np.testing.assert_array_equal(dataset.annotation(0), classes, strict=True)
    assert (dataset.classes[0], dataset.classes[15], dataset.classes[7], len(dataset.classes)) == (
        "background", "person", "car", 21,
    )  # fmt: skip
    assert (dataset.kind, dataset.title) == ("semantic", "PASCAL VOC 2012 segmentation val")
    assert dataset.images(0)[0].path == tmp_path / "JPEGImages" / "2007_000033.jpg"
    assert dataset.images(0)[0].name == dataset.items[0] == "2007_000033.jpg"
    assert_same_after_pickling(dataset)


def test_objects_have_tight_boxes_their_class_and_no_void(tmp_path: Path) -> None:
    annotation = segmentation(tmp_path).instances(0)
    np.testing.assert_array_equal(annotation.boxes, [[4, 3, 6, 5], [1, 1, 3, 3]])
    assert [VocDetection.classes[label] for label in annotation.labels] == ["car", "person"]
    np.testing.assert_array_equal(np.asarray(annotation.masks), [objects == 1, objects == 2])
    assert (annotation.areas.tolist(), annotation.image_size) == ([4, 4], (5, 6))


def test_an_object_has_the_majority_class_of_its_pixels(tmp_path: Path) -> None:
    mixed = classes.copy()
    mixed[1, 1], mixed[1, 2] = 255, 3
    assert segmentation(tmp_path, mixed).instances(0).labels.tolist() == [6, 14]


def test_an_image_without_objects_has_none(tmp_path: Path) -> None:
    annotation = segmentation(tmp_path, classes * 0, objects * 0).instances(0)
    assert annotation.masks is not None
    assert (len(annotation), annotation.masks.shape) == (0, (0, 5, 6))


def test_inconsistent_annotations_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SegmentationClass/2007_000033\.png holds the class 21; expected 0 to 20"):
        segmentation(tmp_path, np.full((5, 6), 21)).annotation(0)
    with pytest.raises(ValueError, match=r"SegmentationObject/.* holds object 1, whose pixels have no class"):
        segmentation(tmp_path, np.full((5, 6), 255)).instances(0)
    with pytest.raises(ValueError, match=r"SegmentationObject/.* has shape \(4, 6\), the classes have \(5, 6\)"):
        segmentation(tmp_path, classes, objects[:4]).instances(0)
    Image.fromarray(np.zeros((5, 6, 3), dtype=np.uint8)).save(tmp_path / "SegmentationClass" / "2007_000033.png")
    with pytest.raises(ValueError, match=r"2007_000033\.png has mode RGB"):
        VocSegmentation(tmp_path).annotation(0)


def test_missing_segmentations_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"PASCAL VOC 2012 segmentation val needs .*/SegmentationClass, .*ox\.ac\.uk"
    ):
        VocSegmentation(tmp_path)
    segmentation(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"needs .*/ImageSets/Segmentation/train\.txt"):
        VocSegmentation(tmp_path, split="train")
    (tmp_path / "SegmentationObject" / "2007_000033.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs .*/SegmentationObject/2007_000033\.png"):
        VocSegmentation(tmp_path).instances(0)
