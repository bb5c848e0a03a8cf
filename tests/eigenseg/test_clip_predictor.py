"""A predictor of images or of clips, as the method asks; parts and inputs that do not fit are refused with what would."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from toy_clips import disc_frame, disc_frames, write_frames, write_movie

from eigenseg import (
    LOST,
    Clip,
    ClipPredictor,
    Instances,
    MaskCut,
    PerFrame,
    Predictor,
    Preprocess,
    TokenCut,
    Tracks,
    build_predictor,
    open_clip,
)
from eigenseg.cli.main import main
from eigenseg.data import UnreadableFrame, encode_masks
from eigenseg.discovery import ColorTexture, PlainImage
from eigenseg.segment import FOUND
from eigenseg.segment.parts import PartHierarchy
from eigenseg.video import ClipFeatures

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ["preprocess.resize=72"]
TOY = """\
from eigenseg.data import Instances
from eigenseg.discovery import PlainImage

class Toy:
    def __init__(self, level=150):
        self.level = level
    def prepare(self, image):
        return PlainImage.of(image)
    def infer(self, batch):
        masks = [one.image.mean(axis=2) > self.level for one in batch]
        return [Instances.from_masks(mask[None], [1.0], "no object: nothing is bright") for mask in masks]
    def to(self, device):
        return self
    def provenance(self):
        return {"weights": {"source": "toy"}}
"""


class Bright:
    """An image model: what is brighter than 150 is one object. It remembers its device."""

    prepare = staticmethod(PlainImage.of)
    device: torch.device | None = None

    def infer(self, batch: Sequence[PlainImage]) -> list[Instances]:
        masks = [one.image.mean(axis=2) > 150 for one in batch]
        return [Instances.from_masks(mask[None], [1.0], "no object: nothing is bright") for mask in masks]

    def to(self, device: torch.device) -> Bright:
        self.device = device
        return self

    def provenance(self) -> dict[str, Any]:
        return {"weights": {"source": "bright"}}


class FirstPatch:
    """A video method on features: the first patch of every readable frame."""

    needs, preprocess, needs_attention = "features", Preprocess(mode="pad"), False

    def __init__(self) -> None:
        self.seen: Any = None

    def __call__(self, clip: Clip, frames: ClipFeatures) -> Tracks:
        self.seen = frames
        masks: list[Any] = [None] * len(clip)
        for window in frames.windows(2):
            for t, geometry in zip(window.frames, window.features.geometries, strict=True):
                mask = torch.zeros(1, *window.features.grid, dtype=torch.bool)
                mask[0, 0, 0] = True
                masks[t] = encode_masks(geometry.masks_to_image(mask).numpy())[0]
        return Tracks((tuple(masks),), [0.5], [4], clip.frame_names, clip.image_size)


class WithAttention(FirstPatch):
    needs_attention = True


class UpperHalf:
    """A video method that needs nothing: the upper half of every frame."""

    needs = None

    def __call__(self, clip: Clip, frames: None) -> Tracks:
        assert frames is None
        mask = np.zeros((1, *clip.image_size), dtype=bool)
        mask[:, : clip.image_size[0] // 2] = True
        return Tracks((tuple(encode_masks(mask) * len(clip)),), [0.5], [1], clip.frame_names, clip.image_size)

    def to(self, device: torch.device) -> UpperHalf:
        return self


class LeftHalf:
    """A refiner that keeps the left half of every mask, and drops what lies right of the middle."""

    def __init__(self) -> None:
        self.images: list[tuple[int, ...]] = []

    def to(self, device: torch.device) -> LeftHalf:
        return self

    def __call__(self, images: Sequence[NDArray[np.uint8]], instances: Sequence[Instances]) -> list[Instances]:
        self.images += [image.shape for image in images]
        results = []
        for one in instances:
            masks = np.array(one.masks)
            masks[:, :, one.image_size[1] // 2 :] = False
            kept = np.flatnonzero(masks.any(axis=(1, 2)))
            extras = {name: [values[i] for i in kept] for name, values in one.extras.items()}
            results.append(Instances(masks[kept], one.scores[kept], one.boxes[kept], one.image_size, extras=extras))
        return results


def clip(length: int = 4) -> Clip:
    return Clip.from_array(disc_frames(length))


def shown(tracks: Tracks, t: int) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = tracks.label_map(t) > 0
    return mask


def built(method: str | Path | None, *overrides: str, backbone: str | None = "color_texture") -> Any:
    return build_predictor(method, backbone=backbone, device="cpu", overrides=[*SMALL, *overrides])


@pytest.mark.parametrize("method", ["tokencut", "maskcut", "lost", None])
def test_an_image_method_by_name_gives_a_predictor_of_images(method: str | None) -> None:
    predictor = built(method)
    assert type(predictor) is Predictor
    assert type(Predictor.from_config(method, backbone="color_texture", device="cpu")) is Predictor
    assert len(predictor(disc_frame(0)[0])) >= 1


def test_per_frame_by_name_gives_a_predictor_of_clips() -> None:
    for predictor in (built("per_frame"), Predictor.from_config("per_frame", backbone="color_texture", device="cpu")):
        assert type(predictor) is ClipPredictor
        assert type(predictor.method.base) is TokenCut
    tracks = built("per_frame")(clip())
    images = built("tokencut")
    for t in range(4):
        np.testing.assert_array_equal(shown(tracks, t), images(clip()[t]).masks[0])


def test_a_clip_is_taken_as_a_clip_a_folder_or_a_video_file(tmp_path: Path) -> None:
    predictor = ClipPredictor(None, PerFrame(Bright()), device="cpu")
    folder, movie = write_frames(tmp_path / "walk", 4), write_movie(tmp_path / "walk.mp4", 4)
    tracks = predictor(open_clip(folder))
    for same in (folder, str(folder)):
        assert predictor(same).equals(tracks)
    for t in range(4):
        np.testing.assert_array_equal(shown(tracks, t), disc_frame(t)[1])
    decoded = predictor(movie)
    assert decoded.equals(predictor(open_clip(movie)))
    assert (decoded.frame_names, decoded.frame_rate) == (("00000", "00001", "00002", "00003"), 25.0)


def test_the_base_of_per_frame_is_named_and_set_in_overrides() -> None:
    predictor = built("per_frame", "method.base=maskcut")
    assert type(predictor.method.base) is MaskCut
    predictor = built("per_frame", "method.base.tau=0.3", "method.max_gap=2")
    assert (predictor.method.base.tau, predictor.method.max_gap) == (0.3, 2)
    predictor = built("per_frame", "method.base=maskcut", "method.base.tau=0.45", "method.base.max_masks=2")
    assert (type(predictor.method.base), predictor.method.base.tau) == (MaskCut, 0.45)
    assert type(built("per_frame", "method.base=lost").method.base) is LOST
    assert type(built(None, "method=per_frame", "method.base=lost").method.base) is LOST
    with pytest.raises(ValueError, match="unknown method 'magic'; known: "):
        built("per_frame", "method.base=magic")


Extract = Callable[..., tuple[int, str, str]]


@pytest.fixture
def extract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Extract:
    """``eigenseg extract`` of a folder of three frames, in an empty folder: exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "walk", 3)

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["extract", *arguments, "input=walk", "output.overlays=false", *SMALL])
        return code, *capsys.readouterr()

    return command


def settings(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())["config"]["method"]
    return content


def test_the_base_of_per_frame_is_named_and_set_on_the_command_line(extract: Extract, tmp_path: Path) -> None:
    command = ["method=per_frame", "backbone=color_texture", "output.dir=out"]
    assert extract(*command, "method.base=lost")[0] == 0
    assert settings(tmp_path / "out")["base"]["_target_"] == "eigenseg.discovery.LOST"
    code, _, err = extract(*command, "method.base.tau=0.3")
    assert code == 2
    assert "Different: method.base._target_ (eigenseg.discovery.LOST before, eigenseg.discovery.TokenCut now)" in err
    assert extract(*command, "method.base.tau=0.3", "resume=false")[0] == 0
    assert settings(tmp_path / "out")["base"]["tau"] == 0.3
    assert "Different: method.base.tau (0.3 before, 0.2 now)" in extract(*command)[2]


def test_a_sweep_over_bases_gives_each_its_own_folder(extract: Extract, tmp_path: Path) -> None:
    arguments = ["-m", "method=per_frame", "method.base=tokencut,lost", "backbone=color_texture", "output.dir=sweep"]
    assert extract(*arguments)[0] == 0
    folders = sorted(path.parent for path in (tmp_path / "sweep").rglob("run.json"))
    assert [settings(folder)["base"]["_target_"] for folder in folders] == [
        "eigenseg.discovery.TokenCut",
        "eigenseg.discovery.LOST",
    ]
    assert extract(*arguments)[1].count("1 already done") == 2


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model of the user's own in a module and two yamls, in the folder ``conf``."""
    (tmp_path / "toy_model.py").write_text(TOY)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "toy.yaml").write_text("_target_: toy_model.Toy\nlevel: 150\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "conf"
    sys.modules.pop("toy_model", None)


@pytest.mark.parametrize("null", ["backbone=null", "backbone: null in the yaml"])
def test_a_model_with_its_own_features_takes_no_backbone(toy: Path, null: str) -> None:
    if null.endswith("yaml"):
        yaml = toy / "method" / "toy.yaml"
        yaml.write_text("defaults:\n  - override /backbone@_global_.backbone: null\n\n" + yaml.read_text())
    overrides = ["allow_targets=[toy_model]"] + ["backbone=null"] * (not null.endswith("yaml"))
    predictor = build_predictor("toy", device="cpu", overrides=overrides, config_dir=toy)
    assert (type(predictor), predictor.backbone, predictor.preprocess) == (Predictor, None, Preprocess())
    np.testing.assert_array_equal(predictor(disc_frame(1)[0]).masks[0], disc_frame(1)[1])
    with pytest.raises(ValueError, match="Toy has no backbone whose features could be extracted"):
        predictor.features(disc_frame(1)[0])


def test_a_model_may_be_the_base_of_per_frame(toy: Path) -> None:
    overrides = ["allow_targets=[toy_model]", "method.base=toy", "backbone=null", "method.base.level=140"]
    predictor = build_predictor("per_frame", device="cpu", overrides=overrides, config_dir=toy)
    assert (type(predictor), predictor.method.base.level) == (ClipPredictor, 140)
    np.testing.assert_array_equal(shown(predictor(clip()), 3), disc_frame(3)[1])
    assert predictor.provenance()["base"]["weights"] == {"source": "toy"}


OWN = """\
from eigenseg.data import Tracks, UnreadableFrame

class FirstFrame:
    needs = {needs!r}
    def __init__(self, base=None):
        self.base = base
    def __call__(self, clip, frames):
        masks = [None] * len(clip)
        if frames is not None:
            masks[0] = next(iter(frames(clip))).rles()[0]
            return Tracks((masks,), [1.0], [1], clip.frame_names, clip.image_size)
        return Tracks.empty(clip.frame_names, clip.image_size, "it does not look")
"""


def test_a_video_method_of_ones_own_takes_a_base_by_name(toy: Path) -> None:
    (toy.parent / "toy_model.py").write_text(OWN.format(needs="predictor"))
    (toy / "method" / "first.yaml").write_text(
        "defaults: [/method@base: tokencut, _self_]\n_target_: toy_model.FirstFrame\n"
    )
    for base in ("tokencut", "lost"):
        settings = ["allow_targets=[toy_model]", f"method.base={base}", *SMALL]
        predictor = build_predictor("first", backbone="color_texture", device="cpu", overrides=settings, config_dir=toy)
        assert type(predictor.method.base).__name__.lower() == base
        assert predictor(clip()).present().tolist() == [[True, False, False, False]]


def test_a_method_without_features_says_so_before_weights_are_looked_for(toy: Path) -> None:
    (toy.parent / "toy_model.py").write_text(OWN.format(needs=None))
    yaml = toy / "method" / "first.yaml"
    yaml.write_text("_target_: toy_model.FirstFrame\n")
    own: dict[str, Any] = {"device": "cpu", "overrides": ["allow_targets=[toy_model]"], "config_dir": toy}
    with pytest.raises(ValueError, match="FirstFrame needs no backbone; set backbone=null .in its yaml: override"):
        build_predictor("first", backbone="dino_vitb8", **own)
    yaml.write_text("defaults: [override /backbone@_global_.backbone: null]\n_target_: toy_model.FirstFrame\n")
    assert build_predictor("first", **own)(clip()).reason == "it does not look"


def test_models_are_moved_to_the_device() -> None:
    alone, base = Bright(), Bright()
    Predictor(None, alone, device="cpu")
    ClipPredictor(None, PerFrame(base), device="cpu")
    assert alone.device == base.device == torch.device("cpu")


class Nothing:
    """No method at all."""


class LacksBase:
    needs = "predictor"

    def __call__(self, clip: Clip, frames: Any) -> None: ...


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Predictor(ColorTexture(), FOUND(), device="cpu"),
            "method FOUND needs CLS attention, which backbone ColorTexture does not have; choose a ViT, such as",
        ),
        (
            lambda: ClipPredictor(ColorTexture(), PerFrame(FOUND()), device="cpu"),
            "method FOUND needs CLS attention, which backbone ColorTexture does not have; choose a ViT, such as",
        ),
        (
            lambda: ClipPredictor(ColorTexture(), WithAttention(), device="cpu"),
            "method WithAttention needs CLS attention, which backbone ColorTexture does not have; choose a ViT",
        ),
        (
            lambda: built("per_frame", "method.base=found"),
            "method FOUND needs CLS attention, which backbone ColorTexture does not have; choose a ViT, such as",
        ),
        (
            lambda: Predictor(ColorTexture(), Bright(), device="cpu"),
            "method Bright needs no backbone; set backbone=null (in its yaml: override /backbone@",
        ),
        (
            lambda: ClipPredictor(ColorTexture(), PerFrame(Bright()), device="cpu"),
            "method Bright needs no backbone; set backbone=null (in its yaml: override /backbone@",
        ),
        (
            lambda: ClipPredictor(ColorTexture(), UpperHalf(), device="cpu"),
            "method UpperHalf needs no backbone; set backbone=null (in its yaml: override /backbone@",
        ),
        (
            lambda: Predictor(None, TokenCut(), device="cpu"),
            "method TokenCut works on features and backbone is null; choose one, such as backbone=dino_vits16",
        ),
        (
            lambda: ClipPredictor(None, PerFrame(TokenCut()), device="cpu"),
            "method TokenCut works on features and backbone is null; choose one, such as backbone=dino_vits16",
        ),
        (
            lambda: ClipPredictor(None, FirstPatch(), device="cpu"),
            "method FirstPatch works on features and backbone is null; choose one, such as backbone=dino_vits16",
        ),
        (
            lambda: build_predictor("tokencut", device="cpu", overrides=["backbone=null"]),
            "method TokenCut works on features and backbone is null; choose one, such as backbone=dino_vits16",
        ),
        (
            lambda: Predictor(ColorTexture(), PerFrame(TokenCut()), device="cpu"),
            "PerFrame works on clips: use ClipPredictor, or build_predictor, which chooses by the method",
        ),
        (
            lambda: ClipPredictor(ColorTexture(), TokenCut(), device="cpu"),
            "TokenCut works on images: use PerFrame(TokenCut(...))",
        ),
        (lambda: Predictor(ColorTexture(), Nothing(), device="cpu"), "Nothing is no method: an image method is callable"),
        (lambda: ClipPredictor(ColorTexture(), Nothing(), device="cpu"), "Nothing is no method: an image method is"),
        (
            lambda: ClipPredictor(ColorTexture(), PerFrame(Nothing()), device="cpu"),
            "Nothing is no method: an image method is callable",
        ),
        (
            lambda: ClipPredictor(None, LacksBase(), device="cpu"),
            "LacksBase has needs='predictor' and no attribute 'base'",
        ),
        (
            lambda: built("per_frame", "method.base=per_frame"),
            "base must be an image method, got the video method PerFrame",
        ),
        (lambda: ClipPredictor(ColorTexture(), PerFrame(TokenCut()), device="cuda:77"), "device cuda:77 is not available"),
    ],
)
def test_parts_that_do_not_fit_are_refused_at_construction(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        build()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_yaml_that_names_no_method_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("_target_: eigenseg.data.Preprocess\nmode: pad\n")
    with pytest.raises(ValueError, match="Preprocess is no method: an image method is callable"):
        built(tmp_path / "other.yaml")


CLIPS = "method=per_frame method.base=NAME follows the objects of an image method through a clip"
IMAGES = "image methods, such as method=tokencut, take images"


def test_a_predictor_of_images_refuses_clips_and_says_what_takes_them(tmp_path: Path) -> None:
    predictor = Predictor(ColorTexture(), TokenCut(), device="cpu")
    inputs: list[tuple[Any, type[Exception], str]] = [
        (clip(), TypeError, f"TokenCut works on images, got clip 'clip'; {CLIPS}"),
        (tmp_path / "walk.mp4", ValueError, f"TokenCut works on images, {tmp_path / 'walk.mp4'} is a video; {CLIPS}"),
        ("gone/walk.MOV", ValueError, f"TokenCut works on images, gone/walk.MOV is a video; {CLIPS}"),
        (
            disc_frames(3),
            TypeError,
            f"TokenCut works on images, got an array (3, 72, 96, 3); predict takes several, and {CLIPS} (Clip.from_array)",
        ),
    ]
    for given, error, message in inputs:
        with pytest.raises(error) as caught:
            predictor(given)
        assert str(caught.value) == message


def test_a_predictor_of_clips_refuses_images_and_says_what_takes_them(tmp_path: Path) -> None:
    predictor = ClipPredictor(ColorTexture(), PerFrame(TokenCut()), device="cpu")
    image = disc_frame(0)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    clips = "PerFrame works on clips: a video file, a folder of frames, or a Clip (Clip.from_array for arrays), got"
    inputs: list[tuple[Any, type[Exception], str]] = [
        (tmp_path / "a.png", ValueError, f"PerFrame works on clips, {tmp_path / 'a.png'} is an image; {IMAGES}"),
        ("gone/a.JPG", ValueError, f"PerFrame works on clips, gone/a.JPG is an image; {IMAGES}"),
        (Image.fromarray(image), TypeError, f"{clips} an image; {IMAGES}"),
        (image, TypeError, f"{clips} an image; {IMAGES}"),
        (disc_frames(3), TypeError, f"{clips} an array (3, 72, 96, 3); {IMAGES}"),
        (None, TypeError, f"{clips} NoneType; {IMAGES}"),
        ([tmp_path / "a.png"], TypeError, f"{clips} list; {IMAGES}"),
    ]
    for given, error, message in inputs:
        with pytest.raises(error) as caught:
            predictor(given)
        assert str(caught.value) == message
    with pytest.raises(FileNotFoundError, match="no such video"):
        predictor(tmp_path / "gone")


def test_frames_are_refined_before_they_are_linked() -> None:
    refiner, linked = LeftHalf(), PerFrame(Bright(), min_iou=0.6)
    whole = ClipPredictor(None, linked, device="cpu")(clip(8))
    tracks = ClipPredictor(None, linked, device="cpu", refiner=refiner)(clip(8))
    assert refiner.images == [(72, 96, 3)] * 8
    for t in range(8):
        expected = disc_frame(t)[1]
        expected[:, 48:] = False
        np.testing.assert_array_equal(shown(tracks, t), expected)
    # What is left of the disc shrinks faster than the disc moves, so that the refined masks are no single track.
    assert (len(whole), len(tracks)) == (1, 2)


def test_tracks_of_a_method_on_features_are_refined_afterwards() -> None:
    refiner = LeftHalf()
    predictor = ClipPredictor(ColorTexture(), FirstPatch(), Preprocess(resize=72), device="cpu", refiner=refiner)
    before = ClipPredictor(ColorTexture(), FirstPatch(), Preprocess(resize=72), device="cpu")(clip())
    after = predictor(clip())
    assert refiner.images == [(72, 96, 3)] * 4
    assert after.equals(before)  # the first patch lies in the left half
    upper = ClipPredictor(None, UpperHalf(), device="cpu", refiner=LeftHalf())(clip())
    expected = np.zeros((72, 96), dtype=bool)
    expected[:36, :48] = True
    for t in range(4):
        np.testing.assert_array_equal(shown(upper, t), expected)


def test_a_method_that_needs_nothing_is_given_nothing_and_its_frames_are_counted() -> None:
    counted: list[int] = []
    tracks = ClipPredictor(None, UpperHalf(), device="cpu").predict(clip(5), on_frames=counted.append)
    assert (len(tracks), sum(counted)) == (1, 5)
    assert shown(tracks, 4)[:36].all()


@pytest.mark.parametrize("name", ["base model", "base method", "features", "nothing"])
def test_every_frame_is_counted_once_the_unreadable_ones_too(name: str, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "walk", 5, broken=(0, 3))
    parts: dict[str, tuple[Any, Any]] = {
        "base model": (None, PerFrame(Bright())),
        "base method": (ColorTexture(), PerFrame(TokenCut())),
        "features": (ColorTexture(), FirstPatch()),
        "nothing": (None, UpperHalf()),
    }
    for refiner in (None, LeftHalf()):
        counted: list[int] = []
        predictor = ClipPredictor(*parts[name], Preprocess(resize=72), "cpu", refiner)
        if name == "nothing" and refiner is not None:
            continue  # it claims to see objects in frames that cannot be read, which cannot be refined
        tracks = predictor.predict(folder, on_frames=counted.append)
        assert sum(counted) == 5
        if name != "nothing":
            assert list(tracks.metadata["unreadable"]) == ["00000", "00003"]


def test_a_stream_gives_every_clip_of_a_folder_in_order(tmp_path: Path) -> None:
    for i, name in enumerate(("b", "a/deep", "c")):
        write_frames(tmp_path / "clips" / name, 3, seed=i)
    write_movie(tmp_path / "clips" / "d.mp4", 3, seed=3)
    predictor = ClipPredictor(None, PerFrame(Bright()), device="cpu")
    streamed = list(predictor.stream(tmp_path / "clips"))
    assert [path for path, _ in streamed] == [str(tmp_path / "clips" / name) for name in ("a/deep", "b", "c", "d.mp4")]
    for path, tracks in streamed:
        assert tracks.equals(predictor(path))


def test_a_stream_raises_or_skips_a_clip_that_cannot_be_processed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i, name in enumerate("abc"):
        write_frames(tmp_path / name, 3, seed=i, broken=(0, 1, 2) if name == "b" else ())
    predictor = ClipPredictor(None, PerFrame(Bright()), device="cpu")
    with pytest.raises(ValueError, match="none of its 3 frames can be read"):
        list(predictor.stream(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert [Path(path).name for path, _ in predictor.stream(tmp_path, errors="skip")] == ["a", "c"]
    assert f"{tmp_path / 'b'} skipped: " in caplog.text
    with pytest.raises(ValueError, match="errors must be 'raise' or 'skip', got 'ignore'"):
        predictor.stream(tmp_path, errors="ignore")  # type: ignore[arg-type]


def test_a_truncated_video_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_movie(tmp_path / "a.mp4", 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])
    predictor = ClipPredictor(None, PerFrame(Bright()), device="cpu")
    for predict in (predictor, lambda path: list(predictor.stream(path))):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            predict(path)
        (message,) = caplog.messages
        assert message.startswith(f"{path} is truncated: it should hold 40 frames, ")


def test_a_stream_of_no_clip_fails_at_once(tmp_path: Path) -> None:
    predictor = ClipPredictor(None, PerFrame(Bright()), device="cpu")
    (tmp_path / "photos").mkdir()
    Image.fromarray(disc_frame(0)[0]).save(tmp_path / "photos" / "rex.png")
    with pytest.raises(ValueError, match="holds no clip, that is a video or a folder of numbered frames; it holds 1 image"):
        predictor.stream(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        predictor.stream(tmp_path / "gone")
    assert len(list(predictor.stream(tmp_path, every_folder=True))) == 1


def test_provenance_names_every_part_and_its_revision() -> None:
    parts = ClipPredictor(ColorTexture(), PerFrame(TokenCut()), device="cpu", refiner=LeftHalf()).provenance()
    assert parts.keys() == {"backbone", "method", "base", "refiner", "solver"}
    assert parts["method"] == {"class": "eigenseg.video.per_frame.PerFrame", "revision": 1}
    assert parts["base"]["class"] == "eigenseg.discovery.tokencut.TokenCut"
    assert parts["backbone"]["weights"] == {"source": "none"}


def test_the_revision_of_a_method_within_an_image_method_counts_too() -> None:
    parts = Predictor(ColorTexture(), PartHierarchy(MaskCut()), device="cpu").provenance()
    assert parts.keys() == {"backbone", "method", "base", "solver"}
    assert parts["base"] == {"class": "eigenseg.segment.maskcut.maskcut.MaskCut", "revision": MaskCut.revision}


KEYS = """\
import hashlib, pathlib
from dataclasses import replace
from eigenseg.discovery import ColorTexture

class Keys(ColorTexture):
    def __init__(self, weights=None):
        super().__init__()
        self.content = b"" if weights is None else pathlib.Path(weights).read_bytes()
    def __call__(self, pixels, geometries, attention=False):
        return replace(super().__call__(pixels, geometries, attention), kind="key")
    def provenance(self):
        weights = {"source": "file", "sha256": hashlib.sha256(self.content).hexdigest()}
        return {"architecture": "keys", "weights": weights}
"""


@pytest.fixture
def keys(extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Arguments of a backbone of the user's own, with features that FOUND's head takes and a file of weights."""
    (tmp_path / "keys_backbone.py").write_text(KEYS)
    (tmp_path / "conf" / "backbone").mkdir(parents=True)
    (tmp_path / "conf" / "backbone" / "keys.yaml").write_text("_target_: keys_backbone.Keys\nweights: null\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield ["--config-dir", "conf", "backbone=keys", "allow_targets=[keys_backbone]", "output.dir=out"]
    sys.modules.pop("keys_backbone", None)


def save_head(path: Path, seed: int) -> None:
    weight = torch.randn(1, 23, 1, 1, generator=torch.Generator().manual_seed(seed))
    save_file({"decoder.weight": weight, "decoder.bias": torch.zeros(1)}, str(path))


@pytest.mark.parametrize("nested", [False, True])
def test_a_head_that_is_replaced_under_the_same_name_is_noticed(
    extract: Extract, keys: list[str], tmp_path: Path, nested: bool
) -> None:
    prefix = "method.base" if nested else "method"
    named = ["method=per_frame", "method.base=found"] if nested else ["method=found"]
    command = [*keys, *named, f"{prefix}.mode=head"]
    save_head(tmp_path / "head.safetensors", 0)
    assert extract(*command, f"{prefix}.head=head.safetensors")[0] == 0
    assert "already done" in extract(*command, f"{prefix}.head=head.safetensors")[1]
    save_head(tmp_path / "elsewhere.safetensors", 0)
    assert "already done" in extract(*command, f"{prefix}.head=elsewhere.safetensors")[1]
    save_head(tmp_path / "head.safetensors", 1)
    code, _, err = extract(*command, f"{prefix}.head=head.safetensors")
    assert code == 2
    assert "error: out holds results of another run" in err
    assert f"Different: {prefix}.head.sha256 (" in err


@pytest.mark.parametrize("method", ["tokencut", "per_frame"])
def test_other_weights_of_the_backbone_under_the_same_name_are_noticed(
    extract: Extract, keys: list[str], tmp_path: Path, method: str
) -> None:
    (tmp_path / "w").write_bytes(b"first")
    command = [*keys, f"method={method}", "backbone.weights=w"]
    assert extract(*command)[0] == 0
    assert "already done" in extract(*command)[1]
    (tmp_path / "w").write_bytes(b"other")
    code, _, err = extract(*command)
    assert code == 2
    assert "error: out holds results of another run" in err
    assert "backbone.weights.sha256 (" in err


class Returns:
    """A video method that needs nothing and returns what it was made with, or what that makes of the clip."""

    needs = None

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def __call__(self, clip: Clip, frames: None) -> Any:
        return self.returned(clip) if callable(self.returned) else self.returned


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (None, TypeError, r"Returns returned NoneType; it must return Tracks \(Tracks.empty if there is no object\)"),
        ([], TypeError, "Returns returned list; it must return Tracks"),
        (
            lambda clip: Tracks.empty(clip.frame_names[:2], clip.image_size, "none"),
            ValueError,
            "Returns returned tracks of 2 frames for a clip of 5; frame_names must be the clip's",
        ),
        (
            lambda clip: Tracks.empty(clip.frame_names, (36, 48), "none"),
            ValueError,
            r"Returns returned tracks of \[36, 48\] for a clip of \[72, 96\] \(H, W\)",
        ),
    ],
)
def test_a_method_that_returns_something_else_is_named_with_the_rule(
    returned: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ClipPredictor(None, Returns(returned), device="cpu")(clip(5))


def test_a_frame_that_a_method_read_in_vain_is_named_whatever_the_method_says(tmp_path: Path) -> None:
    def read_all(clip: Clip) -> Tracks:
        for t in range(len(clip)):
            try:
                clip[t]
            except UnreadableFrame:
                continue
        return Tracks.empty(clip.frame_names, clip.image_size, reason="")

    tracks = ClipPredictor(None, Returns(read_all), device="cpu")(write_frames(tmp_path / "walk", 4, broken=(1, 2)))
    assert list(tracks.metadata["unreadable"]) == ["00001", "00002"]
    assert tracks.reason == "no object; Returns gave no reason"
