"""The staged way from images to features gives the bits of the published order of steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from eigenseg.data import FeatureGrid, Geometry, Instances, Preprocess
from eigenseg.data.images import ImageArray
from eigenseg.discovery import FeatureExtractor, FeaturePredictor, ImageModel, ImagePredictor, PlainImage
from eigenseg.discovery.extractor import FittedImage

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Pixels:
    """A backbone that returns the pixels of its patches; remembers what it was shown."""

    patch_size, mean, std = 4, MEAN, STD
    preprocess, has_attention = Preprocess(), False

    def __init__(self) -> None:
        self.shown: list[Tensor] = []

    def __call__(self, pixels: Tensor, geometries: Sequence[Geometry], attention: bool = False) -> FeatureGrid:
        self.shown.append(pixels)
        patches = torch.nn.functional.unfold(pixels, 4, stride=4)
        grid = (pixels.shape[2] // 4, pixels.shape[3] // 4)
        return FeatureGrid(patches.mT, grid, "pixels", tuple(geometries))

    def to(self, device: torch.device) -> Pixels:
        return self

    def provenance(self) -> dict[str, object]:
        return {"weights": "none"}


class Whole:
    """A method that takes the whole image, and its attention flag."""

    preprocess, needs_attention = Preprocess(mode="pad"), False

    def __call__(self, features: FeatureGrid, images: Sequence[ImageArray]) -> list[Instances]:
        return [
            Instances(
                np.ones((1, *image.shape[:2]), bool), np.ones(1), np.array([[0, 0, *image.shape[1::-1]]]), image.shape[:2]
            )
            for image in images
        ]


def photo(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def published(image: NDArray[np.uint8], size: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    """Resize with Pillow, divide by 255, subtract the mean, divide by the deviation, then pad or crop."""
    resized = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
    values = torch.from_numpy(resized).permute(2, 0, 1).to(torch.float32) / 255
    values = (values - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    full = torch.zeros(3, *canvas)
    rows, columns = min(size[0], canvas[0]), min(size[1], canvas[1])
    full[:, :rows, :columns] = values[:, :rows, :columns]
    return full


@pytest.mark.parametrize("mode", ["pad", "crop", "round"])
def test_a_mixed_batch_is_bitwise_what_the_published_steps_give(mode: str) -> None:
    backbone = Pixels()
    extractor = FeatureExtractor(backbone, Preprocess(mode=mode, resize=22))  # type: ignore[arg-type]
    images = [photo(44, 46, 0), photo(44, 48, 1), photo(22, 24, 2)]
    buckets: dict[object, list[FittedImage]] = {}
    for image in images:
        fitted = extractor.prepare(image)
        assert fitted.pixels.dtype == torch.uint8
        buckets.setdefault(fitted.bucket, []).append(fitted)
    assert max(map(len, buckets.values())) > 1
    for batch in buckets.values():
        features = extractor.extract(batch)
        assert features.geometries == tuple(one.geometry for one in batch)
        for one, pixels in zip(batch, backbone.shown[-1], strict=True):
            assert torch.equal(pixels, published(one.image, one.geometry.scaled_size, one.geometry.input_size))


def test_the_users_preprocessing_goes_before_the_backbones_and_that_before_the_presets() -> None:
    backbone = Pixels()
    backbone.preprocess = Preprocess(mode="round")
    extractor = FeatureExtractor(backbone, Preprocess(resize=40), preset=Preprocess(mode="crop", resize=80, max_tokens=500))
    assert extractor.preprocess == Preprocess(mode="round", resize=40, max_tokens=500)


def test_a_prepared_image_knows_its_memory() -> None:
    fitted = FeatureExtractor(Pixels(), Preprocess(resize=20)).prepare(photo(40, 60, 0))
    assert fitted.nbytes == 3 * 40 * 60 + 3 * 20 * 32


def test_images_of_one_color_are_not_shown_to_the_backbone_and_keep_their_place() -> None:
    backbone = Pixels()
    predictor = FeaturePredictor(FeatureExtractor(backbone), Whole())
    flat = np.full((8, 12, 3), 7, dtype=np.uint8)
    results = predictor.infer([predictor.prepare(image) for image in (flat, photo(8, 12, 0), flat, photo(8, 12, 1))])
    assert [result.reason for result in results] == ["no object: the image has a single color", None] * 2
    assert [len(shown) for shown in backbone.shown] == [2]
    assert len(predictor.infer([predictor.prepare(flat)])[0]) == 0
    assert len(backbone.shown) == 1


def test_interfaces_are_recognized_by_their_members() -> None:
    class Model:
        prepare = staticmethod(PlainImage.of)

        def infer(self, batch: Sequence[PlainImage]) -> list[Instances]:
            return []

        def to(self, device: torch.device) -> Model:
            return self

        def provenance(self) -> dict[str, object]:
            return {}

    assert isinstance(Model(), ImageModel)
    assert isinstance(FeaturePredictor(FeatureExtractor(Pixels()), Whole()), ImagePredictor)
    assert not isinstance(FeaturePredictor(FeatureExtractor(Pixels()), Whole()), ImageModel)
    assert not isinstance(Whole(), ImagePredictor)


@pytest.mark.parametrize("place", [(0, 1), (3, 0), (7, 11)])
def test_a_single_other_pixel_is_a_second_color(place: tuple[int, int]) -> None:
    predictor = FeaturePredictor(FeatureExtractor(Pixels()), Whole())
    image = np.full((8, 12, 3), 7, dtype=np.uint8)
    assert predictor.prepare(image).uniform
    image[place] = (7, 7, 8)
    assert not predictor.prepare(image).uniform
