"""Draw ``comparison.jpg``, one row per image and one column per method: ``python docs/comparison.py``.

The images are scikit-learn's two photographs and two generated scenes; the features are those of the built-in backbone
``color_texture``, which encodes color and texture and has no notion of objects.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from eigenseg import Predictor, read_image
from eigenseg.data import find_images
from eigenseg.data.results.overlay import draw_overlay

COLUMNS = {
    "TokenCut": ("tokencut", []),
    "LOST": ("lost", []),
    "Deep Spectral": ("deep_spectral", []),
    "Deep Spectral, segmentation": ("deep_spectral_segmentation", []),
    "MaskCut": ("maskcut", []),
    "MaskCut and CRF": ("maskcut", ["postprocess=crf_maskcut"]),
    "TokenCut and bilateral solver": ("tokencut", ["postprocess=bilateral"]),
}
WIDTH = 300  # pixels, width of a cell
HEAD = 26  # pixels, height of the captions


def main() -> int:
    """Write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", help="folder of images to use instead")
    parser.add_argument("--backbone", default="color_texture")
    parser.add_argument(
        "--overrides", nargs="*", default=[], help="config overrides for all columns, such as backbone.weights=random"
    )
    parser.add_argument("--columns", nargs="*", help="methods to use instead of the default columns")
    parser.add_argument("--output", default=str(Path(__file__).parent / "comparison.jpg"))
    options = parser.parse_args()
    images = (
        [read_image(source.path) for source in find_images(options.photos)]
        if options.photos
        else [*load_sample_images().images, *(scene(seed) for seed in (0, 1))]
    )
    columns = {name: (name, []) for name in options.columns} if options.columns else COLUMNS
    cells = [["image", *(fit(image) for image in images)]]
    for title, (method, overrides) in columns.items():
        predictor = Predictor.from_config(
            method, backbone=options.backbone, device="cpu", overrides=[*options.overrides, *overrides]
        )
        cells.append([title, *(fit(draw_overlay(image, predictor(image))) for image in images)])
    sheet = np.concatenate([np.concatenate([caption(title), *column]) for title, *column in cells], axis=1)
    Image.fromarray(sheet).save(options.output, quality=82)
    print(options.output)
    return 0


def scene(seed: int) -> NDArray[np.uint8]:
    """Three textured shapes on a textured background: (360, 480, 3) uint8."""
    random, (rows, columns) = np.random.default_rng(seed), np.indices((360, 480))
    image = np.empty((360, 480, 3))
    image[:] = random.uniform(60, 140, 3)
    for i in range(3):
        y, x, size = random.uniform(80, 280), 90 + 150 * i, random.uniform(40, 70)
        disc = (rows - y) ** 2 + (columns - x) ** 2 < size**2
        square = (abs(rows - y) < size * 0.8) & (abs(columns - x) < size * 0.8)
        image[disc if i % 2 else square] = random.uniform(0, 255, 3)
    image += 12 * np.sin(rows / 3 + columns / 5)[..., None] + random.normal(0, 8, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Resize to the width of a cell; crop or pad the height to three quarters of it."""
    height = round(image.shape[0] * WIDTH / image.shape[1])
    small = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
    cell = np.full((WIDTH * 3 // 4, WIDTH, 3), 255, dtype=np.uint8)
    top = max(0, (height - len(cell)) // 2)
    shown = small[top : top + len(cell)]
    cell[: len(shown)] = shown
    return np.pad(cell, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def caption(text: str) -> NDArray[np.uint8]:
    """The caption above a column."""
    canvas = Image.new("RGB", (WIDTH + 4, HEAD), "white")
    ImageDraw.Draw(canvas).text((6, 5), text, fill="black", font=ImageFont.load_default(size=15))
    return np.asarray(canvas)


if __name__ == "__main__":
    raise SystemExit(main())
