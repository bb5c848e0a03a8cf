"""Whether two versions find the same: ``python -m benchmarks.compare_results BEFORE AFTER``.

BEFORE and AFTER hold result folders of ``eigenseg extract`` under equal names, as two versions wrote them from the same
images with the same settings. Masks, boxes, label maps and saliency maps must be equal, scores within 1e-6; otherwise the
exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TOLERANCE = 1e-6  # of scores, which pass through float32


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare result folders of two versions.")
    parser.add_argument("before", type=Path, help="folder of result folders")
    parser.add_argument("after", type=Path, help="folder of result folders with the same names")
    options = parser.parse_args(arguments)
    before, after = (
        sorted(p.parent.relative_to(root) for p in root.rglob("instances.json")) for root in vars(options).values()
    )
    failures = [f"only in one of them: {name}" for name in set(before) ^ set(after)]
    images = 0
    for name in sorted(set(before) & set(after)):
        count, different = compare_folders(options.before / name, options.after / name)
        images += count
        failures += [f"{name}: {line}" for line in different]
    for line in failures:
        print(line)
    print(f"{len(set(before) & set(after))} folders, {images} images, {len(failures)} differences")
    return 1 if failures or not images else 0


def compare_folders(before: Path, after: Path) -> tuple[int, list[str]]:
    """Number of images, and a line for each difference."""
    one, two = (by_image(json.loads((folder / "instances.json").read_text())) for folder in (before, after))
    different = [f"{name} is in one of them" for name in one.keys() ^ two.keys()]
    for name in sorted(one.keys() & two.keys()):
        for key in ("segmentation", "bbox", "category_id"):
            if [entry[key] for entry in one[name]] != [entry[key] for entry in two[name]]:
                different.append(f"{name}: {key} differs")
        scores = [np.array([entry["score"] for entry in entries]) for entries in (one[name], two[name])]
        if scores[0].shape != scores[1].shape or not np.allclose(*scores, rtol=0, atol=TOLERANCE):
            different.append(f"{name}: scores differ")
    for kind in ("labels", "saliency"):
        maps = [sorted(path.relative_to(root / kind) for path in (root / kind).rglob("*.png")) for root in (before, after)]
        if maps[0] != maps[1]:
            different.append(f"{kind}: other files")
            continue
        for path in maps[0]:
            pixels = [np.asarray(Image.open(root / kind / path)) for root in (before, after)]
            if not np.array_equal(*pixels):
                different.append(f"{kind}/{path} differs")
    return len(one), different


def by_image(content: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Annotations by file name, in the file's order."""
    return {
        image["file_name"]: [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        for image in content["images"]
    }


if __name__ == "__main__":
    sys.exit(main())
