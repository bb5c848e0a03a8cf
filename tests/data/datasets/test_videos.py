"""Video readers return the drawn label maps; frame names do not depend on the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_files import assert_same_after_pickling, save, write

from eigenseg.data.datasets import Davis, Fbms, SegTrackV2, check_images
from eigenseg.data.datasets.frames import list_images

frames: NDArray[np.uint8] = np.zeros((3, 4, 5), dtype=np.uint8)
frames[:, 1, 1:3], frames[1:, 3, 4], frames[:, 0, 0] = 2, 1, 255


def davis(root: Path, folder: str = "Annotations_unsupervised", **sequences: NDArray[np.uint8]) -> Path:
    for name, maps in sequences.items():
        for i, one in enumerate(maps):
            save(root / folder / "480p" / name / f"{i:05}.png", one, palette=True)
    return root


def test_palette_indices_of_davis_stay_objects_and_void(tmp_path: Path) -> None:
    write(davis(tmp_path, dogs=frames, bear=frames[:2]) / "ImageSets" / "2017" / "val.txt", "dogs\nbear\n")
    dataset = Davis(tmp_path)
    assert list(dataset.items) == ["dogs", "bear"]
    annotation = dataset.annotation(0)
    np.testing.assert_array_equal(annotation.labels, frames, strict=True)
    assert annotation.frames == ("dogs/00000.jpg", "dogs/00001.jpg", "dogs/00002.jpg")
    assert (len(dataset.annotation(1).frames), dataset.kind, dataset.title) == (2, "video", "DAVIS 2017 val")
    assert_same_after_pickling(dataset)


def test_frames_have_the_same_names_with_and_without_images(tmp_path: Path) -> None:
    write(davis(tmp_path, dogs=frames) / "ImageSets" / "2017" / "val.txt", "dogs\n")
    dataset = Davis(tmp_path)
    before = dataset.images(0)
    assert tuple(source.name for source in before) == dataset.annotation(0).frames
    with pytest.raises(FileNotFoundError, match=r"DAVIS 2017 val: 3 of 3 images are missing, .*480p/dogs/00000\.jpg"):
        check_images(dataset)
    for i in range(3):
        write(tmp_path / "JPEGImages" / "480p" / "dogs" / f"{i:05}.jpg")
    check_images(dataset)
    assert dataset.images(0) == before
    write(tmp_path / "JPEGImages" / "480p" / "dogs" / "00003.jpg")
    assert [source.name for source in dataset.images(0)][3:] == ["dogs/00003.jpg"]
    (tmp_path / "JPEGImages" / "480p" / "dogs" / "00001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 4 images are missing, .*00001\.jpg"):
        check_images(dataset)


def test_binary_foreground_is_every_nonzero_value(tmp_path: Path) -> None:
    write(davis(tmp_path, "Annotations", dogs=frames) / "ImageSets" / "2016" / "val.txt", "dogs\n")
    annotation = Davis(tmp_path, year=2016, annotations="Annotations", binary=True).annotation(0)
    np.testing.assert_array_equal(annotation.labels, (frames > 0).astype(np.uint8), strict=True)


def test_the_frame_list_of_2016_gives_sequences_in_order_and_a_sequence_list_has_priority(tmp_path: Path) -> None:
    lines = [
        f"/JPEGImages/480p/{name}/{i:05}.jpg /Annotations/480p/{name}/{i:05}.png"
        for name in ("dogs", "bear")
        for i in (0, 1)
    ]
    davis(tmp_path, "Annotations", dogs=frames, bear=frames, cows=frames)
    write(tmp_path / "ImageSets" / "480p" / "val.txt", "\n".join(lines))
    assert list(Davis(tmp_path, year=2016, annotations="Annotations", binary=True).items) == ["dogs", "bear"]
    write(tmp_path / "ImageSets" / "2016" / "val.txt", "cows\n")
    assert list(Davis(tmp_path, year=2016, annotations="Annotations", binary=True).items) == ["cows"]


def test_frames_of_different_size_are_rejected(tmp_path: Path) -> None:
    write(davis(tmp_path, dogs=frames) / "ImageSets" / "2017" / "val.txt", "dogs\n")
    save(tmp_path / "Annotations_unsupervised" / "480p" / "dogs" / "00001.png", np.zeros((4, 6)), palette=True)
    with pytest.raises(ValueError, match=r"dogs/00001\.png has 6 x 4 pixels, 00000\.png has 5 x 4; all frames"):
        Davis(tmp_path).annotation(0)


def test_labels_beyond_a_byte_are_rejected(tmp_path: Path) -> None:
    write(davis(tmp_path, dogs=frames[:1]) / "ImageSets" / "2017" / "val.txt", "dogs\n")
    folder = tmp_path / "Annotations_unsupervised" / "480p" / "dogs"
    Image.fromarray(np.full((4, 5), 300, dtype=np.uint16)).save(folder / "00000.png")
    with pytest.raises(ValueError, match=r"480p/dogs holds the label 300; labels must be 0 to 255"):
        Davis(tmp_path).annotation(0)


def test_missing_files_of_davis_are_named_with_the_source(tmp_path: Path) -> None:
    source = r"https://davischallenge\.org"
    with pytest.raises(FileNotFoundError, match=rf"DAVIS 2017 val needs .*/Annotations_unsupervised/480p, .*{source}"):
        Davis(tmp_path)
    davis(tmp_path, dogs=frames)
    with pytest.raises(FileNotFoundError, match=rf"needs .*/ImageSets/2017/val\.txt, .*{source}"):
        Davis(tmp_path)
    write(tmp_path / "ImageSets" / "2017" / "val.txt", "dogs\ncows\n")
    with pytest.raises(FileNotFoundError, match=rf"needs .*/480p/cows, .*{source}"):
        Davis(tmp_path)
    (tmp_path / "Annotations_unsupervised" / "480p" / "cows").mkdir()
    with pytest.raises(ValueError, match=rf"DAVIS 2017 val: .*/480p/cows holds no \.png; .*{source}"):
        Davis(tmp_path)


def test_three_real_sequences_have_all_their_frames(test_data: Path) -> None:
    root = test_data / "davis"
    single, multiple = Davis(root, year=2016, annotations="Annotations", binary=True), Davis(root)
    for dataset in (single, multiple):
        check_images(dataset)
        assert list(dataset.items) == ["car-shadow", "drift-straight", "libby"]
        annotations = [dataset.annotation(i) for i in range(3)]
        assert [annotation.labels.shape for annotation in annotations] == [(40, 480, 854), (50, 480, 854), (49, 480, 854)]
        assert [annotation.frames[-1] for annotation in annotations] == [
            "car-shadow/00039.jpg",
            "drift-straight/00049.jpg",
            "libby/00048.jpg",
        ]
    for i, sequence in enumerate(single.items):
        assert single.annotation(i).frames == tuple(source.name for source in single.images(i))
        last = Image.open(root / "Annotations" / "480p" / sequence / f"{len(single.annotation(i).frames) - 1:05}.png")
        np.testing.assert_array_equal(single.annotation(i).labels[-1] == 1, np.asarray(last.convert("L")) > 0)


def segtrack(root: Path) -> Path:
    one, two = np.zeros((4, 5), dtype=np.uint8), np.zeros((4, 5), dtype=np.uint8)
    one[1:3, 1:3], two[2:4, 2:5] = 255, 255
    save(root / "GroundTruth" / "birdfall" / "birdfall2_00018.png", np.stack([one] * 3, axis=2))
    save(root / "GroundTruth" / "birdfall" / "birdfall2_00019.png", one // 255 * 100)
    for stem in ("bmx_9", "bmx_10"):
        save(root / "GroundTruth" / "bmx" / "1" / f"{stem}.bmp", one)
        save(root / "GroundTruth" / "bmx" / "2" / f"{stem}.png", two)
        write(root / "JPEGImages" / "bmx" / f"{stem}.bmp")
    return root


def test_numbered_folders_of_segtrack_become_numbered_objects_and_the_first_keeps_its_pixels(tmp_path: Path) -> None:
    dataset = SegTrackV2(segtrack(tmp_path))
    assert list(dataset.items) == ["birdfall", "bmx"]
    annotation = dataset.annotation(1)
    expected = [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 2, 2], [0, 0, 2, 2, 2]]
    np.testing.assert_array_equal(annotation.labels, np.array([expected] * 2, dtype=np.uint8), strict=True)
    assert annotation.frames == ("bmx/bmx_9.png", "bmx/bmx_10.png")
    assert_same_after_pickling(dataset)


def test_a_single_mask_of_segtrack_is_object_one_where_it_is_bright(tmp_path: Path) -> None:
    annotation = SegTrackV2(segtrack(tmp_path)).annotation(0)
    assert [int(label.sum()) for label in annotation.labels] == [4, 0]
    assert annotation.labels.max() == 1


def test_frames_of_segtrack_may_have_any_suffix_and_share_one_naming(tmp_path: Path) -> None:
    dataset = SegTrackV2(segtrack(tmp_path))
    assert [source.path.name for source in dataset.images(1)] == ["bmx_9.bmp", "bmx_10.bmp"]
    for i in range(2):
        assert tuple(source.name for source in dataset.images(i)) == dataset.annotation(i).frames
    with pytest.raises(FileNotFoundError, match=r"SegTrack v2: 2 of 4 images are missing, .*birdfall2_00018\.png"):
        check_images(dataset)


def test_missing_and_misplaced_files_of_segtrack_are_named(tmp_path: Path) -> None:
    source = r"https://web\.engr\.oregonstate\.edu/~lif/SegTrack2/dataset\.html"
    with pytest.raises(FileNotFoundError, match=rf"SegTrack v2 needs .*/GroundTruth, .*{source}"):
        SegTrackV2(tmp_path)
    (tmp_path / "GroundTruth").mkdir()
    with pytest.raises(ValueError, match=rf"/GroundTruth holds no folder; .*{source}"):
        SegTrackV2(tmp_path)
    (tmp_path / "GroundTruth" / "worm").mkdir()
    with pytest.raises(ValueError, match=rf"/GroundTruth/worm holds no mask; .*{source}"):
        SegTrackV2(tmp_path)
    save(tmp_path / "GroundTruth" / "worm" / "left" / "a.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"/worm/left must be named by the number of an object, 1 to 254"):
        SegTrackV2(tmp_path)
    segtrack(tmp_path / "other")
    save(tmp_path / "other" / "GroundTruth" / "bmx" / "2" / "bmx_9.png", np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"2/bmx_9\.png has 6 x 4 pixels"):
        SegTrackV2(tmp_path / "other").annotation(1)


def fbms(root: Path, suffix: str = "_gt.png") -> Path:
    for i in range(1, 13):
        write(root / "Testset" / "camel01" / f"camel01_{i}.jpg")
    later = np.where(frames[2] == 1, 200, frames[2]).astype(np.uint8)
    save(root / "Testset" / "camel01" / "GroundTruth" / f"camel01_2{suffix}", np.where(frames[0] == 2, 80, 0))
    save(root / "Testset" / "camel01" / "GroundTruth" / f"camel01_10{suffix}", np.where(later == 2, 80, later))
    return root


@pytest.mark.parametrize("suffix", ["_gt.png", ".png"])
def test_only_annotated_frames_of_fbms_have_labels_and_gray_values_are_numbered(tmp_path: Path, suffix: str) -> None:
    dataset = Fbms(fbms(tmp_path, suffix))
    annotation = dataset.annotation(0)
    assert annotation.frames == ("camel01/camel01_2.jpg", "camel01/camel01_10.jpg")
    # 80, 200 and 255 are objects 1, 2 and 3: nothing is void here.
    second = np.select([frames[2] == 2, frames[2] == 1, frames[2] == 255], [1, 2, 3], 0)
    np.testing.assert_array_equal(annotation.labels, np.stack([frames[0] == 2, second]).astype(np.uint8), strict=True)
    assert [source.name for source in dataset.images(0)] == [f"camel01/camel01_{i}.jpg" for i in range(1, 13)]
    assert dataset.title == "FBMS-59 Testset"
    check_images(dataset)
    assert_same_after_pickling(dataset)


def test_the_converted_layout_of_fbms_is_read_without_a_split(tmp_path: Path) -> None:
    save(tmp_path / "Annotations" / "tennis" / "00003.png", np.where(frames[0] == 2, 255, 0))
    for i in (1, 2, 3, 4):
        write(tmp_path / "JPEGImages" / "tennis" / f"{i:05}.jpg")
    dataset = Fbms(tmp_path, split=None)
    np.testing.assert_array_equal(dataset.annotation(0).labels, (frames[:1] == 2).astype(np.uint8), strict=True)
    assert dataset.annotation(0).frames == ("tennis/00003.jpg",)
    assert [source.name for source in dataset.images(0)] == [f"tennis/0000{i}.jpg" for i in (1, 2, 3, 4)]


def test_annotated_frames_of_fbms_keep_their_names_without_images(tmp_path: Path) -> None:
    save(tmp_path / "Testset" / "camel01" / "GroundTruth" / "camel01_0001_gt.png", frames[0])
    dataset = Fbms(tmp_path)
    assert dataset.annotation(0).frames == ("camel01/camel01_0001.jpg",) == tuple(s.name for s in dataset.images(0))


def test_the_original_annotations_of_fbms_are_rejected_with_instructions(tmp_path: Path) -> None:
    save(tmp_path / "Testset" / "camel01" / "GroundTruth" / "camel01_0001_gt.pgm", frames[0])
    with pytest.raises(ValueError, match=r"camel01/GroundTruth holds \.pgm or \.ppm of the original release; .* as \.png"):
        Fbms(tmp_path)


def test_missing_and_duplicate_files_of_fbms_are_named(tmp_path: Path) -> None:
    source = r"https://lmb\.informatik\.uni-freiburg\.de"
    with pytest.raises(FileNotFoundError, match=rf"FBMS-59 Trainingset needs .*/Trainingset, .*{source}"):
        Fbms(tmp_path, split="Trainingset")
    with pytest.raises(FileNotFoundError, match=rf"FBMS-59 needs .*/Annotations, .*{source}"):
        Fbms(tmp_path, split=None)
    (tmp_path / "Testset").mkdir()
    with pytest.raises(ValueError, match=rf"/Testset holds no folder; .*{source}"):
        Fbms(tmp_path)
    (tmp_path / "Testset" / "dogs01").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"needs .*/dogs01/GroundTruth, .*{source}"):
        Fbms(tmp_path)
    (tmp_path / "Testset" / "dogs01" / "GroundTruth").mkdir()
    with pytest.raises(ValueError, match=r"/dogs01/GroundTruth holds no \.png; FBMS-59 Testset needs label maps"):
        Fbms(tmp_path)
    for name in ("a.png", "a_gt.png"):
        save(tmp_path / "Testset" / "dogs01" / "GroundTruth" / name, frames[0])
    with pytest.raises(ValueError, match=r"/dogs01/GroundTruth holds a frame twice"):
        Fbms(tmp_path)


def test_antialiased_outlines_are_not_read_as_hundreds_of_objects(tmp_path: Path) -> None:
    save(tmp_path / "Testset" / "a" / "GroundTruth" / "1.png", np.arange(256).reshape(16, 16))
    with pytest.raises(ValueError, match=r"a/GroundTruth holds 255 gray values; a label map holds 254 objects"):
        Fbms(tmp_path).annotation(0)


def test_frames_follow_the_numbers_in_their_names(tmp_path: Path) -> None:
    names = ["a_2.jpg", "a_10.jpg", "b_1.jpg", "b_001.jpg", "c.jpg"]
    for name in [*reversed(names), ".hidden.jpg", "notes.txt"]:
        write(tmp_path / name)
    assert [path.name for path in list_images(tmp_path)] == ["a_2.jpg", "a_10.jpg", "b_001.jpg", "b_1.jpg", "c.jpg"]
    assert list_images(tmp_path / "none") == []
