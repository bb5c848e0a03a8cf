"""Damaged json for every reader: ``python tests/fuzz_json.py SEED COUNT FOLDER``, run by ``test_fuzzed_json.py``.

A process of its own, because an endless loop in compiled code can only be ended from outside of Python's threads.
"""

from __future__ import annotations

import contextlib
import copy
import faulthandler
import io
import json
import os
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from eigenseg.cli.main import main
from eigenseg.data import Instances, Tracks, encode_masks
from eigenseg.data.datasets import CocoInstances, YoutubeVis
from eigenseg.data.predictions.open import open_predictions
from eigenseg.data.results.folder import older_records
from eigenseg.data.results.records import Record
from eigenseg.data.results.store import ResultStore
from eigenseg.data.results.ytvis import read_ytvis, ytvis_dataset
from eigenseg.data.sources import ImageSource

LIMIT_S = 5
SIZE = (12, 16)
MASKS = np.zeros((2, *SIZE), bool)
MASKS[0, 2:8, 4:12] = MASKS[1, 9:, :3] = True
FIRST, SECOND = (dict(rle) for rle in encode_masks(MASKS))
JUNK: list[Any] = [
    None, True, 0, -1, 2**31, 2**63, 10**30, 1e308, -0.5, "", "x", "../../x", "\ud800", [], {}, [1], [[1, 2]], [None],
    {"size": [12, 16], "counts": [5]}, {"size": [12, 16], "counts": "0"}, {"$array": "O", "shape": [1], "values": [1]},
    {"$scalar": "V9999999999", "value": 1}, {"$geometry": [1]}, {"$absent": 3},
]  # fmt: skip


def annotations() -> dict[str, Any]:
    entry = {"image_id": 1, "category_id": 1, "bbox": [4, 2, 8, 6], "area": 48, "iscrowd": 0}
    polygon = [[4, 2, 12, 2, 12, 8, 4, 8]]
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 16, "height": 12}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [{**entry, "id": 1, "segmentation": FIRST}, {**entry, "id": 2, "segmentation": polygon}],
    }


def results() -> list[dict[str, Any]]:
    entry = {"image_id": 1, "category_id": 1, "bbox": [4, 2, 8, 6], "score": 0.5}
    return [{**entry, "segmentation": FIRST}, {**entry, "segmentation": {"size": [12, 16], "counts": [50, 20, 122]}}]


def boxes() -> dict[str, Any]:
    return {
        "a.png": {"boxes": [[0, 0, 3, 4]], "scores": [0.5], "labels": [0]},
        "b.png": [1, 2, 3, 4],
        "c.png": [[1, 2, 3, 4]],
    }


def videos() -> dict[str, Any]:
    tracks = Tracks(
        masks=((FIRST, None), (SECOND, FIRST)), scores=[0.5, 0.25], track_ids=[1, 2], frame_names=("0", "1"),
        image_size=SIZE, extras={"gap": [0.5, [1, 2]]}, metadata={"reason": "x", "sizes": {"a": [1]}},
    )  # fmt: skip
    return ytvis_dataset([("bear", tracks)])


def metrics() -> dict[str, Any]:
    return {
        "dataset": "toy", "protocol": "p", "tag": "t", "main": "AP", "metrics": {"AP": 0.5, "n": 3},
        "config": {"method": {"tau": 0.2}}, "choices": {"method": "tokencut"}, "notes": ["a"],
    }  # fmt: skip


def record() -> dict[str, Any]:
    extras = {"vector": np.arange(6.0).reshape(2, 3), "pair": [(1, float("inf")), None]}
    one = Instances(MASKS, [0.5, 0.25], np.zeros((2, 4)), SIZE, extras=extras, metadata={"saliency": np.zeros(SIZE)})
    read: dict[str, Any] = json.loads(Record.of("a.png", [1, 2], one).to_line())
    return read


def older() -> dict[str, Any]:
    return {"image": "a.png", "status": "done", "instances": 1, "milliseconds": 1.5, "size": [12, 16], "annotations": []}


def run_record() -> dict[str, Any]:
    return {"schema": 2, "identity": {"method": {"tau": 0.2}}, "writers": {"labels": {"a": 1}}, "parts": {}, "times": {}}


def dataset(folder: Path) -> CocoInstances:
    (folder / "good.json").write_text(json.dumps(annotations()))
    return CocoInstances(folder, annotations=(folder / "good.json").absolute())


def read_annotations(path: Path) -> None:
    read = CocoInstances(path.parent, annotations=path.absolute())
    for i in range(len(read.items)):
        read.images(i)
        np.asarray(read.annotation(i).masks)


def read_video_annotations(path: Path) -> None:
    read = YoutubeVis(path.parent, annotations=path.absolute())
    for i in range(len(read.items)):
        read.annotation(i)


def read_predictions(path: Path) -> None:
    known = dataset(path.parent)
    read = open_predictions(path, known, "empty")
    read.unmatched(known.items)
    for name in ("a.png", "b.png", "c.png"):
        np.asarray(read.read(name, known.annotation(0)).masks)


def read_tracks(path: Path) -> None:
    for tracks in read_ytvis(path).values():
        list(tracks.label_maps())


def command(*arguments: str) -> None:
    """A command that fails says so as the command line does."""
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    if code == 2:
        raise ValueError(err.getvalue().rstrip("\n"))
    assert code == 0, (code, err.getvalue())


def export(path: Path) -> None:
    command("export", str(path), str(path.parent / "labels" / "labels.json"))


def collect(path: Path) -> None:
    (path.parent / "run").mkdir(exist_ok=True)
    os.replace(path, path.parent / "run" / "metrics.json")
    command("collect", str(path.parent / "run"))


def read_records(path: Path) -> None:
    folder = path.parent / "records"
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(run_record()))
    os.replace(path, folder / "manifest.jsonl")
    known = dataset(path.parent)
    open_predictions(folder, known, "empty").read("a.png", known.annotation(0))
    ResultStore(folder, run_record()["identity"], resume=True).finish([ImageSource(folder / "a.png", "a.png")])


def read_older(path: Path) -> None:
    os.replace(path, path.parent / "manifest.jsonl")
    older_records(path.parent)


def read_run_json(path: Path) -> None:
    (path.parent / "manifest.jsonl").write_text(json.dumps(record()) + "\n")
    os.replace(path, path.parent / "run.json")
    ResultStore(path.parent, run_record()["identity"], resume=True).update_run(times={"a": 1})


READERS: list[tuple[Callable[[], Any], Callable[[Path], None]]] = [
    (annotations, read_annotations),
    (videos, read_video_annotations),
    (results, read_predictions),
    (annotations, read_predictions),
    (boxes, read_predictions),
    (videos, read_tracks),
    (annotations, export),
    (videos, export),
    (metrics, collect),
    (record, read_records),
    (older, read_older),
    (run_record, read_run_json),
]


def places(content: Any) -> list[tuple[Any, Any]]:
    """All (container, key) pairs."""
    found = []
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        found.append((content, key))
        if isinstance(value, (dict, list)):
            found += places(value)
    return found


def damaged(content: Any, draw: random.Random) -> bytes:
    """The text of a file in which one or two things are wrong."""
    content = copy.deepcopy(content)  # entries share masks
    for _ in range(draw.choice([0, 1, 1, 2])):
        container, key = draw.choice(places(content) or [([0], 0)])
        match draw.randrange(4):
            case 0:
                del container[key]
            case 1:
                old = container[key]
                container[key] = draw.choice([str(old), [old], {"a": old}, float(len(str(old)))])
            case _:
                container[key] = copy.deepcopy(draw.choice(JUNK))
    text = json.dumps(content)
    at = draw.randrange(len(text))
    match draw.randrange(15):
        case 0:
            text = text[:at]
        case 1:
            text = text[:at] + draw.choice(["NaN", "1e999", "\x00", '"', "}", "\\", "é"]) + text[at + 1 :]
        case 2:
            text = text.replace(": 1", draw.choice([": NaN", ": -Infinity", ": 1e999", ": 1.0", ': "1"', ": true"]), 1)
        case 3:
            deep = draw.choice([90, 200, 100_000])
            text = text.replace(": 1", ": " + draw.choice(["[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep]), 1)
        case 4:
            text = text.replace('": ', '": 1, "a": 2, "a": ', 1)
    data = bytearray(text.encode("utf-8", "surrogatepass") + b"\n")
    if draw.randrange(12) == 0:
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def check(seed: int, folder: Path) -> str:
    """Damage one file and read it; returns ``read`` or ``refused``."""
    draw = random.Random(seed)
    create, read = READERS[seed % len(READERS)]
    folder.mkdir(parents=True)
    path = folder / "file.json"
    path.write_bytes(damaged(create(), draw))
    try:
        read(path)
    except (ValueError, OSError) as error:
        message = str(error)
    else:
        return "read"
    assert len(message.splitlines()) == 1, message
    assert len(message) < 1000, message
    assert str(folder) in message, message
    return "refused"


if __name__ == "__main__":
    first, count, root = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    outcomes = {"read": 0, "refused": 0}
    failures = 0
    for seed in range(first, first + count):
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        try:
            outcomes[check(seed, root / str(seed))] += 1
        except Exception:
            failures += 1
            print(f"seed {seed}, {READERS[seed % len(READERS)][1].__name__}:", traceback.format_exc(), file=sys.stderr)
        faulthandler.cancel_dump_traceback_later()
    print(json.dumps(outcomes))
    sys.exit(failures > 0)
