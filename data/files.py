"""Files that are either whole or not there: write beside the target, then rename."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

# Nothing written after one of these would arrive either, so a run stops instead of failing image by image.
_HOPELESS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no permission to write",
    errno.EPERM: "there is no permission to write",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}


class OutputError(OSError):
    """Results cannot be written; the message says where, why and what to do. Whatever was there before is untouched."""

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
    """Hold a folder for this process; a second one is refused. The hold ends with the process, however it ends.

    Raises:
        OutputError: if another process holds it.
    """
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                error.errno, f"another run is writing to {folder}; wait for it, or choose another output.dir"
            ) from None
        except OSError as error:  # some network file systems have no locks, and are used by one run at a time all the same
            logger.warning("%s cannot be locked (%s): do not start a second run into it", folder, error.strerror)
        yield
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, creating its folder.

    Raises:
        OutputError: if it cannot be written; no temporary file is left and an older file stays as it was.
        ValueError: if the name alone is the reason.
    """
    make_folder(path.parent)
    temporary = None
    try:
        # In the same folder, because a rename across file systems is not atomic.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".eigenseg-", suffix=".tmp")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            # Otherwise a power cut could leave an empty file under the new name.
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files for the owner alone; results are for everybody the folder is for.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ValueError(f"cannot write {path.name}: the name is too long for this file system") from None
        raise output_error(path, error) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: Path, content: Any) -> None:
    """Write json atomically, one top-level entry a line so that it can be read and compared."""
    write_bytes(path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def write_image(path: Path, pixels: NDArray[Any], quality: int = 92) -> None:
    """Write a picture atomically; the suffix decides the format.

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
        raise ValueError(f"{path.name}: a picture of shape {pixels.shape} cannot be encoded as {path.suffix}")
    write_bytes(path, encoded.tobytes())


def output_error(path: Path, error: OSError) -> OutputError:
    """Say in one sentence why a path cannot be written."""
    why = _HOPELESS.get(error.errno or 0, error.strerror or str(error))
    return OutputError(
        error.errno, f"cannot write {path}: {why}; choose another output.dir, or mend it and run the same command again"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
