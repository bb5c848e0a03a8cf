"""Writing files completely or not at all: to a temporary file in the same folder, then a rename."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# After one of these every further write would fail too, so a run stops instead of failing image by image.
_HOPELESS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EPERM: "there is no permission to write",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}

# Hidden, so that it is neither an input image nor a result.
LOCK_FILE = ".eigenseg.lock"
_TEMPORARY = (".eigenseg-", ".tmp")


class OutputError(OSError):
    """Results cannot be written; the message says where, why and what to do. Existing files are unchanged."""

    def __str__(self) -> str:
        return str(self.args[-1])  # without the "[Errno 28]" in front


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        OutputError: if that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise OutputError(f"cannot create folder {folder}: a file of that name is in the way") from None
    except OSError as error:
        raise output_error(folder, error) from error


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; a second process is rejected. The lock ends with the process, even if it crashes.

    On Unix the empty file ``.eigenseg.lock`` stays in the folder: if it were removed, two processes could lock two
    different files.

    Raises:
        OutputError: if another process holds the lock.
    """
    make_folder(folder)
    # No soft lock as a fallback: its file outlives a crashed process, and would reject every later run from another host.
    lock = FileLock(folder / LOCK_FILE, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(
            errno.EAGAIN, f"another run is writing to {folder}; wait for it, or choose another output.dir"
        ) from None
    except OSError as error:  # some network file systems have no locks, and are used by one run at a time all the same
        logger.warning("%s cannot be locked (%s): do not start a second run into it", folder, error.strerror)
    try:
        yield
    finally:
        lock.release()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, creating its folder.

    Raises:
        OutputError: if it cannot be written; no temporary file is left and an older file stays as it was.
        ValueError: if the name is too long.
    """
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, which takes the place of ``path`` when the block ends, unless by an exception.

    Raises:
        OutputError: for every OSError; no temporary file is left and an older file stays as it was.
        ValueError: if the name is too long.
    """
    make_folder(path.parent)
    temporary = None
    try:
        # In the same folder, because a rename between file systems is not atomic.
        temporary = path.parent / f"{_TEMPORARY[0]}{secrets.token_hex(8)}{_TEMPORARY[1]}"
        # As open() would create it: the system applies the umask, which a process cannot read without changing it.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        # Without a sync, a power failure could leave an empty file under the new name.
        with open(temporary, "r+b") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"cannot write {path.name}: the name is too long for this file system") from None
        raise output_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that ``replacing`` gave and a killed process left."""
    return name.startswith(_TEMPORARY[0]) and name.endswith(_TEMPORARY[1])


def write_json(path: Path, content: Any) -> None:
    """Write json atomically, indented, so that it can be read and compared line by line."""
    write_bytes(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def write_image(path: Path, pixels: NDArray[Any], quality: int = 92) -> None:
    """Write an image atomically; the suffix decides the format.

    Args:
        path: ends in ``.png`` or ``.jpg``.
        pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16 gray.
        quality: of a JPEG, 0 to 100.
    """
    ordered = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    try:
        done, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(ordered), options)
    except cv2.error:
        done = False
    if not done:
        raise ValueError(f"{path.name}: an image of shape {pixels.shape} cannot be encoded as {path.suffix}")
    write_bytes(path, encoded.tobytes())


def output_error(path: Path, error: OSError) -> OutputError:
    """Say in one sentence why a path cannot be written."""
    why = _HOPELESS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(
        error.errno, f"cannot write {path}: {why}; choose another output.dir, or fix it and run the same command again"
    )
