"""What holds of every result, of methods and of models: it is well-formed, and a record gives it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eigenseg.data import Instances
from eigenseg.data.comparison import equal_values
from eigenseg.data.results.arrays import ArrayWriter, read_arrays
from eigenseg.data.results.encoding import AbsentArray
from eigenseg.data.results.records import Record


def assert_same(one: Instances, other: Instances, tolerance: float = 0.0) -> None:
    """Masks, boxes, labels and reasons are equal, scores and soft maps up to the tolerance."""
    np.testing.assert_array_equal(np.asarray(one.masks), np.asarray(other.masks))
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=tolerance)
    assert (one.image_size, one.names, one.reason) == (other.image_size, other.names, other.reason)
    assert one.extras.keys() == other.extras.keys()
    assert one.metadata.keys() == other.metadata.keys()


def assert_well_formed(result: Instances, image_size: tuple[int, int]) -> None:
    """In pixels of the image; objects have pixels inside of their boxes, no object has a reason."""
    assert result.image_size == image_size
    assert (result.reason is None) == bool(len(result))
    for mask, box in zip(np.asarray(result.masks), result.boxes, strict=True):
        assert mask.any()
        ys, xs = np.nonzero(mask)
        x0, y0, x1, y1 = box
        assert x0 - 1 <= xs.min() < xs.max() + 1 <= x1 + 1  # a box follows patch borders, a mask whole pixels
        assert y0 - 1 <= ys.min() < ys.max() + 1 <= y1 + 1
    soft: NDArray[Any] | None = result.metadata.get("saliency")
    assert soft is None or (soft.shape == image_size and 0 <= soft.min() <= soft.max() <= 1)


def assert_kept_by_records(result: Instances, root: Path) -> None:
    """A line of a manifest gives a result back: all of it with the arrays' file, and without it all but the arrays."""
    record = Record.of("a/b.png", [7, 8], result, milliseconds=1.5)
    read = Record.from_line(record.to_line())
    bare = read.instances()
    assert_same(bare, result)
    assert replace(bare, extras={}, metadata={}).equals(replace(result, extras={}, metadata={}))
    for kept, original in ((bare.extras, result.extras), (bare.metadata, result.metadata)):
        for name, value in kept.items():
            assert equal_or_absent(value, original[name]), name
    ArrayWriter().write(root, record, None)
    whole = read.with_arrays(read_arrays(root, "a/b.png"))
    assert whole.instances().equals(result)
    again = Record.of("a/b.png", [7, 8], whole.instances(), milliseconds=1.5)
    assert again.to_line() == record.to_line()


def equal_or_absent(kept: Any, original: Any) -> bool:
    """Whether a value is the original one, or stands for a larger array of its dtype and shape."""
    if isinstance(kept, AbsentArray):
        large = isinstance(original, np.ndarray) and original.size > 16
        return large and (kept.dtype, kept.shape) == (original.dtype.str, original.shape)
    if isinstance(kept, Sequence) and not isinstance(kept, str):
        pairs = zip(kept, original, strict=True)
        return len(kept) == len(original) and all(equal_or_absent(*pair) for pair in pairs)
    return equal_values(kept, original)
