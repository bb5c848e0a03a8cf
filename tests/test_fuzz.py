"""Mutated files: each is read, or refused in one sentence that names it; none crashes the process or hangs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from eigenseg.discovery.backbones.weights import load_vit

SECONDS = 5  # the longest that a file may take; these take milliseconds
# Reads every file of a folder in a process of its own, which ends with a traceback where one takes too long.
READ_ALL = """
import faulthandler, json, logging, sys, warnings
from pathlib import Path
from eigenseg.data import read_image
from eigenseg.discovery.backbones.weights import load_vit

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
folder, seconds, kind, options = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
read = read_image if kind == "image" else lambda path: load_vit("vit_small_patch16_224.dino", path, model_args=options)
counts = {"read": 0, "refused": 0}
for path in sorted(folder.iterdir()):
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        read(path)
        counts["read"] += 1
    except ValueError as error:
        text = str(error)
        assert str(path) in text and "\\n" not in text and len(text) < 600, f"{path.name}: {text!r}"
        counts["refused"] += 1
    except BaseException as error:
        raise SystemExit(f"{path.name}: {type(error).__name__}: {error}")
faulthandler.cancel_dump_traceback_later()
print(json.dumps(counts))
"""


def read_all(folder: Path, kind: str, options: dict[str, Any] | None = None) -> dict[str, int]:
    arguments = [str(folder), str(SECONDS), kind, json.dumps(options or {})]
    done = subprocess.run([sys.executable, "-c", READ_ALL, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def mutations(content: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """One mutation after another: bytes replaced, in the header above all, removed, repeated, cut off or added."""
    while True:
        changed = bytearray(content)
        for _ in range(int(rng.integers(1, 6))):
            reach = len(changed) if rng.random() < 0.5 else min(len(changed), 64)
            at, length = int(rng.integers(reach)), int(rng.integers(1, 9))
            match int(rng.integers(6)):
                case 0:
                    changed[at] ^= 1 << int(rng.integers(8))
                case 1:
                    changed[at : at + length] = rng.bytes(length)
                case 2:
                    changed[at : at + length] = bytes([0xFF if rng.random() < 0.5 else 0]) * length
                case 3:
                    del changed[at : at + length]
                case 4:
                    changed[at:at] = changed[at : at + length] * int(rng.integers(1, 4))
                case 5:
                    del changed[max(1, int(rng.integers(len(changed)))) :]
        yield bytes(changed)


def pillow(format_: str, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, format_, **options)
    return stream.getvalue()


def sixteen_bits(suffix: str, channels: int) -> bytes:
    values = np.random.default_rng(2).integers(0, 65536, (24, 32, channels), dtype=np.uint16)
    return cv2.imencode(suffix, values)[1].tobytes()


IMAGES: dict[str, Callable[[], bytes]] = {
    "png": lambda: pillow("PNG"),
    "palette.png": lambda: pillow("PNG", "P"),
    "alpha.png": lambda: pillow("PNG", "RGBA"),
    "deep.png": lambda: sixteen_bits(".png", 1),
    "deepcolor.png": lambda: sixteen_bits(".png", 3),
    "jpg": lambda: pillow("JPEG"),
    "progressive.jpg": lambda: pillow("JPEG", progressive=True),
    "cmyk.jpg": lambda: pillow("JPEG", "CMYK"),
    "gif": lambda: pillow("GIF"),
    "bmp": lambda: pillow("BMP"),
    "tif": lambda: pillow("TIFF"),
    "lzw.tif": lambda: pillow("TIFF", compression="tiff_lzw"),
    "deep.tif": lambda: sixteen_bits(".tif", 1),
    "webp": lambda: pillow("WEBP"),
    "ppm": lambda: pillow("PPM"),
    "jp2": lambda: pillow("JPEG2000"),
}


@pytest.mark.slow
def test_a_thousand_mutated_images_are_read_or_refused_by_name(tmp_path: Path) -> None:
    rng, made = (
        np.random.default_rng(0),
        [(name, mutations(make(), np.random.default_rng(3))) for name, make in IMAGES.items()],
    )
    for number in range(1000):
        name, mutated = made[int(rng.integers(len(made)))]
        (tmp_path / f"{number:04d}.{name}").write_bytes(next(mutated))
    counts = read_all(tmp_path, "image")
    assert counts["read"] + counts["refused"] == 1000
    assert min(counts.values()) > 100  # otherwise the mutations are too mild or too wild to find anything


TINY = {"embed_dim": 48, "depth": 1, "num_heads": 3}
ODD: list[Callable[[torch.Tensor], Any]] = [
    lambda value: value.to(torch.int64),
    lambda value: value > 0,
    lambda value: value.to(torch.complex64),
    lambda value: value.to(torch.float8_e4m3fn),
    lambda value: value.to_sparse(),
    lambda value: value.to("meta"),
    lambda value: value.flatten()[:1].expand(2**40),
    lambda value: value.flatten()[:0],
    lambda value: value.reshape(()) if value.numel() == 1 else value[None],
    lambda value: value * torch.nan,
    lambda value: value.tolist(),
    lambda value: None,
    lambda value: {"model": value},
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_hundred_mutated_weights_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    state = load_vit("vit_small_patch16_224.dino", "random", model_args=TINY)[0].state_dict()
    stream = io.BytesIO()
    torch.save({"teacher": state, "epoch": 3}, stream)
    as_pth, as_safetensors = mutations(stream.getvalue(), rng), mutations(save(state), rng)
    for number in range(100):
        if number % 3 == 2:
            odd: dict[Any, Any] = dict(state)
            for name in rng.choice(list(state), 2, replace=False):
                odd[str(name)] = ODD[int(rng.integers(len(ODD)))](state[str(name)])
            if rng.random() < 0.2:
                odd[int(rng.integers(9))] = torch.zeros(2)
            if rng.random() < 0.2:
                odd["model"] = odd
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.save(odd, tmp_path / f"{number:03d}.pth")
        elif number % 3:
            (tmp_path / f"{number:03d}.safetensors").write_bytes(next(as_safetensors))
        else:
            (tmp_path / f"{number:03d}.pth").write_bytes(next(as_pth))
    counts = read_all(tmp_path, "weights", TINY)
    assert counts["read"] + counts["refused"] == 100
    assert counts["refused"] > 50
