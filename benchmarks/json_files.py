"""CPU seconds to read and check a COCO file of about 100 MB, next to the standard library.

Usage: ``python -m benchmarks.json_files``
"""

from __future__ import annotations

import gc
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from eigenseg.data.json_files import check_shape, read_json
from eigenseg.data.json_shapes import COCO_FORM, CocoFile

ROUNDS = 3


def coco_content(images: int = 24_000, objects: int = 190_000, seed: int = 0) -> dict[str, Any]:
    """As many polygons, with as many corners, as a fifth of COCO's train2017."""
    draw = random.Random(seed)
    return {
        "images": [
            {"id": i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640, "license": 3} for i in range(images)
        ],
        "annotations": [
            {
                "segmentation": [[round(draw.uniform(0, 640), 2) for _ in range(2 * draw.choice([6, 12, 20, 40]))]],
                "area": round(draw.uniform(1, 9e4), 4),
                "iscrowd": 0,
                "image_id": draw.randrange(images),
                "bbox": [round(draw.uniform(0, 300), 2) for _ in range(4)],
                "category_id": 1 + number % 80,
                "id": number,
            }
            for number in range(objects)
        ],
        "categories": [{"id": i, "name": str(i)} for i in range(1, 81)],
    }


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    assert len(content) == len(pairs)
    return content


def paused(action: Callable[[], Any]) -> Any:
    gc.disable()
    try:
        return action()
    finally:
        gc.enable()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "instances.json")
        path.write_text(json.dumps(coco_content()))
        print(f"{path.stat().st_size / 1e6:.0f} MB, msgspec {msgspec.__version__}")
        contestants: dict[str, Callable[[], Any]] = {
            "json, duplicate keys": lambda: json.loads(path.read_bytes(), object_pairs_hook=unique),
            "msgspec": lambda: msgspec.json.decode(path.read_bytes()),
            "msgspec, collector paused": lambda: paused(lambda: msgspec.json.decode(path.read_bytes())),
            "read_json": lambda: read_json(path),
            "read_json, check_shape": lambda: check_shape(read_json(path), CocoFile, str(path), COCO_FORM),
        }
        for name, action in contestants.items():
            seconds = []
            for _ in range(ROUNDS):
                start = time.process_time()
                content = action()
                seconds.append(time.process_time() - start)
                del content
            print(f"{name:28} {min(seconds):.2f} s", flush=True)


if __name__ == "__main__":
    main()
