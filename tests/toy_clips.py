"""Short clips of a bright disc that moves over a dark texture, in folders of frames and in video files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eigenseg.data.video_files import write_video

SIZE = (72, 96)
RADIUS = 18
BROKEN = b"\x89PNG\r\n\x1a\n and nothing more"


def disc_frame(t: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Frame ``t`` of a clip, (72, 96, 3), and the mask of the disc."""
    rows, columns = np.indices(SIZE)
    disc = (rows - 34 - 2 * (seed % 2)) ** 2 + (columns - 30 - 4 * t) ** 2 < RADIUS**2
    noise = np.random.default_rng((seed, t)).integers(0, 30, (*SIZE, 3))
    image = np.where(disc[..., None], (215, 190, 170), (20, 60 + 10 * (seed % 3), 110)) + noise
    return image.astype(np.uint8), disc


def disc_frames(length: int, seed: int = 0) -> NDArray[np.uint8]:
    """All frames of a clip: (T, 72, 96, 3)."""
    return np.stack([disc_frame(t, seed)[0] for t in range(length)])


def write_frames(folder: Path, length: int, seed: int = 0, broken: tuple[int, ...] = ()) -> Path:
    """A folder of frames 00000.png and so on; the broken ones cannot be decoded."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(disc_frames(length, seed)):
        path = folder / f"{t:05d}.png"
        if t in broken:
            path.write_bytes(BROKEN)
        else:
            Image.fromarray(frame).save(path)
    return folder


def write_movie(path: Path, length: int, seed: int = 0) -> Path:
    """The frames as a video file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, disc_frames(length, seed), 25.0)
    return path
