"""A predictor joins preprocessing, backbone and method without changing what each of them says."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from eigenseg import Instances, Predictor, Preprocess, TokenCut
from eigenseg.data import FeatureGrid, Geometry
from eigenseg.data.images import ImageArray
from eigenseg.discovery import ColorTexture, PlainImage


class PatchMeans:
    """A backbone whose tokens are the mean colors of patches of 4 pixels; remembers its batches."""

    patch_size, mean, std = 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    preprocess, has_attention = Preprocess(), False

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, pixels: Tensor, geometries: Sequence[Geometry], attention: bool = False) -> FeatureGrid:
        self.batches.append(tuple(pixels.shape))
        means = torch.nn.functional.avg_pool2d(pixels, 4)
        return FeatureGrid(means.flatten(2).mT, (means.shape[2], means.shape[3]), "color", tuple(geometries))

    def to(self, device: torch.device) -> PatchMeans:
        return self

    def provenance(self) -> dict[str, object]:
        return {"weights": "none"}


class RedPatches:
    """A method that finds patches redder than the rest, so that its answer can be written down."""

    preprocess, needs_attention = Preprocess(mode="pad"), False

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        red = (features.tokens[..., 0] > 0.2).reshape(-1, *features.grid)
        results = []
        for geometry, mask in zip(features.geometries, red, strict=True):
            full = geometry.masks_to_image(mask)[None].numpy()
            boxes = np.array([[0, 0, geometry.image_size[1], geometry.image_size[0]]], dtype=np.float32)
            results.append(Instances(full, np.ones(1, dtype=np.float32), boxes, geometry.image_size))
        return results


class NeedsAttention(RedPatches):
    needs_attention = True


def red_image(height: int, width: int, red_columns: int) -> NDArray[np.uint8]:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, :red_columns, 0] = 255
    return pixels


def test_images_of_any_sizes_keep_their_order_and_their_own_sizes() -> None:
    images = [red_image(8, 16, 4), red_image(13, 9, 8), red_image(8, 16, 12), red_image(7, 15, 4)]
    backbone = PatchMeans()
    results = Predictor(backbone, RedPatches(), device="cpu").predict(images)
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result.masks[0], image[..., 0] > 0)
    assert sorted(backbone.batches) == [(1, 3, 16, 12), (3, 3, 8, 16)]  # equal grids were computed together


def test_path_pil_image_and_array_give_the_same(tmp_path: Path) -> None:
    image = red_image(8, 16, 4)
    Image.fromarray(image).save(tmp_path / "a.png")
    predictor = Predictor(PatchMeans(), RedPatches(), device="cpu")
    for same in (image, Image.fromarray(image), tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(predictor(same).masks[0], image[..., 0] > 0)


def test_an_image_of_one_color_has_no_object_and_is_not_shown_to_the_backbone() -> None:
    backbone = PatchMeans()
    result = Predictor(backbone, RedPatches(), device="cpu")(np.full((20, 30, 3), 77, dtype=np.uint8))
    assert len(result) == 0
    assert result.reason == "no object: the image has a single color"
    assert result.image_size == (20, 30)
    assert backbone.batches == []


def test_the_users_preprocessing_goes_before_the_backbones_and_that_before_the_methods() -> None:
    predictor = Predictor(ColorTexture(), TokenCut(), device="cpu")
    assert (predictor.preprocess.mode, predictor.preprocess.resize) == ("round", 240)
    predictor = Predictor(ColorTexture(), TokenCut(), Preprocess(resize=120), device="cpu")
    assert (predictor.preprocess.mode, predictor.preprocess.resize) == ("round", 120)
    predictor = Predictor(PatchMeans(), TokenCut(), Preprocess(max_tokens=9), device="cpu")
    assert (predictor.preprocess.mode, predictor.preprocess.max_tokens) == ("pad", 9)


def test_the_disc_is_found_by_tokencut_on_color_and_texture(disc: tuple[NDArray[np.uint8], NDArray[np.bool_]]) -> None:
    image, annotation = disc
    result = Predictor(ColorTexture(), TokenCut(), device="cpu")(image)
    mask = np.asarray(result.masks[0])
    assert mask[annotation].all()
    assert ndimage.distance_transform_edt(~annotation)[mask].max() < 24  # nothing further away than three patches


def test_stream_yields_paths_in_order_with_the_same_results(tmp_path: Path) -> None:
    for i in range(5):
        Image.fromarray(red_image(8, 16 + 4 * (i % 2), 4 * (i % 3 + 1))).save(tmp_path / f"{i}.png")
    predictor = Predictor(PatchMeans(), RedPatches(), device="cpu")
    streamed = list(predictor.stream(tmp_path, batch_size=2))
    assert [path for path, _ in streamed] == [str(tmp_path / f"{i}.png") for i in range(5)]
    for path, result in streamed:
        np.testing.assert_array_equal(result.masks, predictor(path).masks)


def test_stream_raises_or_skips_a_broken_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(red_image(8, 16, 4)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_bytes(b"")
    predictor = Predictor(PatchMeans(), RedPatches(), device="cpu")
    with pytest.raises(ValueError, match="a.png is empty"):
        list(predictor.stream(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert [Path(path).name for path, _ in predictor.stream(tmp_path, errors="skip")] == ["b.png"]
    assert "a.png is empty (0 bytes)" in caplog.text


def test_a_stream_of_nothing_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        Predictor(PatchMeans(), RedPatches(), device="cpu").stream(tmp_path / "nowhere")


def test_one_path_where_several_images_belong_is_rejected() -> None:
    with pytest.raises(TypeError, match="predict takes several images; for one call the predictor itself"):
        Predictor(PatchMeans(), RedPatches(), device="cpu").predict("dog.jpg")


def test_features_are_a_batch_of_one() -> None:
    image = red_image(8, 16, 4)
    result = Predictor(PatchMeans(), RedPatches(), device="cpu").features(image)
    np.testing.assert_array_equal(result.tokens[0, :, 0].reshape(2, 4).numpy(), [[1, 0, 0, 0], [1, 0, 0, 0]])


def test_a_method_that_needs_attention_rejects_a_backbone_without() -> None:
    with pytest.raises(ValueError, match="NeedsAttention needs CLS attention, which backbone PatchMeans does not have"):
        Predictor(PatchMeans(), NeedsAttention(), device="cpu")


def test_an_error_leaves_no_threads_behind(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    predictor = Predictor(PatchMeans(), RedPatches(), device="cpu")
    before = threading.active_count()
    with pytest.raises(ValueError, match="a.png is empty") as caught:
        predictor.predict([tmp_path / "a.png", *[red_image(8, 16, 4)] * 20])
    assert caught.value is not None  # the traceback holds what was running
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # readers that wait for nothing more end by themselves
    assert threading.active_count() == before


class Answers:
    """A method, a model and a refiner in one: its answer to every batch is what it was made with."""

    preprocess, needs_attention = Preprocess(), False

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, features: Any, images: Any) -> Any:
        return self.answer

    def to(self, device: torch.device) -> Answers:
        return self


class AnsweringModel(Answers):
    prepare = staticmethod(PlainImage.of)

    def infer(self, batch: Any) -> Any:
        return self.answer

    def provenance(self) -> dict[str, Any]:
        return {}


def no_object(height: int, width: int) -> Instances:
    return Instances.empty((height, width), "none")


@pytest.mark.parametrize("part", ["method", "model", "refiner"])
@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (None, TypeError, "returned NoneType; it must return a list with one Instances per image"),
        ([None], TypeError, "returned a list with NoneType in it; it must return a list with one Instances per image"),
        ([], ValueError, r"returned 0 results; it must return a list with one Instances per image \(1\)"),
        ([no_object(8, 16)] * 2, ValueError, "returned 2 results"),
        ([no_object(2, 4)], ValueError, r"returned masks of \[2, 4\] for an image of \[8, 16\] \(H, W\)"),
    ],
)
def test_a_part_that_answers_wrongly_is_named_with_the_rule(
    part: str, answer: Any, error: type[Exception], message: str
) -> None:
    made: dict[str, Callable[[], Predictor]] = {
        "method": lambda: Predictor(PatchMeans(), Answers(answer), device="cpu"),
        "model": lambda: Predictor(None, AnsweringModel(answer), device="cpu"),
        "refiner": lambda: Predictor(PatchMeans(), RedPatches(), device="cpu", refiner=Answers(answer)),
    }
    with pytest.raises(error, match=message):
        made[part]()(red_image(8, 16, 4))


def test_an_empty_answer_without_a_reason_gets_one() -> None:
    nothing = Instances(np.zeros((0, 8, 16), dtype=bool), np.zeros(0), np.zeros((0, 4)), (8, 16))
    result = Predictor(PatchMeans(), Answers([nothing]), device="cpu")(red_image(8, 16, 4))
    assert result.reason == "no object; Answers gave no reason"


TINY = ["backbone.weights=random", "+backbone.model_args={embed_dim:48,depth:2,num_heads:3}", "preprocess.resize=96"]


@pytest.mark.parametrize("method", ["tokencut", "deep_spectral", "found", "maskcut"])
def test_results_do_not_depend_on_the_default_dtype_of_the_program(method: str, disc: Any) -> None:
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            predictor = Predictor.from_config(method, backbone="dino_vits16", device="cpu", overrides=TINY)
            results.append(predictor(disc[0]))
            color_texture = ColorTexture()(torch.full((1, 3, 16, 16), 0.5), [Geometry((16, 16), (16, 16), (16, 16), 8)])
            assert color_texture.tokens.dtype == torch.float32
            assert torch.get_default_dtype() == dtype
        finally:
            torch.set_default_dtype(torch.float32)
    assert results[0].equals(results[1])
