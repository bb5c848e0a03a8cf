"""Four small images, a method that finds two objects in three of them, and runs that stop anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eigenseg.data import Geometry, ImageSource, Instances, find_images, read_image
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.writers import image_writers

IDENTITY = {"method": {"name": "tokencut", "tau": 0.2}, "input": "photos"}
RUN = {"versions": {"eigenseg": "0"}}
PHOTOS = ("rex.jpg", "rex.png", "b/rex.jpg", "a/deep/fog.png")
EMPTY = "a/deep/fog.png"
EVERYTHING = {"labels": True, "overlays": True, "masks": True, "heatmap": True, "saliency": True, "arrays": True}
NOTHING = dict.fromkeys(EVERYTHING, False)


def make_photos(folder: Path) -> list[ImageSource]:
    for seed, name in enumerate(PHOTOS):
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return find_images(folder)


def predict(name: str) -> Instances:
    """The result of a method: two objects whose scores depend on the image's name, or none."""
    if name == EMPTY:
        return Instances.empty((24, 32), "fog everywhere")
    masks = np.zeros((2, 24, 32), dtype=bool)
    masks[0, 2:12, 3:20] = True
    masks[1, 8:20, 10:30] = True
    rng = np.random.default_rng(len(name))
    return Instances(
        masks,
        np.array([0.25, 0.5 + len(name) / 100]),
        np.array([[3, 2, 20, 12], [10, 8, 30, 20]]),
        (24, 32),
        extras={"seed": [3, 4], "eigenvector": rng.normal(size=(2, 6, 8))},
        metadata={
            "geometry": Geometry((24, 32), (24, 32), (24, 32), 4),
            "saliency": rng.random((24, 32), dtype=np.float32),
        },
    )


def open_store(root: Path, **options: bool) -> ResultStore:
    return ResultStore(root, IDENTITY, image_writers(**{**EVERYTHING, **options}), RUN)


def keep(store: ResultStore, source: ImageSource, instances: Instances | None = None) -> None:
    """Process one image."""
    stamp, image = source.stamp(), read_image(source.path)
    result = predict(source.name) if instances is None else instances
    store.add(Record.of(source.name, stamp, result, milliseconds=1.0), image)


def fail(store: ResultStore, source: ImageSource, error: str) -> None:
    store.fail(Record.failure(source.name, "image", source.stamp(), error))


def run(root: Path, sources: list[ImageSource], limit: int | None = None, **options: bool) -> ResultStore:
    """Process unfinished images, like the extraction loop, and stop silently after ``limit`` images."""
    store = open_store(root, **options)
    for source in [source for source in sources if not store.holds(source)][:limit]:
        keep(store, source)
    return store


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def folders(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


def arrive_in_any_order(files: dict[str, bytes]) -> dict[str, Any]:
    """Files of a run, with the lines of the manifest as a set."""
    return {**files, "manifest.jsonl": set(files["manifest.jsonl"].splitlines())}
