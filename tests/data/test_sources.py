"""An input names each image once, sorted, under its path below the input; an input without images is rejected."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest

from eigenseg.data import ClipSource, InputListing, find_images, list_input
from eigenseg.data.images import heif_is_readable
from eigenseg.data.inputs import choose_inputs, find_clips


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names_of(source: str | Path) -> list[str]:
    sources = find_images(source)
    names = [source.name for source in sources]
    assert names == sorted(set(names))
    for source in sources:
        assert source.path.is_file()
        assert source.path.as_posix().endswith(source.name)
    return names


def test_a_folder_is_searched_with_its_subfolders_and_only_for_images(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "z/y/x.tiff", "z/c.webp", "notes.txt", "clip.mp4", "noext", "z/archive.jpg.zip")
    assert names_of(tmp_path) == ["a.PNG", "b.jpg", "z/c.webp", "z/y/x.tiff"]


def test_hidden_files_and_folders_are_skipped_but_a_hidden_root_is_not(tmp_path: Path) -> None:
    touch(tmp_path, ".root/a.jpg", ".root/.b.jpg", ".root/.thumbnails/c.jpg", ".root/d/.e/f.jpg", ".root/d/g.jpg")
    assert names_of(tmp_path / ".root") == ["a.jpg", "d/g.jpg"]


def test_a_link_to_a_parent_does_not_repeat_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg", "sub/deeper/c.jpg")
    (tmp_path / "sub" / "deeper" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names_of(tmp_path) == ["a.jpg", "sub/b.jpg", "sub/deeper/c.jpg"]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.jpg", "photos/b.jpg")
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names_of(tmp_path / "photos") == ["b.jpg", "linked/a.jpg"]


def test_equal_stems_never_collide(tmp_path: Path) -> None:
    touch(tmp_path, "rex.jpg", "rex.png", "rex.JPG", "dogs/rex.jpg", "cats/rex.jpg")
    expected = ["cats/rex.jpg", "dogs/rex.jpg", "rex.JPG", "rex.jpg", "rex.png"]
    assert names_of(tmp_path) == expected
    (tmp_path / "list.txt").write_text("\n".join(expected))
    assert names_of(tmp_path / "list.txt") == expected


def test_however_a_folder_is_written_its_images_have_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "photos/a.jpg", "photos/b/c.jpg")
    monkeypatch.chdir(tmp_path / "photos")
    for source in (".", "./", "../photos", f"{tmp_path}/photos/", "b/..", tmp_path / "photos"):
        assert names_of(source) == ["a.jpg", "b/c.jpg"]


def test_a_single_file_may_have_any_suffix_and_brackets(tmp_path: Path) -> None:
    touch(tmp_path, "IMG_1", "photo[1].jpg", ".hidden.jpg")
    for name in ("IMG_1", "photo[1].jpg", ".hidden.jpg"):
        assert names_of(tmp_path / name) == [name]


def test_a_pattern_takes_matching_images_only(tmp_path: Path) -> None:
    touch(tmp_path, "a1.jpg", "a2.png", "a3.txt", "b1.jpg", "sub/a4.jpg", "sub/deep/a5.jpg", "a.jpg/inner.png", ".a6.jpg")
    assert names_of(f"{tmp_path}/a*") == ["a1.jpg", "a2.png"]
    assert names_of(f"{tmp_path}/a[12].*") == ["a1.jpg", "a2.png"]
    assert names_of(f"{tmp_path}/?1.jpg") == ["a1.jpg", "b1.jpg"]
    assert names_of(f"{tmp_path}/*/*.jpg") == ["a4.jpg"]


def test_two_stars_search_subfolders_and_names_start_below_the_common_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/a.jpg", "s/t/a.jpg", "s/t/b.png", "s/.hidden/a.jpg")
    assert names_of(f"{tmp_path}/**/*.jpg") == ["a.jpg", "s/a.jpg", "s/t/a.jpg"]
    assert names_of(f"{tmp_path}/s/**/*.*") == ["a.jpg", "t/a.jpg", "t/b.png"]


def test_a_list_is_relative_to_itself_and_skips_blanks_comments_and_repetitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "data/a.jpg", "data/sub/b.jpg", "other/c.any")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    listed = f"# photos\r\nsub/b.jpg\r\n\n  a.jpg  \n#sub/none.jpg\n./a.jpg\na.jpg\n{tmp_path}/other/c.any\nsub//b.jpg"
    (tmp_path / "data" / "list.TXT").write_bytes(listed.encode())
    assert names_of(tmp_path / "data" / "list.TXT") == ["data/a.jpg", "data/sub/b.jpg", "other/c.any"]


def test_a_list_names_images_in_other_languages(tmp_path: Path) -> None:
    touch(tmp_path, "größe.jpg", "犬/写真 1.jpg")
    (tmp_path / "list.txt").write_text("犬/写真 1.jpg\ngröße.jpg\n", encoding="utf-8")
    assert names_of(tmp_path / "list.txt") == ["größe.jpg", "犬/写真 1.jpg"]


def test_an_input_without_images_lists_the_suffixes(tmp_path: Path) -> None:
    touch(tmp_path, "empty/readme.md", "clip.MP4")
    (tmp_path / "none.txt").write_text("\n# nothing\n\n")
    (tmp_path / "latin.txt").write_bytes("größe.jpg".encode("latin-1"))
    with pytest.raises(FileNotFoundError, match=f"no such file or folder: {tmp_path}/nowhere"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=rf"folder {tmp_path}/empty holds no image .*\.jpg"):
        find_images(tmp_path / "empty")
    with pytest.raises(ValueError, match=rf"{tmp_path}/none\.txt lists no image"):
        find_images(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=rf"{tmp_path}/latin\.txt is not a UTF-8 text file"):
        find_images(tmp_path / "latin.txt")
    with pytest.raises(ValueError, match=rf"{tmp_path}/clip\.MP4 is a video"):
        find_images(tmp_path / "clip.MP4")
    with pytest.raises(FileNotFoundError, match=r"pattern .*/empty/\* matches no image \(1 other matches\)"):
        find_images(f"{tmp_path}/empty/*")
    with pytest.raises(ValueError, match="input is empty"):
        find_images("")


def test_a_pattern_with_two_double_stars_names_each_image_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/b.jpg", "s/t/c.jpg")
    assert names_of(f"{tmp_path}/**/**/*.jpg") == ["a.jpg", "s/b.jpg", "s/t/c.jpg"]


def test_two_stars_do_not_follow_a_link_loop(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/b.jpg")
    (tmp_path / "s" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names_of(f"{tmp_path}/**/*.jpg") == ["a.jpg", "s/b.jpg"]


def test_a_list_names_an_image_once_however_it_is_written(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/b.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\ns/../a.jpg\ns/b.jpg\n")
    names = [source.name for source in find_images(tmp_path / "list.txt")]
    assert names == ["a.jpg", "s/b.jpg"]


def test_results_inside_the_input_are_skipped(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.jpg", "out/overlays/a.jpg.jpg", "out/run.json", "out/manifest.jsonl", "other/run.json", "other/b.jpg"
    )
    assert names_of(tmp_path) == ["a.jpg", "other/b.jpg"]
    assert names_of(f"{tmp_path}/**/*.jpg") == ["a.jpg", "other/b.jpg"]


def test_a_sequence_of_paths_is_used_unchanged(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "s/b.dat")
    assert [source.name for source in find_images([tmp_path / "s" / "b.dat", str(tmp_path / "a.jpg")])] == [
        "a.jpg",
        "s/b.dat",
    ]
    with pytest.raises(ValueError, match="input is an empty list"):
        find_images([])


def test_an_iterator_of_paths_is_a_list_of_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "v.mp4")
    assert find_images(tmp_path / name for name in ("b.jpg", "a.jpg")) == find_images(
        [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    )
    assert [clip.name for clip in find_clips(iter([tmp_path / "v.mp4"]))] == ["v.mp4"]
    assert choose_inputs((tmp_path / name for name in ("a.jpg", "v.mp4")), "images", False).sources[0].name == "a.jpg"
    with pytest.raises(TypeError, match="input must hold paths, got ndarray; predict takes images in memory"):
        find_images(np.zeros((2, 3, 3), np.uint8) for _ in range(2))  # type: ignore[arg-type,misc]
    with pytest.raises(ValueError, match="input is an empty list"):
        find_images(iter(()))


def test_images_of_formats_that_are_not_read_are_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "in/a.jpg", "in/b.CR2", "in/sub/c.psd", "in/sub/d.cr2", "in/.e.cr2", "in/notes.txt", "in/v.mp4")
    sentence = (
        "3 files left out (2 .cr2, 1 .psd), such as b.CR2: the format cannot be read; convert them, to PNG for example"
    )
    for source in (tmp_path / "in", f"{tmp_path}/in/**/*.*"):
        assert list_input(source).unread() == sentence
        assert choose_inputs(source, "images", False).notes[-1] == sentence
        assert choose_inputs(source, "clips", False).notes[-1] == sentence
    assert [source.name for source in find_images(tmp_path / "in")] == ["a.jpg"]
    assert caplog.messages == [sentence]
    assert list_input([tmp_path / "in" / "b.CR2"]).unread() is None  # named one by one, it is read and fails by name
    (tmp_path / "in" / "a.jpg").unlink()
    with pytest.raises(ValueError, match=re.escape(sentence)):
        find_images(tmp_path / "in")
    (tmp_path / "in" / "v.mp4").unlink()
    with pytest.raises(ValueError, match=f"holds no clip, .*; {re.escape(sentence)}"):
        find_clips(tmp_path / "in")


def test_heic_is_left_out_or_read_as_pillow_heif_is_installed(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.HEIC")
    if heif_is_readable():
        assert names_of(tmp_path) == ["a.png", "b.HEIC"]
    else:
        assert list_input(tmp_path).unread() == (
            "1 file left out (1 .heic), b.HEIC: the format cannot be read; pip install 'eigenseg[heif]' to read HEIC"
        )


def test_a_pipe_is_no_input(tmp_path: Path) -> None:
    for name in ("pipe.txt", "pipe.jpg", "pipe[1].jpg"):
        os.mkfifo(tmp_path / name)
        for find in (find_images, list_input, find_clips):
            with pytest.raises(ValueError, match=f"{re.escape(name)} is no regular file, expected an image, a video"):
                find(tmp_path / name)


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\n")
    assert names_of(tmp_path / "list.txt") == ["a.jpg"]


def clips_of(clips: list[ClipSource]) -> dict[str, list[str]]:
    """File names of the frames by the clips' names."""
    assert [clip.name for clip in clips] == sorted({clip.name for clip in clips})
    for clip in clips:
        assert all(frame.path.parent.resolve() == clip.path.resolve() for frame in clip.frames)
    return {clip.name: [frame.path.name for frame in clip.frames] for clip in clips}


def test_a_folder_holds_images_videos_and_numbered_frames(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "v.mp4", "z/V.MOV", "z/notes.md", "dog/f1.jpg", "dog/f10.jpg", "dog/f9.jpg", "x/y/0.png")
    touch(tmp_path, "x/y/01.png", "mixed/a1.jpg", "mixed/b2.jpg", "types/1.jpg", "types/2.png", "one/1.jpg", ".h/1.jpg")
    touch(tmp_path, ".v.mp4", "dog/.f2.jpg", "out/run.json", "out/manifest.jsonl", "out/1.jpg", "out/2.jpg", "out/v.mp4")
    listing = list_input(tmp_path)
    assert listing.images == find_images(tmp_path)
    assert [(clip.name, clip.path, clip.frames) for clip in listing.videos] == [
        ("v.mp4", tmp_path / "v.mp4", ()),
        ("z/V.MOV", tmp_path / "z" / "V.MOV", ()),
    ]
    assert clips_of(listing.sequences) == {"dog": ["f1.jpg", "f9.jpg", "f10.jpg"], "x/y": ["0.png", "01.png"]}
    others = {tmp_path.name: ["a.jpg"], "mixed": ["a1.jpg", "b2.jpg"], "types": ["1.jpg", "2.png"], "one": ["1.jpg"]}
    assert clips_of(listing.folders) == dict(sorted({**clips_of(listing.sequences), **others}.items()))
    assert {frame for clip in listing.folders for frame in clip.frames} == set(listing.images)


def test_the_input_itself_may_be_a_clip_and_gives_it_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "dog/1.jpg", "dog/2.jpg", "v.webm")
    monkeypatch.chdir(tmp_path / "dog")
    for source in (tmp_path / "dog", ".", "../dog/", f"{tmp_path}/dog/*.jpg", ["1.jpg", "2.jpg"], [tmp_path / "dog"]):
        assert clips_of(list_input(source).sequences) == {"dog": ["1.jpg", "2.jpg"]}
    listing = list_input(tmp_path / "v.webm")
    assert [(clip.name, clip.path) for clip in listing.videos] == [("v.webm", tmp_path / "v.webm")]
    assert (listing.images, listing.sequences, listing.folders) == ([], [], [])


def test_a_subfolder_of_the_same_name_as_the_input_has_another_name(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.jpg", "dog/dog/2.jpg")
    assert clips_of(list_input(tmp_path / "dog").folders) == {"dog": ["2.jpg"], "dog_": ["1.jpg"]}


def test_a_pattern_may_match_videos_images_and_folders_of_frames(tmp_path: Path) -> None:
    touch(tmp_path, "a/v1.mp4", "a/v2.mp4", "a/dog/1.jpg", "a/dog/2.jpg", "a/cat/x.jpg", "a/empty/x.txt", "a/p.jpg")
    listing = list_input(f"{tmp_path}/a/*")
    assert [clip.name for clip in listing.videos] == ["v1.mp4", "v2.mp4"]
    assert listing.images == find_images(f"{tmp_path}/a/*")
    assert [image.name for image in listing.images] == ["p.jpg"]
    assert clips_of(listing.sequences) == {"dog": ["1.jpg", "2.jpg"]}
    assert clips_of(listing.folders) == {"a": ["p.jpg"], "cat": ["x.jpg"], "dog": ["1.jpg", "2.jpg"]}
    assert clips_of(list_input(f"{tmp_path}/a/*/*.jpg").folders) == {"cat": ["x.jpg"], "dog": ["1.jpg", "2.jpg"]}
    assert clips_of(list_input(f"{tmp_path}/**/2.jpg").folders) == {"dog": ["2.jpg"]}
    touch(tmp_path, "b/deep/1.jpg", "b/v.mp4")
    listing = list_input(f"{tmp_path}/b/**/*.*")
    assert listing.images == find_images(f"{tmp_path}/b/**/*.jpg")
    assert [clip.name for clip in (*listing.videos, *listing.folders)] == ["v.mp4", "deep"]
    assert list_input(f"{tmp_path}/none*") == InputListing([], [], [], [])


def test_a_list_may_name_videos_images_and_folders_of_frames(tmp_path: Path) -> None:
    touch(tmp_path, "v.mkv", "p.jpg", "q.any", "dog/1.jpg", "dog/2.jpg")
    (tmp_path / "list.txt").write_text("v.mkv\np.jpg\nq.any\ndog\n")
    for source in (tmp_path / "list.txt", [tmp_path / name for name in ("v.mkv", "p.jpg", "q.any", "dog")]):
        listing = list_input(source)
        assert [clip.name for clip in listing.videos] == ["v.mkv"]
        assert [image.name for image in listing.images] == ["p.jpg", "q.any"]
        assert clips_of(listing.sequences) == {"dog": ["1.jpg", "2.jpg"]}


def test_an_input_without_images_is_listed_empty(tmp_path: Path) -> None:
    touch(tmp_path, "empty/readme.md")
    (tmp_path / "none.txt").write_text("\n# nothing\n\n")
    for source in (tmp_path / "empty", tmp_path / "none.txt", f"{tmp_path}/empty/*"):
        assert list_input(source) == InputListing([], [], [], [])
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        list_input(tmp_path / "nowhere")
    for nothing in ("", ()):
        with pytest.raises(ValueError, match="input is empty|input is an empty list"):
            list_input(nothing)


def test_a_video_among_images_is_pointed_to_what_reads_it(tmp_path: Path) -> None:
    touch(tmp_path, "v.avi")
    with pytest.raises(
        ValueError,
        match=r"v\.avi is a video, not an image; input_kind=clips or a video method, such as method=per_frame, reads",
    ):
        find_images(tmp_path / "v.avi")


def test_a_stamp_changes_with_the_files_and_is_none_if_they_are_gone(tmp_path: Path) -> None:
    touch(tmp_path, "v.mp4", "dog/1.jpg", "dog/2.jpg")
    for i, name in enumerate(("v.mp4", "dog/1.jpg", "dog/2.jpg")):
        (tmp_path / name).write_bytes(b"x" * (5 + i))
        os.utime(tmp_path / name, ns=(0, 1000 * (i + 1)))
    listing = list_input(tmp_path)
    (video,), (dog,) = listing.videos, listing.folders
    assert listing.images[0].stamp() == [6, 2000]
    assert video.stamp() == [5, 1000]
    assert dog.stamp() == [2, 13, 3000]
    os.utime(tmp_path / "dog" / "1.jpg", ns=(0, 9000))
    assert dog.stamp() == [2, 13, 9000]
    (tmp_path / "dog" / "1.jpg").unlink()
    assert (listing.images[0].stamp(), dog.stamp()) == (None, [1, 7, 3000])
    (tmp_path / "dog" / "2.jpg").unlink()
    (tmp_path / "v.mp4").unlink()
    assert (dog.stamp(), video.stamp()) == (None, None)
