"""The report is self-contained, shows the worst, median and best items, and escapes names."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eigenseg.data.datasets import ObjectAnnotation, SaliencyFolder, VideoAnnotation
from eigenseg.data.detections import Detections
from eigenseg.data.predictions import open_predictions
from eigenseg.data.results.overlay import PALETTE
from eigenseg.data.rle import RleMasks, encode_masks
from eigenseg.data.sources import ImageSource
from eigenseg.report import write_report
from eigenseg.report.cases import draw_case
from eigenseg.video.metrics import DavisScore

SIZE = (40, 60)
GRAY = 225


def square(top: int, left: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + 12, left : left + 12] = True
    return mask


class Toy:
    """Items without files; annotation and prediction are squares."""

    title, classes = "toy", ()
    unreadable: ClassVar[Path] = Path("nowhere")

    def __init__(self, kind: str, items: list[str]) -> None:
        self.kind, self.items = kind, items

    def images(self, index: int) -> list[ImageSource]:
        return [ImageSource(self.unreadable / self.items[index], self.items[index])]

    def annotation(self, index: int) -> Any:
        mask = square(4, 6)
        if self.kind == "objects":
            crowd = square(26, 40)
            masks = RleMasks(encode_masks(np.stack([mask, crowd])), SIZE)
            boxes = np.array([[6, 4, 18, 16], [40, 26, 52, 38]], dtype=np.float64)
            return ObjectAnnotation(boxes, image_size=SIZE, masks=masks, crowd=np.array([False, True]))
        if self.kind == "video":
            return VideoAnnotation(
                tuple(f"{self.items[index]}/{i}" for i in range(7)), np.stack([mask.astype(np.uint8)] * 7)
            )
        return mask.astype(np.uint8) * (255 if self.kind == "saliency" else 3)

    def read(self, item: str, annotation: Any) -> Any:
        mask = square(20, 30)
        if self.kind == "objects":
            return Detections(
                np.array([[30.0, 20, 42, 32]]), np.array([0.75]), masks=RleMasks(encode_masks(mask[None]), SIZE)
            )
        if self.kind == "video":
            return np.stack([mask.astype(np.int32) * 2] * 7)
        return mask.astype(np.uint8) * 255 if self.kind == "saliency" else mask.astype(np.int32)


def result(items: dict[str, float | None]) -> dict[str, Any]:
    return {
        "dataset": "toy <set>",
        "scored": f"{len(items)} images",
        "protocol": "rules & more",
        "tag": "mode-x",
        "source": "predictions p",
        "main": "iou",
        "item_score": "iou",
        "metrics": {"iou": 0.123456, "count": 3, "none": None},
        "paper": None,
        "notes": ["only a few"],
        "config": {"a": 1},
        "parts": {"backbone": {"class": "toy.Net", "revision": 2, "weights": {"source": "a.pth", "sha256": "abc"}}},
        "versions": {"eigenseg": "0"},
        "finished": "today",
        "items": {name: {"iou": value} for name, value in items.items()},
    }


def changed(panel: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (panel != GRAY).any(axis=2)


def test_annotations_without_crowds_and_predictions_are_drawn_at_their_positions() -> None:
    dataset = Toy("objects", ["a"])
    annotation, prediction = draw_case(dataset, dataset, 0)
    assert changed(annotation.image)[5:15, 7:17].all()
    assert not changed(annotation.image)[20:, 25:].any()
    assert changed(prediction.image)[21:31, 31:41].all()
    assert not changed(prediction.image)[:8, :25].any()
    assert (annotation.caption, prediction.caption) == ("annotation: 1 object", "prediction: 1")


def test_only_the_best_of_many_detections_are_drawn_and_the_caption_says_so() -> None:
    dataset = Toy("objects", ["a"])
    boxes = np.array([[i, 0, i + 2, 2] for i in range(0, 48, 6)], dtype=np.float64)
    scores = np.arange(8) / 10
    dataset.read = lambda item, annotation: Detections(boxes, scores)
    panel = draw_case(dataset, dataset, 0)[1]
    assert panel.caption == "prediction: 8, the best 5 of 8"
    assert not changed(panel.image)[:, :15].any()  # boxes 0, 1 and 2 have the lowest scores


def test_saliency_and_semantic_maps_are_shown_side_by_side() -> None:
    dataset = Toy("saliency", ["a"])
    annotation, prediction = draw_case(dataset, dataset, 0)
    np.testing.assert_array_equal(annotation.image[..., 0], square(4, 6) * np.uint8(255))
    np.testing.assert_array_equal(prediction.image[..., 0], square(20, 30) * np.uint8(255))
    dataset = Toy("semantic", ["a"])
    annotation, prediction = draw_case(dataset, dataset, 0)
    assert changed(annotation.image)[5:15, 7:17].all()
    assert changed(prediction.image)[21:31, 31:41].all()


def test_three_frames_spread_over_a_video_are_shown() -> None:
    dataset = Toy("video", ["v"])
    panels = draw_case(dataset, dataset, 0)
    assert [panel.caption for panel in panels[::2]] == ["annotation, v/1", "annotation, v/3", "annotation, v/5"]
    assert all(changed(panel.image)[5:15, 7:17].all() for panel in panels[::2])
    assert all(changed(panel.image)[21:31, 31:41].all() for panel in panels[1::2])


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_image_that_cannot_be_read_is_gray_and_says_so(tmp_path: Path, content: bytes) -> None:
    dataset = Toy("saliency", ["a.png"])
    dataset.unreadable = tmp_path
    (tmp_path / "a.png").write_bytes(content)
    panel = draw_case(dataset, dataset, 0)[0]
    assert (panel.image == GRAY).all()
    assert panel.caption == "image, which cannot be read"


def test_maps_that_are_scored_without_images_have_no_empty_panel(tmp_path: Path) -> None:
    save_mask(tmp_path / "masks" / "a.png", square(4, 6))
    save_mask(tmp_path / "maps" / "a.png", square(20, 30))
    dataset = SaliencyFolder(None, tmp_path / "masks")
    panels = draw_case(dataset, open_predictions(tmp_path / "maps", dataset), 0)
    assert [panel.caption for panel in panels] == ["annotation", "prediction"]


def save_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    path.parent.mkdir()
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


class TwoProposals(Toy):
    """The object of ``Toy``; proposal 2 is near it, proposal 1 is elsewhere."""

    def read(self, item: str, annotation: Any) -> Any:
        return np.stack([square(20, 30) + 2 * square(5, 7).astype(np.int32)] * 7)


@pytest.mark.parametrize("mode", ["unsupervised", "oracle_per_frame"])
def test_matched_proposals_are_framed_and_counted(tmp_path: Path, mode: Any) -> None:
    dataset, metric = TwoProposals("video", ["v"]), DavisScore(mode)
    annotation = dataset.annotation(0)
    metric.update("v", dataset.read("v", annotation), annotation)
    matches = metric.matches("v")
    assert matches is not None
    assert matches.tolist() == [[1] * 7]
    panel = draw_case(dataset, dataset, 0, matches)[1]
    assert panel.caption == "prediction: 1 of 2 proposals matched, framed in the object's color"
    # The frame's corner below the caption has the color of object 1; unframed proposals have other colors.
    assert panel.image[16, 18].tolist() == PALETTE[0].tolist()
    np.testing.assert_allclose(panel.image[31, 41], PALETTE[1], atol=30)  # an antialiased contour
    unmarked = draw_case(dataset, dataset, 0)[1]
    assert unmarked.caption == "prediction"
    np.testing.assert_allclose(unmarked.image[31, 41], PALETTE[0], atol=30)
    write_report(tmp_path / "report.html", result({"v": 0.5}), dataset, dataset, metric)
    assert "1 of 2 proposals matched" in (tmp_path / "report.html").read_text()


def test_proposals_of_modes_without_a_matching_are_not_marked() -> None:
    metric = DavisScore("davis2016")
    dataset = Toy("video", ["v"])
    metric.update("v", dataset.read("v", None), dataset.annotation(0))
    assert metric.matches("v") is None


def test_the_score_of_the_items_is_explained(tmp_path: Path) -> None:
    dataset = Toy("saliency", ["a"])
    content = {**result({"a": 0.5}), "item_explanation": "the overlap & more"}
    write_report(tmp_path / "report.html", content, dataset, dataset)
    assert "iou: the overlap &amp; more." in " ".join((tmp_path / "report.html").read_text().split())


def test_the_image_itself_is_shown_if_it_exists(tmp_path: Path) -> None:
    dataset = Toy("saliency", ["a.png"])
    dataset.unreadable = tmp_path
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(draw_case(dataset, dataset, 0)[0].image, pixels)


def test_worst_median_and_best_are_chosen_by_item_score(tmp_path: Path) -> None:
    names = [f"n{i:02d}" for i in range(20)]
    scores: dict[str, float | None] = {name: float(value) for name, value in zip(names, np.linspace(1, 0, 20), strict=True)}
    dataset = Toy("saliency", [*names, "empty"])
    write_report(tmp_path / "report.html", result({**scores, "empty": None}), dataset, dataset)
    page = (tmp_path / "report.html").read_text()
    sections = {
        title: re.findall(r"<h3>(\w+) ", part)
        for title, part in re.findall(r"<h2>(Worst|Median|Best)</h2>(.*?)(?=<h2>)", page, re.S)
    }
    assert sections == {
        "Worst": ["n19", "n18", "n17", "n16"],
        "Median": ["n11", "n10", "n09", "n08"],
        "Best": ["n00", "n01", "n02", "n03"],
    }
    assert "1 without a value, because their annotation has no object" in page


def test_few_items_are_shown_once_and_no_scores_give_a_page_too(tmp_path: Path) -> None:
    dataset = Toy("saliency", ["b", "a"])
    write_report(tmp_path / "few.html", result({"b": 0.5, "a": 0.25}), dataset, dataset)
    page = (tmp_path / "few.html").read_text()
    assert re.findall(r"<h3>(\w+) ", page) == ["a", "b"]
    write_report(tmp_path / "none.html", result({"b": None, "a": None}), dataset, dataset)
    assert "No item has a value." in (tmp_path / "none.html").read_text()


def test_the_page_embeds_its_images_and_has_no_external_resources(tmp_path: Path) -> None:
    dataset = Toy("saliency", ["a"])
    write_report(tmp_path / "report.html", result({"a": 0.5}), dataset, dataset)
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith(("data:image/jpeg;base64,", "#")) for source in sources)
    assert "<script" not in page
    assert "url(http" not in page
    encoded = [base64.b64decode(source.split(",")[1]) for source in sources if source.startswith("data:")]
    annotation = cv2.imdecode(np.frombuffer(encoded[0], dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert ((annotation > 128) == square(4, 6)).mean() > 0.98
    for text in (
        "0.1235",
        "mode-x",
        "only a few",
        "rules &amp; more",
        "toy &lt;set&gt;",
        "toy.Net, revision 2; weights source a.pth, sha256 abc",
    ):
        assert text in page


def test_names_are_escaped(tmp_path: Path) -> None:
    name = '<img src=x onerror="alert(1)">&'
    dataset = Toy("saliency", [name])
    write_report(tmp_path / "report.html", result({name: 0.5}), dataset, dataset)
    page = (tmp_path / "report.html").read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=" in page


def test_equal_results_give_equal_pages(tmp_path: Path) -> None:
    dataset = Toy("saliency", ["a", "b"])
    pages = []
    for name in ("one", "two"):
        write_report(tmp_path / name, result({"a": 0.5, "b": 0.75}), dataset, dataset)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]
