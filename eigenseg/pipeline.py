"""Masks for many images: read ahead, predict in batches, isolate what fails, write as you go.

Data flow: sources -> reader threads -> batches -> ``predict`` -> one ``Outcome`` per image, in order -> ``ResultFolder``.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from eigenseg.data.images import ImageArray, read_image
from eigenseg.data.instances import Instances
from eigenseg.data.results.store import ResultFolder
from eigenseg.data.sources import ImageSource

logger = logging.getLogger(__name__)

Predict = Callable[[Sequence[ImageArray]], list[Instances]]


@dataclass(frozen=True)
class Outcome:
    """What became of one image: instances, or the error that prevented them."""

    source: ImageSource
    image: ImageArray | None
    instances: Instances | None
    error: Exception | None
    milliseconds: float = 0.0


@dataclass
class Summary:
    """Counts of one run."""

    images: int = 0
    instances: int = 0
    failures: int = 0
    skipped: int = 0
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images processed (failed ones included) per second of wall clock."""
        return (self.images + self.failures) / self.seconds if self.seconds else 0.0


def predict_sources(
    predict: Predict, sources: Iterable[ImageSource], batch_size: int = 8, workers: int = 2
) -> Iterator[Outcome]:
    """Predict images in batches; yields one outcome per image in input order, failures included.

    Args:
        predict: images of any sizes in, as many results out.
        sources: what to read.
        batch_size: images per call of ``predict``.
        workers: threads that decode; one batch is decoded while another is computed.

    Raises:
        ValueError: if a number is not positive.
    """
    check_batching(batch_size, workers)
    return _predict_batches(predict, sources, batch_size, workers)


def check_batching(batch_size: Any, workers: Any) -> None:
    """Raise if a number cannot be used.

    Raises:
        ValueError: naming both.
    """
    if not all(isinstance(number, int) and number >= 1 for number in (batch_size, workers)):
        raise ValueError(f"batch_size and workers must be integers of at least 1, got {batch_size} and {workers}")


def _predict_batches(predict: Predict, sources: Iterable[ImageSource], batch_size: int, workers: int) -> Iterator[Outcome]:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
    try:
        remaining = iter(sources)
        ahead: deque[tuple[ImageSource, Future[ImageArray]]] = deque()
        while True:
            # Two batches in flight: enough to hide decoding, little enough to keep large photographs in memory.
            for source in itertools.islice(remaining, 2 * batch_size - len(ahead)):
                ahead.append((source, pool.submit(read_image, source.path)))
            if not ahead:
                return
            batch = [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]
            yield from _predict_batch(predict, batch)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def extract(
    predict: Predict,
    sources: Sequence[ImageSource],
    folder: ResultFolder,
    batch_size: int = 8,
    workers: int = 2,
    on_outcome: Callable[[ImageSource], None] = lambda source: None,
) -> Summary:
    """Write masks of all images that the folder does not hold yet.

    Args:
        predict, batch_size, workers: as in ``predict_sources``.
        sources: what to process.
        folder: where results go.
        on_outcome: called after each image is recorded, for a progress bar.

    Raises:
        OutputError: if results cannot be written; everything recorded so far is kept.
    """
    start, summary = time.perf_counter(), Summary()
    fresh = [source for source in sources if not folder.holds(source)]
    summary.skipped = len(sources) - len(fresh)
    for outcome in predict_sources(predict, fresh, batch_size, workers):
        error = outcome.error
        if outcome.image is not None and outcome.instances is not None:
            try:
                folder.add(outcome.source, outcome.image, outcome.instances, outcome.milliseconds)
                summary.images += 1
                summary.instances += len(outcome.instances)
            except ValueError as unwritable:  # this result has no file form; a disk that fails is an OutputError
                error = unwritable
        if error is not None:
            folder.add_failure(outcome.source, error_line(error))
            summary.failures += 1
        on_outcome(outcome.source)
    folder.finish(sources)
    summary.seconds = time.perf_counter() - start
    return summary


def error_line(error: Exception) -> str:
    """One line for the manifest; the type is named where the message alone was not written for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, FileNotFoundError)) else f"{type(error).__name__}: {text}"


def _predict_batch(predict: Predict, batch: Sequence[tuple[ImageSource, Future[ImageArray]]]) -> Iterator[Outcome]:
    images: list[ImageArray | Exception] = []
    for _, future in batch:
        try:
            images.append(future.result())
        except Exception as error:
            images.append(error)
    readable = [image for image in images if not isinstance(image, Exception)]
    start = time.perf_counter()
    results = iter(_predict_or_isolate(predict, readable))
    milliseconds = (time.perf_counter() - start) * 1000 / max(1, len(readable))
    for (source, _), image in zip(batch, images, strict=True):
        if isinstance(image, Exception):
            yield Outcome(source, None, None, image)
            continue
        result = next(results)
        if isinstance(result, Exception):
            yield Outcome(source, image, None, result, milliseconds)
        else:
            yield Outcome(source, image, result, None, milliseconds)


def _predict_or_isolate(predict: Predict, images: Sequence[ImageArray]) -> list[Instances | Exception]:
    """The whole batch at once; if it fails, one by one, so that a failure stays with its image."""
    if not images:
        return []
    try:
        return list(predict(images))
    except Exception as error:
        # A method may be user code: whatever it raises is recorded with the image, and a bug leaves its traceback.
        if not isinstance(error, ValueError):
            logger.exception("a batch of %d failed", len(images))
        if len(images) == 1:
            return [error]
    return [result for image in images for result in _predict_or_isolate(predict, [image])]
