"""Items pass through all stages in order, side by side, within their budget, and fail alone."""

from __future__ import annotations

import gc
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from eigenseg.data.stages import Batching, Outcome, Stages, StageTimes, run
from eigenseg.data.stages.memory import is_out_of_memory


@dataclass(frozen=True)
class Number:
    """A prepared item: a number whose bucket is its remainder."""

    value: int
    bucket: int = 0
    nbytes: int = 1


def squares(**stages: Any) -> Stages[int, Number, int, tuple[int, int]]:
    """Stages that square numbers."""
    defaults: dict[str, Any] = {
        "prepare": lambda item: Number(item),
        "infer": lambda batch: [number.value**2 for number in batch],
        "finish": lambda item, prepared, result, milliseconds: (item, result),
    }
    return Stages(**{**defaults, **stages})


def outputs(outcomes: Sequence[Outcome[int, Any]]) -> list[Any]:
    return [outcome.output for outcome in outcomes]


@pytest.mark.parametrize(
    ("batch_size", "workers", "buckets"), list(itertools.product([1, 2, 7, 100], [1, 2, 5], [1, 2, 3]))
)
def test_outcomes_are_those_of_single_items_in_order(batch_size: int, workers: int, buckets: int) -> None:
    def prepare(item: int) -> Number:
        time.sleep(0.002 * (item % 3 == 0))  # items arrive out of order
        return Number(item, item % buckets)

    outcomes = list(run(range(23), squares(prepare=prepare), Batching(batch_size, workers)))
    assert [outcome.item for outcome in outcomes] == list(range(23))
    assert outputs(outcomes) == [(i, i * i) for i in range(23)]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_batches_hold_one_bucket_and_do_not_depend_on_the_threads(workers: int) -> None:
    batches: list[list[int]] = []

    def infer(batch: Sequence[Number]) -> list[int]:
        assert len({number.bucket for number in batch}) == 1
        batches.append([number.value for number in batch])
        return [0] * len(batch)

    def prepare(item: int) -> Number:
        time.sleep(0.001 * ((item * 7) % 5))
        return Number(item, bucket=int(item == 5))

    list(run(range(16), squares(prepare=prepare, infer=infer), Batching(2, workers)))
    # Item 5 is alone in its bucket and leaves when the window of eight items has passed.
    assert batches == [[0, 1], [2, 3], [4, 6], [7, 8], [9, 10], [11, 12], [5], [13, 14], [15]]


def test_stages_work_side_by_side() -> None:
    """Every stage waits for an earlier one to begin with the next item; one after the other they would wait forever."""
    begun = {name: [threading.Event() for _ in range(12)] for name in ("prepare", "infer", "refine", "finish")}

    def begin(name: str, item: int, awaited: str | None) -> None:
        begun[name][item].set()
        if awaited and item + 1 < 12:
            assert begun[awaited][item + 1].wait(timeout=20), f"{name} of {item} ran before {awaited} of {item + 1} began"

    def prepare(item: int) -> Number:
        begin("prepare", item, None)
        return Number(item)

    def infer(batch: Sequence[Number]) -> list[int]:
        begin("infer", batch[0].value, "prepare")
        return [0]

    def refine(batch: Sequence[Number], results: Sequence[int]) -> list[int]:
        begin("refine", batch[0].value, "infer")
        return list(results)

    def finish(item: int, prepared: Number, result: int, milliseconds: float) -> None:
        begin("finish", item, "refine")

    outcomes = list(run(range(12), squares(prepare=prepare, infer=infer, refine=refine, finish=finish), Batching(1, 1)))
    assert [outcome.error for outcome in outcomes] == [None] * 12


def test_infer_stays_on_the_calling_thread_and_nothing_else_does() -> None:
    threads: dict[str, set[int]] = {}

    def seen(name: str, result: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return result(*arguments)

        return work

    stages = squares(
        measure=seen("measure", lambda item: 1),
        prepare=seen("prepare", lambda item: Number(item)),
        infer=seen("infer", lambda batch: [0] * len(batch)),
        refine=seen("refine", lambda batch, results: results),
        finish=seen("finish", lambda *_: None),
    )
    list(run(range(9), stages, Batching(2, 2)))
    assert threads.pop("infer") == {threading.get_ident()}
    assert all(threading.get_ident() not in used for used in threads.values())
    assert len(threads["refine"]) == 1


@pytest.mark.parametrize("stage", ["measure", "prepare", "infer", "refine", "finish"])
def test_a_stage_that_raises_costs_only_its_item(stage: str, caplog: pytest.LogCaptureFixture) -> None:
    def fail(value: int) -> None:
        if value == 4:
            raise KeyError("four")

    def prepare(item: int) -> Number:
        if stage in ("measure", "prepare"):
            fail(item)
        return Number(item)

    def measure(item: int) -> int:
        fail(item)
        return 1

    def infer(batch: Sequence[Number]) -> list[int]:
        for number in batch if stage == "infer" else ():
            fail(number.value)
        return [number.value**2 for number in batch]

    def refine(batch: Sequence[Number], results: Sequence[int]) -> list[int]:
        for number in batch if stage == "refine" else ():
            fail(number.value)
        return [result + 1 for result in results]

    def finish(item: int, prepared: Number, result: int, milliseconds: float) -> tuple[int, int]:
        if stage == "finish":
            fail(item)
        return item, result

    extra = {"measure": measure} if stage == "measure" else {}
    outcomes = list(
        run(range(9), squares(prepare=prepare, infer=infer, refine=refine, finish=finish, **extra), Batching(5))
    )
    assert [outcome.item for outcome in outcomes if outcome.error is not None] == [4]
    assert isinstance(outcomes[4].error, KeyError)
    assert [o.output for o in outcomes if o.error is None] == [(i, i * i + 1) for i in range(9) if i != 4]
    assert ("Traceback" in caplog.text) == (stage in ("infer", "refine"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_later_ones_stay_small(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []

    def infer(batch: Sequence[Number]) -> list[int]:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise error
        return [number.value**2 for number in batch]

    outcomes = list(run(range(16), squares(infer=infer), Batching(8)))
    assert outputs(outcomes) == [(i, i * i) for i in range(16)]
    assert sizes == [8, 4, 2, 2, 4, 2, 2, 2, 2, 2, 2]
    assert "out of memory: infer with 8 items in a batch, going on with 4" in caplog.text


def test_an_item_that_never_fits_fails_alone_with_its_error() -> None:
    def infer(batch: Sequence[Number]) -> list[int]:
        if any(number.value == 3 for number in batch):
            raise MemoryError
        return [0] * len(batch)

    outcomes = list(run(range(6), squares(infer=infer), Batching(4)))
    assert [isinstance(outcome.error, MemoryError) for outcome in outcomes] == [i == 3 for i in range(6)]


def test_a_wrong_number_of_results_is_an_error_of_the_items() -> None:
    outcomes = list(run(range(2), squares(infer=lambda batch: []), Batching(1)))
    assert "infer returned 0 results for 1 items" in str(outcomes[0].error)


@pytest.mark.parametrize("buckets", [1, 3])
def test_prepared_bytes_stay_within_the_budget(buckets: int) -> None:
    """Of the size that was announced while an item is prepared, of its own size afterwards."""
    megabyte, lock, held, most = 2**20, threading.Lock(), [0], [0]

    def change(amount: int) -> None:
        with lock:
            held[0] += amount
            most[0] = max(most[0], held[0])

    def prepare(item: int) -> Number:
        change(2)
        time.sleep(0.001)
        change(-1)
        return Number(item, item % buckets, nbytes=megabyte)

    def finish(item: int, prepared: Number, result: int, milliseconds: float) -> int:
        time.sleep(0.002)
        change(-1)
        return item

    stages = squares(prepare=prepare, finish=finish, measure=lambda item: 2 * megabyte)
    assert outputs(list(run(range(40), stages, Batching(8, 4, buffer_mb=5)))) == list(range(40))
    assert 2 <= most[0] <= 5


def test_an_item_above_the_budget_passes_alone() -> None:
    megabyte, active, together = 2**20, [0], []

    def prepare(item: int) -> Number:
        active[0] += 1
        together.append(active[0])
        return Number(item, nbytes=(10 if item == 2 else 1) * megabyte)

    def finish(item: int, prepared: Number, result: int, milliseconds: float) -> int:
        active[0] -= 1
        return item

    stages = squares(prepare=prepare, finish=finish, measure=lambda item: (30 if item == 2 else 1) * megabyte)
    assert outputs(list(run(range(5), stages, Batching(2, 1, buffer_mb=4)))) == list(range(5))
    assert together[2] == 1  # nothing else was held when the large one was prepared
    assert together[3] == 1


def test_items_are_taken_only_a_few_ahead() -> None:
    taken: list[int] = []

    def items() -> Any:
        for i in range(1000):
            taken.append(i)
            yield i

    outcomes = run(items(), squares(), Batching(2, 1))
    next(outcomes)
    assert len(taken) <= 2 * Batching(2).window + 2 * 3
    outcomes.close()  # type: ignore[attr-defined]


def test_closing_keeps_what_is_finished_and_starts_nothing_more() -> None:
    finished: list[int] = []

    def finish(item: int, prepared: Number, result: int, milliseconds: float) -> int:
        time.sleep(0.005)
        finished.append(item)
        return item

    outcomes = run(range(1000), squares(finish=finish), Batching(4, 2))
    first = next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert first.item == 0
    before = list(finished)
    time.sleep(0.05)
    assert finished == before
    assert len(finished) <= 4 * 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("refine", "finish"))]


def test_the_bottleneck_is_the_slowest_stage_by_its_threads() -> None:
    def infer(batch: Sequence[Number]) -> list[int]:
        time.sleep(0.01)
        return [0] * len(batch)

    times = StageTimes()
    list(run(range(10), squares(infer=infer), Batching(1, 2), times))
    assert times.bottleneck() == "infer"
    summary = times.summary()
    assert 0.1 <= summary["stages"]["infer"]["seconds"] <= summary["seconds"]
    assert summary["stages"]["prepare"]["threads"] == 2
    times = StageTimes()
    times.seconds.update(prepare=3.0, infer=2.0)
    times.threads.update(prepare=2)
    assert times.bottleneck() == "infer"


@pytest.mark.parametrize("name", ["batch_size", "workers", "buffer_mb"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_numbers_that_are_not_positive_integers_are_rejected(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got"):
        Batching(**{name: value})


def test_other_errors_are_not_taken_for_exhausted_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_what_is_finished_is_freed_at_once() -> None:
    """Not only by the garbage collector, which may come after hundreds of large images."""
    alive: list[int] = []

    class Large:
        bucket, nbytes = None, 1

        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    stages: Stages[int, Large, int, int] = Stages(
        prepare=lambda item: Large(),
        infer=lambda batch: [0] * len(batch),
        finish=lambda item, prepared, result, milliseconds: item,
        refine=lambda batch, results: list(results),
    )
    gc.disable()
    try:
        for outcome in run(range(60), stages, Batching(1, 1)):
            assert len(alive) <= 6, f"{len(alive)} items are alive after item {outcome.item}"
    finally:
        gc.enable()
    assert not alive


def test_what_is_finished_is_freed_though_an_earlier_item_still_waits_for_its_batch() -> None:
    alive: set[int] = set()
    seen: list[set[int]] = []

    class Large:
        nbytes = 1

        def __init__(self, item: int) -> None:
            self.item, self.bucket = item, int(item == 0)
            alive.add(item)

        def __del__(self) -> None:
            alive.discard(self.item)

    def infer(batch: Sequence[Large]) -> list[int]:
        if batch[0].item == 0:
            seen.append(set(alive))
        return [0] * len(batch)

    stages: Stages[int, Large, int, int] = Stages(Large, infer, lambda item, prepared, result, milliseconds: item)
    assert outputs(list(run(range(60), stages, Batching(8, 1)))) == list(range(60))
    # Item 0 leaves last of its window; the first batch of eight was finished long before.
    assert 0 in seen[0]
    assert not seen[0] & set(range(1, 9))


def test_what_preparing_does_not_need_any_more_is_given_back() -> None:
    """Eight megabytes while an item is decoded and one afterwards: four items share a batch within ten megabytes."""
    megabyte, sizes = 2**20, []

    def infer(batch: Sequence[Number]) -> list[int]:
        sizes.append(len(batch))
        return [0] * len(batch)

    stages = squares(
        prepare=lambda item: Number(item, nbytes=megabyte // 2), infer=infer, measure=lambda item: 8 * megabyte
    )
    list(run(range(8), stages, Batching(4, 2, buffer_mb=10)))
    assert sizes == [4, 4]


def test_closing_lets_go_of_readers_that_wait_for_room() -> None:
    """They would keep the process from ending."""
    megabyte, blocked = 2**20, threading.Event()

    def finish(item: int, prepared: Number, result: int, milliseconds: float) -> int:
        if item:
            blocked.wait(timeout=20)
        return item

    stages = squares(prepare=lambda item: Number(item, nbytes=megabyte), measure=lambda item: megabyte, finish=finish)
    outcomes = run(range(50), stages, Batching(1, 2, buffer_mb=1))
    assert next(outcomes).item == 0
    blocked.set()
    outcomes.close()
    deadline = time.monotonic() + 10
    while any(thread.name.startswith("prepare") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]


def test_closing_leaves_a_reader_behind_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eigenseg.data.stages.readers._PATIENCE", 0.05)
    mount, reached = threading.Event(), threading.Event()  # the first is set when the stalled mount answers

    def prepare(item: int) -> Number:
        if item == 2:
            reached.set()
            mount.wait()
        return Number(item)

    def items() -> Iterator[int]:
        yield from range(3)
        assert reached.wait(20)
        raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            list(run(items(), squares(prepare=prepare), Batching(1, 1)))
        (hanging,) = [thread for thread in threading.enumerate() if thread.name.startswith("prepare")]
        assert hanging.daemon  # the interpreter does not wait for it either
    finally:
        mount.set()


FORK = """
import logging, os
import torch
from eigenseg.data.stages import Stages, run

class Item:
    bucket, nbytes = 0, 0

logging.basicConfig(format="%(message)s")
torch.set_num_threads(2)
add = Stages(lambda item: Item(), lambda batch: [float(torch.ones(2**22).add_(1)[0])] * len(batch), lambda i, p, r, ms: r)
assert [outcome.output for outcome in run(range(2), add)] == [2.0, 2.0]
child = os.fork()
if not child:
    print(*[outcome.output for outcome in run(range(2), add)], torch.get_num_threads(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_of_a_process_that_has_computed_says_what_is_wrong_instead_of_hanging() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2.0", "2.0", "1", "2"]
    assert "whose threads it lacks: it goes on with one thread" in done.stderr
    assert "multiprocessing.get_context('spawn')" in done.stderr
