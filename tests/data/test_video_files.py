"""Every frame of a video file is read once, right and at its index, and what is written can be played anywhere."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from eigenseg.data import video_files, video_reader as module
from eigenseg.data.clips import open_clip
from eigenseg.data.files import OutputError
from eigenseg.data.video_files import write_video
from eigenseg.data.video_reader import VideoReader

Frames = list[NDArray[np.uint8]]


def moving(count: int, height: int = 48, width: int = 64) -> Frames:
    """Smooth images, each far from all others: the background's brightness and a bright square say which one it is."""
    frames = []
    for i in range(count):
        frame = np.full((height, width, 3), (40 + 150 * i // count, 90, 160), dtype=np.uint8)
        x = 4 + (i * 7) % (width - 20)
        frame[10:26, x : x + 16] = (250, 240 - 200 * i // count, 20)
        frames.append(frame)
    return frames


def encode(
    path: Path,
    frames: Frames,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Iterable[int] | None = None,
    rotation: int = 0,
    **options: str,
) -> Path:
    """Write a video at 25 frames/s, or with frames at these times in 1/1000 s."""
    faststart = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=faststart) as container:
        stream = container.add_stream(codec, rate=25 if times is None else 1000, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        if rotation:
            stream.set_display_rotation(rotation)
        for i, (image, time) in enumerate(zip(frames, times or itertools.repeat(None), strict=False)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (i, Fraction(1, 25)) if time is None else (time, Fraction(1, 1000))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def lossless(path: Path, frames: Frames) -> Path:
    """Every frame by itself, with check sums."""
    return encode(path, frames, "ffv1", "bgr0", level="3", slicecrc="1", g="1")


def damage(path: Path, number: int, how: Callable[[bytes], bytes]) -> None:
    """Replace the data of one packet."""
    with av.open(str(path)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][number]
    content = path.read_bytes()
    assert content.count(packet) == 1
    assert len(how(packet)) == len(packet)
    path.write_bytes(content.replace(packet, how(packet)))


def zeros(packet: bytes) -> bytes:
    return bytes(len(packet))


def flipped(packet: bytes) -> bytes:
    middle = len(packet) // 2
    return packet[:middle] + bytes(byte ^ 255 for byte in packet[middle:])


def by_opencv(path: Path) -> Frames:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (result := capture.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def check_close(one: NDArray[np.uint8], other: NDArray[np.uint8], levels: float) -> None:
    assert one.shape == other.shape
    assert np.abs(one.astype(int) - other).mean() < levels


FORMATS = [
    ("clip.mp4", "libx264", {"bf": "3", "g": "12"}),
    ("clip.mkv", "libx264", {"bf": "3"}),
    ("clip.mov", "mpeg4", {"bf": "2"}),
    ("clip.avi", "mpeg4", {"bf": "2"}),
    ("b.avi", "libx264", {"bf": "3"}),
    ("clip.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("vp9.webm", "libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}),
    ("clip.mpg", "mpeg2video", {"bf": "2"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS)
def test_all_formats_give_every_frame_once_and_in_order(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    frames = moving(40)
    path = encode(tmp_path / name, frames, codec, b="2M", **options)
    video = VideoReader(path)
    assert len(video) == 40 == len(by_opencv(path))
    assert video.frame_rate == 25
    for i, (sent, reference) in enumerate(zip(frames, by_opencv(path), strict=True)):
        check_close(video.read(i), sent, 6)
        check_close(video.read(i), reference, 3)


@pytest.mark.parametrize("count", [1, 2])
def test_a_video_of_one_or_two_frames_is_a_video(count: int, tmp_path: Path) -> None:
    frames = moving(count)
    video = VideoReader(lossless(tmp_path / "a.mkv", frames))
    assert len(video) == count
    assert all((video.read(i) == frame).all() for i, frame in enumerate(frames))
    for index in (-1, count):
        with pytest.raises(IndexError, match=f"has {count} frames, got index {index}"):
            video.read(index)


def test_random_access_equals_the_encoded_frames_in_every_order(tmp_path: Path) -> None:
    frames = moving(30)
    path = lossless(tmp_path / "a.mkv", frames)
    for order in itertools.permutations((0, 3, 11, 12, 29)):
        video = VideoReader(path)
        for index in order:
            np.testing.assert_array_equal(video.read(index), frames[index])


def test_with_a_cache_of_one_frame_random_access_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 1)
    frames = moving(20)
    video = VideoReader(lossless(tmp_path / "a.mkv", frames))
    for index in (19, 0, 0, 7, 6, 5, 19, 18, 1):
        np.testing.assert_array_equal(video.read(index), frames[index])


def test_eight_threads_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving(60)
    monkeypatch.setattr(module, "CACHE_BYTES", 5 * frames[0].nbytes)  # so that some come too late and go back
    video = VideoReader(lossless(tmp_path / "a.mkv", frames))
    with ThreadPoolExecutor(8) as threads:
        for i, image in enumerate(threads.map(video.read, range(60))):
            np.testing.assert_array_equal(image, frames[i])


def test_uneven_times_give_every_frame_once_and_the_average_rate(tmp_path: Path) -> None:
    frames, times = moving(8), [0, 10, 500, 520, 530, 1900, 1901, 4000]
    for name in ("a.mp4", "a.mkv"):
        path = encode(tmp_path / name, frames, times=times, crf="1")
        video = VideoReader(path)
        assert len(video) == 8
        assert video.frame_rate == pytest.approx(7 / 4)
        for i, frame in enumerate(frames):
            check_close(video.read(i), frame, 6)


def test_colors_follow_the_matrix_that_the_file_states(tmp_path: Path) -> None:
    y, u, v = 120, 90, 170
    for space, (red, blue) in ((Colorspace.ITU709, (0.2126, 0.0722)), (Colorspace.SMPTE170M, (0.299, 0.114))):
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
            stream.codec_context.colorspace, stream.codec_context.color_range = space, ColorRange.MPEG
            planes = np.concatenate([np.full(256, y), np.full(64, u), np.full(64, v)]).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(planes.reshape(24, 16), format="yuv420p")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        luma, pb, pr = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
        r, b = luma + 2 * (1 - red) * pr, luma + 2 * (1 - blue) * pb
        g = (luma - red * r - blue * b) / (1 - red - blue)
        expected = np.round(255 * np.array([r, g, b]))
        assert np.abs(VideoReader(tmp_path / "a.mkv").read(0) - expected).max() <= 1


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_frames_are_turned_upright(rotation: int, tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", moving(3), rotation=rotation, crf="1")
    for i, reference in enumerate(by_opencv(path)):
        check_close(VideoReader(path).read(i), reference, 3)


def test_a_damaged_frame_is_named_and_all_others_stay_as_they_are(tmp_path: Path) -> None:
    frames = moving(30)
    path = lossless(tmp_path / "a.mkv", frames)
    damage(path, 12, flipped)
    for order in (range(30), range(29, -1, -1), (20, 12, 5, 13, 12)):
        video = VideoReader(path)
        assert len(video) == 30
        for index in order:
            if index == 12:
                with pytest.raises(ValueError, match="damaged"):
                    video.read(index)
            else:
                np.testing.assert_array_equal(video.read(index), frames[index])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")])
def test_after_a_lost_packet_later_frames_keep_their_index(name: str, codec: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, moving(40), codec, b="2M", g="10", bf="0", keyint_min="10")
    intact = [VideoReader(path).read(i) for i in range(40)]
    damage(path, 13, zeros)
    video = VideoReader(path)
    assert len(video) == 40
    with pytest.raises(ValueError, match="damaged"):
        video.read(13)
    for index in (*range(13), *range(20, 40)):  # from the next key frame on nothing depends on the damage
        np.testing.assert_array_equal(video.read(index), intact[index])


@pytest.mark.parametrize("cores", [1, 9])
@pytest.mark.parametrize(("name", "codec", "how"), [("a.webm", "libvpx-vp9", zeros), ("a.mp4", "libx264", flipped)])
def test_which_frames_are_damaged_does_not_depend_on_the_number_of_cores(
    name: str, codec: str, how: Callable[[bytes], bytes], cores: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    frames = [(frame // 2 + rng.integers(0, 90, frame.shape)).astype(np.uint8) for frame in moving(40)]
    path = encode(tmp_path / name, frames, codec, b="2M", g="10", bf="0")
    damage(path, 13, how)
    code = f"""
import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])
from pathlib import Path; from eigenseg.data.video_reader import VideoReader
video, found = VideoReader(Path({str(path)!r})), []
for i in range(40):
    try: video.read(i)
    except ValueError: found.append(i)
print(found)"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[13]\n"


def test_several_threads_lose_no_frame_that_one_thread_decodes(tmp_path: Path) -> None:
    # Moving stripes, for which VP9 makes hidden frames that others refer to.
    stripes = ((np.indices((270, 480)).sum(0)[..., None] + np.array([0, 60, 120])) % 256).astype(np.uint8)
    frames = [np.roll(stripes, 3 * i, axis=1) for i in range(40)]
    options = {"b": "300k", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}
    path = encode(tmp_path / "a.webm", frames, "libvpx-vp9", **options)
    damage(path, 23, zeros)
    expected = set()
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_count = 1
        for packet in container.demux(video=0):
            with contextlib.suppress(ValueError, EOFError):
                expected |= {round(frame.time * 25) for frame in context.decode(packet if packet.size else None)}
    video, given = VideoReader(path), set()
    for i in range(40):
        with contextlib.suppress(ValueError):
            video.read(i)
            given.add(i)
    assert given == expected
    assert 23 not in given
    assert len(given) > 25


def test_of_a_truncated_file_the_rest_is_read_and_what_is_missing_is_said(tmp_path: Path) -> None:
    frames = moving(40)
    path = encode(tmp_path / "a.mp4", frames, crf="1", bf="0")
    assert VideoReader(path).truncated is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    video = VideoReader(path)
    assert 10 < len(video) < 40
    assert video.truncated == f"{path} is truncated: it should hold 40 frames, {len(video)} are left"
    assert open_clip(path).truncated == video.truncated
    for i in range(len(video)):
        check_close(video.read(i), frames[i], 6)


def test_a_truncated_file_without_a_count_is_noticed_by_its_duration(tmp_path: Path) -> None:
    frames = moving(50)
    path = lossless(tmp_path / "a.mkv", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = VideoReader(path)
    assert video.truncated == f"{path} is truncated: it should last 2.0 s, {len(video) / 25:.1f} s are left"
    assert all((video.read(i) == frames[i]).all() for i in range(len(video)))


def test_complete_files_lack_nothing(tmp_path: Path) -> None:
    for name, codec, options in FORMATS:
        assert VideoReader(encode(tmp_path / name, moving(5), codec, **options)).truncated is None


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 100)
    (tmp_path / "notes.txt").write_text("no video at all\n" * 100)
    cv2.imwrite(str(tmp_path / "image.png"), moving(1)[0])
    os.rename(tmp_path / "image.png", tmp_path / "image.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n")
    cut = encode(tmp_path / "cut.mov", moving(9))
    cut.write_bytes(cut.read_bytes()[:600])
    for name in ("empty.mp4", "text.mp4", "notes.txt", "image.mp4", "list.mp4", "cut.mov"):
        with pytest.raises(ValueError, match=f"{tmp_path / name} (is|holds)"):
            VideoReader(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4"):
        VideoReader(tmp_path / "nothing.mp4")


def test_a_file_with_sound_only_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"a\.mp4 holds no video, only audio"):
        VideoReader(tmp_path / "a.mp4")


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lossless(tmp_path / "a.mkv", moving(3)).rename(tmp_path / "http:b%03d.mkv")
    assert len(VideoReader(Path("http:b%03d.mkv"))) == 3


def test_the_cache_stays_below_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving(2, 2160, 3840)
    limit = 3 * frames[0].nbytes // 2  # three frames of 4K as they are decoded, which take half of their RGB
    monkeypatch.setattr(module, "CACHE_BYTES", limit)
    video = VideoReader(encode(tmp_path / "a.mp4", frames * 4, preset="ultrafast", crf="30"))
    for index in (7, 0, 5):
        check_close(video.read(index), frames[index % 2], 6)
        assert 0 < sum(module._size(frame) for frame in video._cache.values()) == video._cached_bytes <= limit


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open files through /proc")
def test_a_file_is_closed_with_its_reader(tmp_path: Path) -> None:
    def is_open() -> bool:
        links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        return any(link.is_symlink() and os.readlink(link) == str(path) for link in links)

    path = lossless(tmp_path / "a.mkv", moving(30))
    video = VideoReader(path)
    video.read(20)
    video.read(3)
    assert is_open()
    del video
    gc.collect()
    assert not is_open()


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (1, 1), (33, 2)])
def test_what_is_written_is_read_back_with_one_more_pixel_at_odd_borders(height: int, width: int, tmp_path: Path) -> None:
    frames = [np.full((height, width, 3), (30 + 20 * i, 200 - 15 * i, 90), dtype=np.uint8) for i in range(9)]
    write_video(tmp_path / "a.mp4", iter(frames), 12.5)
    video = VideoReader(tmp_path / "a.mp4")
    assert (len(video), video.frame_rate) == (9, 12.5)
    for i, (frame, reference) in enumerate(zip(frames, by_opencv(tmp_path / "a.mp4"), strict=True)):
        padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        check_close(video.read(i), padded, 3)
        check_close(reference, padded, 3)


def test_a_written_video_is_what_browsers_play(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving(5), 30000 / 1001)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (Colorspace.ITU709, ColorRange.MPEG)
        assert container.streams.video[0].average_rate == Fraction(30000, 1001)


def test_equal_frames_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [(frame * 0.9 + rng.integers(0, 20, frame.shape)).astype(np.uint8) for frame in moving(60, 240, 320)]
    np.save(tmp_path / "frames.npy", np.stack(frames))
    write_video(tmp_path / "a.mp4", frames, 25.0)
    code = (
        "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "import numpy as np; from pathlib import Path; from eigenseg.data.video_files import write_video\n"
        f"folder = Path({str(tmp_path)!r}); write_video(folder / 'b.mp4', np.load(folder / 'frames.npy'), 25.0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2160, 3840), (2160, 3840)),
        ((2304, 4096), (2304, 4096)),
        ((4096, 4096), (3072, 3072)),
        ((10, 8192), (6, 4096)),
        ((1, 1), (2, 2)),
        ((4320, 7680), (2304, 4096)),
    ],
)
def test_sizes_above_the_limit_are_scaled_down_and_keep_their_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    height, width = video_files._encoded_size(*size)
    assert height % 2 == width % 2 == 0
    assert -(-height // 16) * -(-width // 16) <= 36864
    assert abs(height - expected[0]) <= 0.01 * expected[0]
    assert abs(width - expected[1]) <= 0.01 * expected[1]


def test_a_large_frame_is_written_smaller(tmp_path: Path) -> None:
    frame = np.zeros((64, 5000, 3), dtype=np.uint8)
    frame[:, 2500:] = 255
    write_video(tmp_path / "a.mp4", [frame, frame], 25)
    image = VideoReader(tmp_path / "a.mp4").read(1)
    assert image.shape == (54, 4096, 3)
    assert image[:, :2040].max() < 20
    assert image[:, 2056:].min() > 235


def test_an_older_video_stays_if_a_frame_fails(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")
    small, large = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)

    def failing() -> Iterable[NDArray[np.uint8]]:
        yield small
        raise RuntimeError("no more")

    for frames, error, message in (
        (failing(), RuntimeError, "no more"),
        ([small, large], ValueError, r"first has \(16, 16\), another one \(16, 18\)"),
        ([], ValueError, r"a\.mp4 needs at least one frame"),
        ([small[..., 0]], TypeError, r"must be \(H, W, 3\) uint8, got \(16, 16\)"),
        ([small.astype(float)], TypeError, "float64"),
    ):
        with pytest.raises(error, match=message):
            write_video(tmp_path / "a.mp4", frames, 25.0)  # type: ignore[arg-type]
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.mp4": b"old"}
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="frame_rate must be a positive number"):
            write_video(tmp_path / "a.mp4", [small], rate)


def test_when_the_disk_takes_no_more_only_the_old_video_remains(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")
    noise = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), dtype=np.uint8)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        with pytest.raises(OutputError, match=r"cannot write .*a\.mp4: File too large"):
            write_video(tmp_path / "a.mp4", noise, 25.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.mp4": b"old"}
