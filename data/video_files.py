"""Writing video files that every browser plays: H.264 in MP4. ``video_reader.py`` reads files of all kinds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, VideoReformatter
from av.video.stream import VideoStream

from eigenseg.data.files import replacing
from eigenseg.data.images import ImageArray
from eigenseg.data.video_reader import EXACT

# Level 5.2 of H.264, the highest that hardware decoders commonly know: frames of at most 36,864 blocks of 16 x 16 pixels,
# which is 4096 x 2304. They take no longer side than 4096 either.
MAX_SIDE = 4096
MAX_BLOCKS = 36864
_OPTIONS = {
    "crf": "20",  # contours stay sharp; two seconds in 480p take a megabyte
    "preset": "veryfast",  # 140 frames/s in 480p on two cores; "fast" reaches 65, and its files are no smaller
    # With both, x264 gives other bytes in every run.
    "x264-params": "bframes=0:mbtree=0",
    "threads": "4",  # the number is written into the file and decides about its bits
}
# No dates and versions in the file; and the index first, so that a browser plays before it has everything.
_CONTAINER = {"fflags": "+bitexact", "movflags": "+faststart"}


def write_video(path: Path, frames: Iterable[ImageArray], frame_rate: float) -> None:
    """Write a video atomically: H.264, yuv420p, MP4. Equal frames give equal bytes, on any number of cores.

    H.264 stores colors for 2 x 2 pixels: an odd height or width gets one more pixel that repeats the edge. Frames above
    4096 pixels a side or 36,864 blocks of 16 x 16 pixels (4096 x 2304) are scaled down to these limits.

    Args:
        path: ends in ``.mp4``.
        frames: (H, W, 3) uint8 RGB, all of one size; taken one by one.
        frame_rate: frames per second, above 0.

    Raises:
        OutputError: if the file cannot be written; no temporary file is left and an older file stays as it was.
        TypeError: if a frame is not (H, W, 3) uint8.
        ValueError: if there is no frame, frames differ in size, or the rate is not positive.
    """
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate must be a positive number of frames per second, got {frame_rate}")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError(f"frames is empty; {path.name} needs at least one frame")
    # With a denominator of 1001 the rates of television, such as 30000 / 1001, are exact.
    rate = max(Fraction(frame_rate).limit_denominator(1001), Fraction(1, 1001))
    with replacing(path) as temporary:
        try:
            with av.open(str(temporary.absolute()), "w", format="mp4", options=_CONTAINER) as container:
                stream = container.add_stream("libx264", rate=rate, options=_OPTIONS)
                _set_format(stream, first)
                for number, image in enumerate(itertools.chain([first], remaining)):
                    frame = _frame(image, first.shape, stream)
                    frame.pts, frame.time_base = number, 1 / rate
                    container.mux(stream.encode(frame))
                container.mux(stream.encode())
        except FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


def _set_format(stream: VideoStream, first: ImageArray) -> None:
    stream.height, stream.width = _encoded_size(*first.shape[:2])
    stream.pix_fmt = "yuv420p"
    stream.thread_type = "FRAME"  # threads for slices of a frame, PyAV's default, give other bytes in every run
    # BT.709 is what browsers assume for large frames; stated, because they assume something else for small ones.
    context = stream.codec_context
    context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
    context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709


def _encoded_size(height: int, width: int) -> tuple[int, int]:
    """Even (H, W) within the limits."""
    scale = min(1.0, MAX_SIDE / max(height, width))
    even = _even(height * scale), _even(width * scale)
    while math.ceil(even[0] / 16) * math.ceil(even[1] / 16) > MAX_BLOCKS:
        scale *= 0.995  # in steps of half a percent, since blocks are counted in integers
        even = _even(height * scale), _even(width * scale)
    return even


def _even(length: float) -> int:
    return max(2, 2 * math.ceil(round(length, 6) / 2))


def _frame(image: ImageArray, shape: tuple[int, ...], stream: VideoStream) -> VideoFrame:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f"frames must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if image.shape != shape:
        raise ValueError(f"frames must have one size: the first has {shape[:2]}, another one {image.shape[:2]} pixels")
    height, width = image.shape[:2]
    if max(height, width) > MAX_SIDE or max(stream.height - height, stream.width - width) < 0:
        image = cv2.resize(image, (stream.width, stream.height), interpolation=cv2.INTER_AREA)
    else:
        padding = ((0, stream.height - height), (0, stream.width - width), (0, 0))
        image = np.pad(image, padding, mode="edge")
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return VideoReformatter().reformat(
        frame,
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        interpolation=EXACT,
        threads=1,
    )
