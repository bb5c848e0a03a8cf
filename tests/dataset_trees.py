"""Two items of every dataset: the smallest tree of files that its reader accepts, or generated ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tiny_files import save, write

from eigenseg.data import datasets, encode_masks

HEIGHT, WIDTH, FRAMES = 30, 40, 2
Labels = NDArray[np.uint8]


def labels(item: int, frame: int = 0) -> Labels:
    """A label map (H, W) with two objects, 1 and 2, that move one pixel per frame."""
    canvas = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    canvas[4:16, 3 + item + frame : 17 + item + frame] = 1
    canvas[18:28, 20 - frame : 38 - frame] = 2
    return canvas


def boxes(item: int) -> list[tuple[int, int, int, int]]:
    """xyxy half-open boxes of the two objects of ``labels(item)``."""
    return [(3 + item, 4, 17 + item, 16), (20, 18, 38, 28)]


def color_of(path: Path) -> tuple[int, int, int]:
    """The color of the photograph at a path, which tells it from the others."""
    digest = hashlib.sha256("/".join(path.parts[-2:]).encode()).digest()
    return digest[0], digest[1], digest[2]


def photo(path: Path) -> Path:
    """Lossless, whatever its suffix: one color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), color_of(path)).save(path, format="png")
    return path


def voc_xml(corners: list[tuple[int, int, int, int]], name: str) -> str:
    sides = [
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in corners
    ]
    return f"<annotation><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>{''.join(sides)}</annotation>"


def coco_json(file_names: list[str], **image: Callable[[str], str]) -> str:
    images, annotations = [], []
    for i, name in enumerate(file_names):
        images.append({"id": i + 7, "height": HEIGHT, "width": WIDTH, **{key: make(name) for key, make in image.items()}})
        for k, (x0, y0, x1, y1) in enumerate(boxes(i)):
            (rle,) = encode_masks((labels(i) == k + 1)[None])
            entry = {"id": 10 * i + k + 1, "image_id": i + 7, "category_id": 5 * k + 1, "iscrowd": 0, "segmentation": rle}
            annotations.append({**entry, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)})
    categories = [{"id": 1, "name": "cat"}, {"id": 6, "name": "dog"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def voc(root: Path) -> datasets.VocDetection:
    for i, name in enumerate(("000005", "000007")):
        corners = [(x0 + 1, y0 + 1, x1, y1) for x0, y0, x1, y1 in boxes(i)]
        write(root / "Annotations" / f"{name}.xml", voc_xml(corners, "dog"))
        photo(root / "JPEGImages" / f"{name}.jpg")
    write(root / "ImageSets" / "Main" / "trainval.txt", "000005\n000007\n")
    return datasets.VocDetection(root)


def voc_segmentation(root: Path) -> datasets.VocSegmentation:
    for i, name in enumerate(("2007_1", "2007_2")):
        save(root / "SegmentationClass" / f"{name}.png", labels(i) * 7, palette=True)
        photo(root / "JPEGImages" / f"{name}.jpg")
    write(root / "ImageSets" / "Segmentation" / "val.txt", "2007_1\n2007_2\n")
    return datasets.VocSegmentation(root)


def coco(root: Path) -> datasets.CocoInstances:
    names = ["a.jpg", "b.jpg"]
    write(root / "annotations" / "instances_val2017.json", coco_json(names, file_name=lambda name: name))
    for name in names:
        photo(root / "val2017" / name)
    return datasets.CocoInstances(root)


def lvis(root: Path) -> datasets.LvisInstances:
    names = ["val2017/a.jpg", "train2017/b.jpg"]
    write(root / "annotations" / "lvis_v1_val.json", coco_json(names, coco_url=lambda name: f"http://images/{name}"))
    for name in names:
        photo(root / name)
    return datasets.LvisInstances(root)


def imagenet(root: Path) -> datasets.ImageNetLocalization:
    write(root / "LOC_synset_mapping.txt", "n01 tench\nn02 shark\n")
    for i in range(2):
        corners = [(x0, y0, x1 - 1, y1 - 1) for x0, y0, x1, y1 in boxes(i)]
        write(root / "ILSVRC/Annotations/CLS-LOC/val" / f"ILSVRC2012_val_{i}.xml", voc_xml(corners, "n02"))
        photo(root / "ILSVRC/Data/CLS-LOC/val" / f"ILSVRC2012_val_{i}.JPEG")
    return datasets.ImageNetLocalization(root)


def cub(root: Path) -> datasets.CubBoxes:
    tables: dict[str, list[str]] = {"classes.txt": ["1 albatross"]}
    for i in range(2):
        x0, y0, x1, y1 = boxes(i)[0]
        rows = {
            "images.txt": f"birds/{i}.jpg",
            "bounding_boxes.txt": f"{x0}.0 {y0}.0 {x1 - x0}.0 {y1 - y0}.0",
            "train_test_split.txt": "0",
            "image_class_labels.txt": "1",
        }
        for table, row in rows.items():
            tables.setdefault(table, []).append(f"{i + 1} {row}")
        photo(root / "images" / "birds" / f"{i}.jpg")
    for table, lines in tables.items():
        write(root / table, "\n".join(lines))
    return datasets.CubBoxes(root)


def saliency(root: Path) -> datasets.SaliencyFolder:
    for i, name in enumerate(("a", "sub/b")):
        photo(root / "photos" / f"{name}.jpg")
        save(root / "masks" / f"{name}.png", (labels(i) > 0) * 255)
    return datasets.SaliencyFolder("photos", "masks", root=root)


def davis(root: Path) -> datasets.Davis:
    for i, name in enumerate(("bear", "swan")):
        for t in range(FRAMES):
            photo(root / "JPEGImages/480p" / name / f"{t:05d}.jpg")
            save(root / "Annotations_unsupervised/480p" / name / f"{t:05d}.png", labels(i, t), palette=True)
    write(root / "ImageSets/2017/val.txt", "bear\nswan\n")
    return datasets.Davis(root)


def ytvis(root: Path) -> datasets.YoutubeVis:
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, name in enumerate(("0a", "0b")):
        names = [f"{name}/{t:05d}.jpg" for t in range(FRAMES)]
        videos.append({"id": i + 1, "height": HEIGHT, "width": WIDTH, "file_names": names})
        for k in (1, 2):
            masks = [encode_masks((labels(i, t) == k)[None])[0] for t in range(FRAMES)]
            entry = {"id": 2 * i + k, "video_id": i + 1, "category_id": 1, "iscrowd": 0, "segmentations": masks}
            annotations.append(entry)
        for frame in names:
            photo(root / "train/JPEGImages" / frame)
    content = {"videos": videos, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    write(root / "train.json", json.dumps(content))
    return datasets.YoutubeVis(root)


def segtrack(root: Path) -> datasets.SegTrackV2:
    for i, name in enumerate(("bird", "frog")):
        for t in range(FRAMES):
            photo(root / "JPEGImages" / name / f"{t}.png")
            for k in (1, 2):
                save(root / "GroundTruth" / name / str(k) / f"{t}.png", (labels(i, t) == k) * 255)
    return datasets.SegTrackV2(root)


def fbms(root: Path) -> datasets.Fbms:
    for i, name in enumerate(("camel01", "cats02")):
        for t in range(FRAMES):
            photo(root / "Testset" / name / f"{name}_{t:02d}.jpg")
            save(root / "Testset" / name / "GroundTruth" / f"{name}_{t:02d}_gt.png", labels(i, t) * 100)
    return datasets.Fbms(root)


# Names of the items, in order; the class of the objects, where there is one.
EXPECTED: dict[str, tuple[list[str], str | None]] = {
    "voc2007": (["000005.jpg", "000007.jpg"], "dog"),
    "voc2012_segmentation": (["2007_1.jpg", "2007_2.jpg"], None),
    "coco": (["a.jpg", "b.jpg"], "cat dog"),
    "lvis": (["val2017/a.jpg", "train2017/b.jpg"], "cat dog"),
    "imagenet": (["ILSVRC2012_val_0.JPEG", "ILSVRC2012_val_1.JPEG"], "n02"),
    "cub": (["birds/0.jpg", "birds/1.jpg"], "albatross"),
    "saliency": (["a.jpg", "sub/b.jpg"], None),
    "davis2017_unsupervised": (["bear", "swan"], None),
    "ytvis2019": (["0a", "0b"], None),
    "segtrackv2": (["bird", "frog"], None),
    "fbms": (["camel01", "cats02"], None),
}
TREES: dict[str, Callable[[Path], Any]] = {
    "voc2007": voc,
    "voc2012_segmentation": voc_segmentation,
    "coco": coco,
    "lvis": lvis,
    "imagenet": imagenet,
    "cub": cub,
    "saliency": saliency,
    "davis2017_unsupervised": davis,
    "ytvis2019": ytvis,
    "segtrackv2": segtrack,
    "fbms": fbms,
}


def moving_shapes(root: Path) -> datasets.MovingShapes:
    return datasets.MovingShapes(count=2, length=FRAMES, size=(HEIGHT, WIDTH), root=root)


def still_shapes(root: Path) -> datasets.MovingShapes:
    return datasets.MovingShapes(count=2, length=1, size=(HEIGHT, WIDTH), root=root)


# Datasets that draw their own items, by what chooses them on the command line.
GENERATED: dict[str, Callable[[Path], Any]] = {
    "moving_shapes": moving_shapes,
    "moving_shapes dataset.length=1 evaluation=coco_masks": still_shapes,
}
EXPECTED_GENERATED: dict[str, list[str]] = dict(
    zip(GENERATED, (["00000", "00001"], ["00000.png", "00001.png"]), strict=True)
)
