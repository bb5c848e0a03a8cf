"""Every kind of image becomes the RGB that a viewer shows, and any other file is rejected in one sentence that names it."""

from __future__ import annotations

import errno
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from eigenseg.data import as_rgb, images, read_image
from eigenseg.data.images import decoding_bytes

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = COLOR[..., 0]
NOISE = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
ALL_PAIRS = np.stack(np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)), axis=-1)

# What a viewer does to the stored rows and columns, by the EXIF standard's description of tag 274.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def three_channels(gray: np.ndarray) -> np.ndarray:
    return np.stack([gray] * 3, axis=-1)


def assert_rgb(image: np.ndarray, expected: np.ndarray) -> None:
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, expected.astype(np.uint8), strict=True)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation: int, suffix: str, tmp_path: Path) -> None:
    path, exif = tmp_path / f"photo{suffix}", Image.Exif()
    exif[274] = orientation
    Image.fromarray(COLOR).save(path, exif=exif)
    raw = COLOR
    if suffix == ".jpg":  # lossy: the stored pixels are those that Pillow reads when it ignores the tag
        with Image.open(path) as stored:
            raw = np.array(stored)
    assert raw.shape == (6, 9, 3)
    assert_rgb(read_image(path), UPRIGHT[orientation](raw))


def test_gray_and_one_bit_images_become_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "gray.png")
    Image.fromarray(GRAY > 128).save(tmp_path / "bit.png")
    with Image.open(tmp_path / "bit.png") as stored:
        assert stored.mode == "1"
    assert_rgb(read_image(tmp_path / "gray.png"), three_channels(GRAY))
    assert_rgb(read_image(tmp_path / "bit.png"), three_channels(np.where(GRAY > 128, 255, 0)))


@pytest.mark.parametrize("see_through", [None, 2])
def test_a_palette_is_looked_up_and_its_transparent_entry_is_white(see_through: int | None, tmp_path: Path) -> None:
    indices, palette = RNG.integers(0, 4, (6, 9), dtype=np.uint8), RNG.integers(0, 256, (4, 3), dtype=np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "p.png", **({} if see_through is None else {"transparency": see_through}))
    expected = palette[indices]
    if see_through is not None:
        expected[indices == see_through] = 255
    assert_rgb(read_image(tmp_path / "p.png"), expected)


def test_transparency_is_composited_over_white_for_every_value_and_alpha(tmp_path: Path) -> None:
    value, alpha = ALL_PAIRS[..., 0], ALL_PAIRS[..., 1]
    rgba = np.stack([value, value, value, alpha], axis=-1)
    # (v a + 255 (255 - a)) / 255 is never half-way between two integers, so rounding has one meaning
    expected = three_channels(np.round((value * 1.0 * alpha + 255.0 * (255 - alpha)) / 255))
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., 2:]).save(tmp_path / "la.png")
    for image in (rgba, Image.fromarray(rgba), tmp_path / "rgba.png", tmp_path / "la.png"):
        assert_rgb(as_rgb(image), expected)


def test_cmyk_is_converted_to_rgb_by_its_definition(tmp_path: Path) -> None:
    ink, black = ALL_PAIRS[..., 0], ALL_PAIRS[..., 1]
    Image.merge("CMYK", [Image.fromarray(channel) for channel in (ink, ink, ink, black)]).save(tmp_path / "print.tif")
    expected = np.round((255.0 - ink) * (255.0 - black) / 255)
    assert_rgb(read_image(tmp_path / "print.tif"), three_channels(expected))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_gray_is_divided_by_257(suffix: str, tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    cv2.imwrite(str(tmp_path / f"deep{suffix}"), values)
    assert_rgb(read_image(tmp_path / f"deep{suffix}"), three_channels(values // 257))


def test_big_endian_sixteen_bit_tiff_reads_as_little_endian_does(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.frombytes("I;16B", (256, 256), values.astype(">u2").tobytes()).save(tmp_path / "deep.tif")
    assert_rgb(read_image(tmp_path / "deep.tif"), three_channels(values // 257))


def too_dark(path: Path, highest: int) -> None:
    message = f"its 16-bit values reach only {highest} of 65535, so it would be black; scale them, or save them as 8 bits"
    with pytest.raises(ValueError, match=f"^{path}: {message}$"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_values_below_256_are_refused_instead_of_read_as_black(
    channels: int, suffix: str, tmp_path: Path
) -> None:
    values = RNG.integers(0, 200, (6, 9, channels), dtype=np.uint16)
    values[..., 3:] = 65535
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), values[..., 0] if channels == 1 else values)
    too_dark(path, values[..., :3].max())
    for highest, whole in ((0, 0), (256, 0 if channels == 1 else 1), (65535, 255)):  # Pillow divides colors by 256
        values[..., :3] = 0
        values[2, 3, :3] = highest
        cv2.imwrite(str(path), values[..., 0] if channels == 1 else values)
        assert read_image(path).max() == (whole if channels < 4 else read_image(path).max())


def test_thirty_two_bit_values_below_256_are_refused_instead_of_read_as_black(tmp_path: Path) -> None:
    Image.fromarray(GRAY.astype(np.int32)).save(tmp_path / "deep.tif")
    too_dark(tmp_path / "deep.tif", GRAY.max())
    with pytest.raises(ValueError, match=f"^its 16-bit values reach only {GRAY.max()} of 65535"):
        as_rgb(Image.fromarray(GRAY.astype(np.int32)))


def test_sixteen_bit_values_of_few_levels_are_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "camera.png"
    cv2.imwrite(str(path), GRAY.astype(np.uint16) * 16)
    assert_rgb(read_image(path), three_channels(GRAY.astype(int) * 16 // 257))
    assert f"{path}: its 16-bit values reach only {16 * int(GRAY.max())} of 65535, so it is dark" in caplog.text


def test_a_tiff_of_twelve_bits_uses_their_whole_range(tmp_path: Path) -> None:
    values = np.array([[0, 15, 16, 2048], [4080, 4095, 1000, 255]])
    packed = bytes(byte for a, b in values.reshape(-1, 2).tolist() for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    tags = [(256, 4), (257, 2), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag == 273 else 3, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory)
    assert_rgb(read_image(tmp_path / "a.tif"), three_channels(values * 255 // 4095))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (9, 6), color) for color in ((250, 10, 20), (0, 90, 200)))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert_rgb(read_image(tmp_path / "a.gif"), np.broadcast_to([250, 10, 20], (6, 9, 3)))


def test_arrays_of_all_supported_shapes_are_converted() -> None:
    opaque = np.concatenate([COLOR, np.full((6, 9, 1), 255, np.uint8)], axis=2)
    assert_rgb(as_rgb(GRAY), three_channels(GRAY))
    assert_rgb(as_rgb(GRAY[..., None]), three_channels(GRAY))
    assert_rgb(as_rgb(opaque), COLOR)
    for array in (COLOR, np.asfortranarray(COLOR), COLOR[::-1], COLOR[:, ::-1]):
        assert_rgb(as_rgb(array), array)


def test_path_string_and_opened_image_give_the_same_array(tmp_path: Path) -> None:
    path = tmp_path / "c.png"
    Image.fromarray(COLOR).save(path)
    for image in (path, str(path), Image.open(path)):
        assert_rgb(as_rgb(image), COLOR)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (COLOR.astype(np.float32) / 255, TypeError, r"must be uint8 in 0\.\.255, got float32"),
        (GRAY > 0, TypeError, "must be uint8 .*, got bool"),
        (COLOR.tolist(), TypeError, "must be a path, a PIL image or an HWC uint8 array, got list"),
        (None, TypeError, "got NoneType"),
        (COLOR[..., :2], ValueError, r"\(H, W, 3\) or \(H, W, 4\), got \(6, 9, 2\)"),
        (COLOR.transpose(2, 0, 1), ValueError, r"got \(3, 6, 9\)"),
        (COLOR[None], ValueError, r"got \(1, 6, 9, 3\)"),
        (GRAY[0], ValueError, r"got \(9,\)"),
        (COLOR[:0], ValueError, r"no pixels: shape \(0, 9, 3\)"),
        (Image.new("F", (2, 2)), ValueError, "floating-point images are not supported"),
        (Image.new("I", (2, 2), 70000), ValueError, "32-bit images are not supported"),
        (Image.new("I", (2, 2), -1), ValueError, "32-bit images are not supported"),
    ],
)
def test_other_types_are_rejected_with_the_given_one(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_rgb(image)  # type: ignore[arg-type]


def encoded(format_: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, format_)
    return stream.getvalue()


BROKEN = {
    "zero bytes": (b"", "is empty"),
    "half a jpeg": (encoded("JPEG")[: len(encoded("JPEG")) // 2], "truncated or damaged"),
    "half a png": (encoded("PNG")[: len(encoded("PNG")) // 2], "truncated or damaged"),
    "half a tiff": (encoded("TIFF")[: len(encoded("TIFF")) // 2], "truncated or damaged"),
    "a png without its end": (encoded("PNG")[:-200], "truncated or damaged"),
    "text": (b"The quick brown fox.\n" * 9, "is not an image"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_in_one_sentence(kind: str, tmp_path: Path) -> None:
    content, message = BROKEN[kind]
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_image(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning:PIL")
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_truncated_anywhere_is_read_or_rejected_by_name(format_: str, tmp_path: Path) -> None:
    path, content = tmp_path / "cut", encoded(format_)
    for length in range(1, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:length])
        try:
            assert read_image(path).shape == (40, 50, 3)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 2},
    "sharp": {"quality": 98},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read_with_a_note(
    channels: int, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream, path = io.BytesIO(), tmp_path / "cut.jpg"
    Image.fromarray(NOISE[..., 0] if channels == 1 else NOISE).save(stream, "JPEG", **KINDS[kind])
    content = stream.getvalue()
    path.write_bytes(content)
    whole = read_image(path)
    assert not caplog.text
    for missing in (1, 2):
        caplog.clear()
        path.write_bytes(content[:-missing])
        assert_rgb(read_image(path), whole)
        note = [f"{path} lacks its end marker; no pixel is missing"]
        # Pillow itself reads some of them, depending on where the last pixel's bits end.
        assert caplog.messages == note or (kind == "sharp" and not caplog.messages)
    if kind == "progressive":  # a cut between two of its scans leaves a coarser image
        return
    for missing in (*range(3, 30), *range(30, len(content) // 2, 23)):
        path.write_bytes(content[:-missing])
        try:  # the last bytes may belong to what lies outside the image
            np.testing.assert_array_equal(read_image(path), whole)
        except ValueError as error:
            assert "truncated or damaged" in str(error)  # noqa: PT017
        else:
            assert missing < 40


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_file_that_the_system_does_not_give_is_not_called_damaged(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(COLOR).save(tmp_path / "a.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for place, name in ((Image, "open"), (PngImageFile, "load"), (Path, "stat")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, fail)
            with pytest.raises(ValueError, match=f"^{tmp_path}/a.png cannot be read: {os.strerror(number)}$"):
                read_image(tmp_path / "a.png")


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    for name in ("pipe.jpg", "link.jpg", "null.jpg"):
        with pytest.raises(ValueError, match=f"^{tmp_path}/{name} is no regular file, expected an image$"):
            read_image(tmp_path / name)
        assert decoding_bytes(tmp_path / name) == 0


def test_heic_without_pillow_heif_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.data.images.heif_is_readable", lambda: False)
    images._register_heif.cache_clear()
    (tmp_path / "IMG_1.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    with pytest.raises(
        ValueError, match=r"IMG_1\.jpg is not an image that Pillow can read; pip install 'eigenseg\[heif\]' to read HEIC"
    ):
        read_image(tmp_path / "IMG_1.jpg")


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    smooth = np.full((64, 96, 3), (200, 60, 40), dtype=np.uint8)
    heif.from_pillow(Image.fromarray(smooth)).save(tmp_path / "a.heic", quality=90)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - smooth).max() < 12


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"no such image: {tmp_path}/nowhere.jpg"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match=f"^{tmp_path} is a folder, expected an image"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("error")
def test_a_large_photograph_is_read_without_a_warning_and_a_larger_image_is_rejected_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(COLOR).save(tmp_path / "wall.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6 * 9 // 2)
    assert_rgb(read_image(tmp_path / "wall.png"), COLOR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6 * 9 // 2 - 1)
    with pytest.raises(ValueError, match=f"{tmp_path}/wall.png is too large"):
        read_image(tmp_path / "wall.png")


def unnamed(path: Path) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        read_image(path)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_file_of_unsupported_depth_is_named(dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.full((4, 4), 1e6, dtype=dtype)).save(path)
    assert str(path) in unnamed(path)


def test_a_damaged_header_of_a_ppm_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scan.ppm"
    path.write_bytes(b"P6 1x 2 255\n" + bytes(60))
    assert str(path) in unnamed(path)


def test_whatever_a_decoder_raises_the_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "phone.avif"
    path.write_bytes(b"damaged")

    def fail(*_: object, **__: object) -> Image.Image:
        raise RuntimeError("Failed to decode image: Missing or empty image item")

    monkeypatch.setattr(Image, "open", fail)
    assert str(path) in unnamed(path)


@pytest.mark.parametrize("rows_bytes", [1, 3 * 13 * 2, 2**25])
def test_pixels_do_not_depend_on_the_rows_that_are_copied_at_once(rows_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.data.images._ROWS_BYTES", rows_bytes)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 13, 3), dtype=np.uint8)
    assert_rgb(as_rgb(Image.fromarray(pixels)), pixels)
