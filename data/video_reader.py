"""Reading video files: every frame once, exactly and in order of time, whatever the container says.

How frames are counted
    Where each packet holds one frame (``_ONE_FRAME``, nearly all files) packets are counted, which decodes nothing. Their
    sorted times number the frames, so that a frame that cannot be decoded leaves a gap and later ones keep their index.
    Other files are decoded once when they are opened, and their frames numbered in the order in which they come. The
    number that the container states is only compared.
How frames are found
    A file is decoded from its beginning, because a seek may land beside its target; to go back it is opened again. Frames
    that were decoded on the way are kept in a cache of bounded size.
How damage is found
    Decoding runs on several threads, which lose frames next to a damaged one. At the first irregularity the file is opened
    again and decoded on one thread, which loses only what is damaged.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from eigenseg.data.images import ImageArray

# 20 frames of 4K video (12 MB each as they are decoded), 80 of full HD: threads that read ahead of each other and windows
# that overlap find theirs, and a clip in work stays small beside its features.
CACHE_BYTES = 256 * 2**20
_ONE_FRAME = {
    "mov": {"h264", "hevc", "av1", "vp9", "mjpeg", "prores", "png"},
    "matroska": {"h264", "hevc", "av1", "vp9", "mjpeg", "prores", "ffv1"},
}
# FFmpeg opens these too, but they are images, text or lists of other files.
_NO_VIDEO = {"image2", "tty", "hls", "concat", "dash"}
# Colors rounded to the nearest level, equal on every processor: FFmpeg's default is off by up to 3 levels and too dark by 1
# on average. Takes 7 ms for a frame in full HD instead of 1.
EXACT = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_END = object()


class VideoReader:
    """The frames of a video file by index; may be used from several threads. Pixels are as stored, square or not.

    Args:
        path: the file.

    Attributes:
        frame_rate: frames per second on average; None for a single frame in a file that does not state it.
        truncated: what is missing at the end, in one sentence; None if nothing is.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a video or holds no frame.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, VideoFrame] = OrderedDict()
        self._cached_bytes = 0
        self._damaged: set[int] = set()
        self._one_thread = False
        self._next = 0  # index of the frame that is decoded next
        packets = _read_packets(path)
        self._index = {time: i for i, time in enumerate(packets.times)} if packets.one_frame else None
        self._length = len(packets.times) if packets.one_frame else self._count()
        if not self._length:
            raise ValueError(f"{path} holds no frame that can be decoded")
        self.truncated = packets.truncation(path, self._length)
        self.frame_rate = packets.rate(self._length)
        self._frames = _decode(path, self._one_thread)

    def __len__(self) -> int:
        return self._length

    def read(self, index: int) -> ImageArray:
        """Decode one frame, turned upright by the file's rotation.

        Args:
            index: 0 to the number of frames - 1.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            IndexError: if there is no such frame.
            ValueError: if it is damaged.
            FileNotFoundError: if the file is gone by now.
        """
        if not 0 <= index < self._length:
            raise IndexError(f"{self.path} has {self._length} frames, got index {index}")
        with self._lock:
            frame = self._find(index)
        # Each call has a converter of its own, so that threads convert at the same time.
        rgb = VideoReformatter().reformat(frame, format="rgb24", interpolation=EXACT, threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))

    def _find(self, index: int) -> VideoFrame:
        while index not in self._cache:
            if index in self._damaged:
                # The decoder does not say which frames it predicted from a damaged one.
                raise ValueError("its data is damaged (frames after it, up to the next keyframe, may show traces of that)")
            if index < self._next:
                self._restart()
            self._advance()
        self._cache.move_to_end(index)
        return self._cache[index]

    def _restart(self) -> None:
        self._frames.close()
        self._frames, self._next = _decode(self.path, self._one_thread), 0

    def _advance(self) -> None:
        """Decode one more frame, or learn that some are damaged."""
        frame = next(self._frames, _END)
        position = self._length if frame is _END else self._position(frame)
        skipped = range(self._next, position)
        if (frame is None or skipped) and not self._one_thread:
            self._one_thread = True
            self._restart()
        elif position >= self._next:
            self._damaged.update(skipped)
            self._next = position + 1
            if isinstance(frame, VideoFrame):
                self._keep(position, frame)

    def _position(self, frame: object) -> int:
        # A frame that comes too late, or belongs to no packet, is dropped: every pass must give the same.
        if not isinstance(frame, VideoFrame):
            return -1
        return self._next if self._index is None else self._index.get(frame.pts or 0, -1)

    def _keep(self, index: int, frame: VideoFrame) -> None:
        if frame.is_corrupt:
            self._damaged.add(index)
        elif index not in self._cache:
            self._cache[index] = frame
            self._cached_bytes += _size(frame)
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= _size(self._cache.popitem(last=False)[1])

    def _count(self) -> int:
        found = [frame is not None for frame in _decode(self.path, one_thread=False)]
        if not all(found):
            self._one_thread = True
            found = [frame is not None for frame in _decode(self.path, one_thread=True)]
        return sum(found)


@dataclass(frozen=True)
class _Packets:
    """What packets and header of a file say; times in ticks of ``tick`` seconds."""

    times: list[int]  # of the frames, ascending
    tick: Fraction
    one_frame: bool  # whether each packet is one frame
    count: int
    end: float  # seconds
    stated_count: int  # 0 if it is not stated
    stated_end: float
    stated_rate: Fraction | None

    def rate(self, frames: int) -> float | None:
        """Frames per second: as stated, unless the times of the frames contradict it."""
        span = float((self.times[-1] - self.times[0]) * self.tick) if self.times else 0.0
        stated = float(self.stated_rate or 0)
        # The times are rounded, in .mkv to milliseconds, so that the stated rate is more exact.
        if stated and (not span or abs((frames - 1) / stated - span) < 0.5 / stated):
            return stated
        return (frames - 1) / span if span else stated or None

    def truncation(self, path: Path, frames: int) -> str | None:
        """What the file lacks of what its header says."""
        if self.count < self.stated_count:
            return f"{path} is truncated: it should hold {self.stated_count} frames, {frames} are left"
        # Sound and images of a complete file do not end at the same time either, but nearly.
        if self.end < self.stated_end - 0.5:
            return f"{path} is truncated: it should last {self.stated_end:.1f} s, {self.end:.1f} s are left"
        return None


def _read_packets(path: Path) -> _Packets:
    with _open(path) as container:
        stream = _stream(container, path)
        times: list[int | None] = []
        count, end = 0, 0.0
        for packet in _demux(container):
            if packet.is_corrupt or (not packet.size and packet.pts is None):  # cut off, or the mark of the end
                continue
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index == stream.index:
                count += 1
                if packet.size and not packet.is_discard:
                    times.append(packet.pts)
        known = {time for time in times if time is not None}
        codecs = [codecs for name, codecs in _ONE_FRAME.items() if name in container.format.name.split(",")]
        return _Packets(
            times=sorted(known),
            tick=stream.time_base or Fraction(1),
            one_frame=bool(codecs) and stream.codec_context.name in codecs[0] and len(known) == len(times),
            count=count,
            end=end,
            stated_count=stream.frames,
            stated_end=((container.start_time or 0) + (container.duration or 0)) / av.time_base,
            stated_rate=stream.average_rate,
        )


def _decode(path: Path, one_thread: bool) -> Generator[VideoFrame | None, None, None]:
    """Frames in order of time, None where something cannot be decoded; the file is closed with the generator."""
    with _open(path) as container:
        stream = _stream(container, path)
        # Threads for slices would not report all damage; more than 4 for a file would only take them from other clips.
        stream.thread_type, stream.thread_count = "FRAME", 1 if one_thread else 4
        packets = (packet for packet in _demux(container) if packet.stream.index == stream.index)
        whole = (packet for packet in packets if packet.size and not packet.is_corrupt)
        for packet in itertools.chain(whole, [None]):  # None: what the decoder holds back
            try:
                yield from stream.codec_context.decode(packet)
            except FFmpegError:
                yield None


def _demux(container: InputContainer) -> Iterator[Packet[Any]]:
    try:
        yield from container.demux()
    except FFmpegError:  # the rest is missing
        return


def _open(path: Path) -> InputContainer:
    if not path.is_file():
        raise FileNotFoundError(f"no such video: {path}")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty (0 bytes)")
    try:
        # An absolute path, since FFmpeg takes the start of a:b for a protocol. Only files, since a list of segments under
        # the name of a video could lead into the network.
        container = av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a video that can be read: {getattr(error, 'strerror', error)}") from None
    names = container.format.name.split(",")
    if any(name in _NO_VIDEO or name.endswith("_pipe") for name in names):
        container.close()
        raise ValueError(f"{path} is not a video; its format is {names[0]}")
    return container


def _stream(container: InputContainer, path: Path) -> VideoStream:
    # Cover images are video streams too.
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise ValueError(f"{path} holds no video, only {kinds}")
    return streams[0]


def _size(frame: VideoFrame) -> int:
    return sum(plane.buffer_size for plane in frame.planes)
