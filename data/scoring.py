"""Score predictions of a dataset item by item, in this process or in several; the numbers are the same, bit by bit."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import cv2

from eigenseg.data.datasets.base import Dataset
from eigenseg.data.detections import Detections
from eigenseg.data.metric import Metric
from eigenseg.data.placement import Placements
from eigenseg.data.predictions.base import Predictions

M = TypeVar("M", bound=Metric)
# Starting a process costs about two seconds of imports; less work than this stays in this process.
_ITEMS_PER_PROCESS = {"video": 4}
_ITEMS_PER_PROCESS_DEFAULT = 256

_parts: tuple[Dataset, Predictions, Metric] | None = None  # a worker's own copy


def score_dataset(
    dataset: Dataset,
    predictions: Predictions,
    metric: M,
    indices: Sequence[int] | None = None,
    processes: int | None = 1,
    on_items: Callable[[int], None] = lambda count: None,
    placements: Placements | None = None,
) -> M:
    """Score items of a dataset.

    Args:
        dataset: with the ground truth.
        predictions: of the dataset's kind.
        metric: without items; not modified.
        indices: of the items; all if not given.
        processes: 1 stays in this process, ``None`` chooses by the number of cores and items.
        on_items: called with the number of newly finished items, for a progress bar.
        placements: if given, predicted and annotated boxes are counted in it.

    Returns:
        A copy of the metric that holds the items.

    Raises:
        ValueError: if the metric scores another kind of annotation, or an item cannot be scored; the message names it.
        FileNotFoundError: if a file of an item is missing.
    """
    check_kind(dataset, metric)
    check_processes(processes)
    indices = range(len(dataset.items)) if indices is None else indices
    total = copy.deepcopy(metric)
    workers = _choose_processes(dataset, len(indices), processes)
    parts = (
        ((*score_items(dataset, predictions, copy.deepcopy(metric), [i]), 1) for i in indices)
        if workers == 1
        else _score_in_processes(dataset, predictions, metric, indices, workers)
    )
    for part, boxes, count in parts:
        total.merge(part)
        if placements is not None:
            placements.merge(boxes)
        on_items(count)
    return total


def score_items(dataset: Dataset, predictions: Predictions, metric: M, indices: Sequence[int]) -> tuple[M, Placements]:
    """Add some items to a metric; return it, and where boxes lie."""
    placements = Placements()
    for i in indices:
        item, annotation = dataset.items[i], dataset.annotation(i)
        prediction = predictions.read(item, annotation)
        metric.update(item, prediction, annotation)
        if isinstance(prediction, Detections):
            placements.predicted.add(prediction.boxes, annotation.image_size)
            placements.annotated.add(annotation.boxes, annotation.image_size)
    return metric, placements


def check_kind(dataset: Dataset, metric: Metric) -> None:
    """Raise if a metric scores another kind of annotation.

    Raises:
        ValueError: naming both kinds.
    """
    if dataset.kind != metric.kind:
        raise ValueError(
            f"{dataset.title} has annotations of kind {dataset.kind!r}, {type(metric).__name__} scores {metric.kind!r}; "
            "choose another evaluation"
        )


def check_processes(processes: int | None) -> None:
    """Raise if the number of processes is not positive.

    Raises:
        ValueError: naming it.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")


def _choose_processes(dataset: Dataset, items: int, requested: int | None) -> int:
    if requested is not None:
        return min(requested, max(1, items))
    items_per_process = _ITEMS_PER_PROCESS.get(dataset.kind, _ITEMS_PER_PROCESS_DEFAULT)
    return max(1, min(os.cpu_count() or 1, items // items_per_process))


def _score_in_processes(
    dataset: Dataset, predictions: Predictions, metric: M, indices: Sequence[int], workers: int
) -> Iterator[tuple[M, Placements, int]]:
    # Several chunks per worker, so that one slow video does not delay all others.
    size = max(1, len(indices) // (workers * 8))
    chunks = [list(indices[start : start + size]) for start in range(0, len(indices), size)]
    # Spawned, not forked: torch's and OpenCV's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(dataset, predictions, metric)
    )
    try:
        with _without_interrupts():
            running = {pool.submit(_score_chunk, chunk): len(chunk) for chunk in chunks}
        for future in as_completed(running):
            yield *future.result(), running[future]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C: a terminal sends it to all processes, and only the parent handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(dataset: Dataset, predictions: Predictions, metric: Metric) -> None:
    global _parts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _parts = dataset, predictions, metric


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score_chunk(indices: list[int]) -> Any:
    assert _parts is not None
    dataset, predictions, metric = _parts
    return score_items(dataset, predictions, copy.deepcopy(metric), indices)
