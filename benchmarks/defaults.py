"""Which features and graph threshold suit a backbone: facet x centering x tau, for every image method.

::

    python -m benchmarks.defaults --coco COCO --weights dinov2_small.safetensors    # a table and results/defaults-cpu.json

Every image is encoded once per size, with all facets of the last block; all rows cut these tokens. Boxes are compared with
all non-crowd objects (IoU >= 0.5). ``CorLoc``: images in which the box of the highest score matches an object; ``any``:
images in which any box does; ``recall``: matched objects. FOUND's threshold takes the place of tau.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.harness import environment, save
from eigenseg.data import FeatureGrid, Instances, Preprocess
from eigenseg.data.datasets import CocoInstances
from eigenseg.data.images import ImageArray
from eigenseg.discovery import LOST, DinoSeg, TokenCut, ViTBackbone
from eigenseg.discovery.extractor import FeatureExtractor
from eigenseg.discovery.metrics import pairwise_iou
from eigenseg.segment import FOUND, DeepSpectral, MaskCut

SIZES = {"322": Preprocess(mode="round", resize=322), "native": Preprocess(mode="round")}
FACETS = ("token", "query", "key", "value")
TAUS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
WITH_TAU: dict[str, Callable[[float], Any]] = {
    "TokenCut": TokenCut,
    "MaskCut": MaskCut,
    "FOUND": lambda threshold: FOUND(threshold=threshold),
}
WITHOUT_TAU: dict[str, Callable[[], Any]] = {"LOST": LOST, "Deep Spectral": DeepSpectral, "DINO-seg": DinoSeg}


@dataclass(frozen=True)
class Encoded:
    """An image, its boxes, and the tokens of all facets."""

    image: ImageArray
    boxes: Any  # (n, 4) float64 xyxy pixels
    features: FeatureGrid  # tokens of all facets, side by side

    def of(self, facet: str, center: bool) -> FeatureGrid:
        """The features of one facet."""
        width = self.features.tokens.shape[2] // len(FACETS)
        start = FACETS.index(facet) * width
        tokens = self.features.tokens[:, :, start : start + width]
        tokens = tokens - tokens.mean(dim=1, keepdim=True) if center else tokens
        return replace(self.features, tokens=tokens, kind=facet, cls=None)


def main() -> int:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", required=True, help="root with annotations/ and val2017/")
    parser.add_argument("--weights", required=True, help="of dinov2_vits14")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=[*WITH_TAU, *WITHOUT_TAU])
    parser.add_argument("--name", default="defaults-cpu", help="of the file in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sha256 = hashlib.sha256(Path(options.weights).read_bytes()).hexdigest()
    record: dict[str, Any] = {**environment(1, "cpu"), "weights": f"dinov2_vits14, sha256 {sha256}", "rows": []}
    architecture = "vit_small_patch14_dinov2.lvd142m"
    backbone = ViTBackbone(architecture, options.weights, "+".join(FACETS), position="dino")
    for size in options.sizes:
        images = list(encode(CocoInstances(options.coco, masks=False), FeatureExtractor(backbone, SIZES[size])))
        for row in sweep(images, size, options.methods):
            record["rows"].append(row)
            print(row, flush=True)
        save(options.name, record)  # after every size, so that a long run loses at most one
    show(record["rows"])
    return 0


def encode(dataset: CocoInstances, extractor: FeatureExtractor) -> Iterator[Encoded]:
    """Every image of a dataset."""
    for i in range(len(dataset.items)):
        fitted = extractor.prepare(dataset.images(i)[0].path)
        annotation = dataset.annotation(i)
        yield Encoded(fitted.image, annotation.boxes[~annotation.crowd], extractor.extract([fitted], attention=True))


def sweep(images: Sequence[Encoded], size: str, methods: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row for every combination of these methods."""
    for facet in FACETS:
        for center in (False, True):
            chosen = [one.of(facet, center) for one in images]
            settings = [(name, tau, make(tau)) for name, make in WITH_TAU.items() for tau in TAUS]
            settings += [(name, None, make()) for name, make in WITHOUT_TAU.items()]
            for name, tau, method in settings:
                if name not in methods:
                    continue
                if name == "MaskCut" and (center or facet != "token"):
                    continue  # up to ten solves an image, where TokenCut has said that the features are worse
                results = [method(features, [one.image])[0] for features, one in zip(chosen, images, strict=True)]
                scores = score(results, [one.boxes for one in images])
                yield {"size": size, "facet": facet, "center": center, "method": name, "tau": tau, **scores}


def score(results: Sequence[Instances], objects: Sequence[Any]) -> dict[str, float]:
    """Percentages of images and objects, objects found per image, and images without any."""
    best, any_box, found = 0, 0, 0
    for result, boxes in zip(results, objects, strict=True):
        matches = pairwise_iou(result.sorted().boxes.astype(np.float64), boxes) >= 0.5
        best += bool(len(matches) and matches[0].any())
        any_box += bool(matches.any())
        found += int(matches.any(axis=0).sum()) if len(matches) else 0
    count, total = len(results), sum(map(len, objects))
    return {
        "corloc": 100 * best / count,
        "any": 100 * any_box / count,
        "recall": 100 * found / total,
        "instances": sum(map(len, results)) / count,
        "empty": sum(not len(result) for result in results),
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print CorLoc (of MaskCut: any / recall) over tau, and the methods that have none."""
    console = Console(width=150)
    for size in dict.fromkeys(row["size"] for row in rows):
        for name in WITH_TAU:
            table = Table("facet", *(f"{tau:g}" for tau in TAUS), title=f"{name} over tau, {size}")
            for facet, center in dict.fromkeys((row["facet"], row["center"]) for row in rows):
                cells = [cell(row) for row in rows if matching(row, size, facet, center, name)]
                table.add_row(facet + ", centered" * center, *cells)
            console.print(table)
        table = Table("facet", *WITHOUT_TAU, title=f"CorLoc (images without an object), {size}")
        for facet, center in dict.fromkeys((row["facet"], row["center"]) for row in rows):
            chosen = [row for name in WITHOUT_TAU for row in rows if matching(row, size, facet, center, name)]
            table.add_row(facet + ", centered" * center, *(f"{row['corloc']:.1f} ({row['empty']})" for row in chosen))
        console.print(table)


def matching(row: dict[str, Any], size: str, facet: str, center: bool, name: str) -> bool:
    """Whether a row belongs to these settings."""
    return (row["size"], row["facet"], row["center"], row["method"]) == (size, facet, center, name)


def cell(row: dict[str, Any]) -> str:
    """What matters of a method: CorLoc of one object, of several also the images with any match and the recall."""
    if row["method"] != "MaskCut":
        return f"{row['corloc']:.1f}"
    return f"{row['corloc']:.1f} {row['any']:.1f} {row['recall']:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
