"""Batches are decided by order and sizes; a budget is spent in order; a failing batch costs its failing item."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pytest

from eigenseg.data.stages.batching import Batching, BatchPlan
from eigenseg.data.stages.budget import ByteBudget
from eigenseg.data.stages.isolate import isolate


def batches(items: Sequence[tuple[str, int]], batching: Batching) -> list[list[int]]:
    """Numbers of the items in every batch, of (bucket, bytes) given in order."""
    plan: BatchPlan[int] = BatchPlan(batching)
    left: list[list[int]] = []
    for number, (bucket, nbytes) in enumerate(items):
        left += plan.make_room(number, nbytes)
        left += plan.add(number, number, bucket, nbytes)
    return [*left, *plan.rest()]


@pytest.mark.parametrize("seed", range(20))
def test_every_item_leaves_once_in_batches_of_one_bucket_within_window_and_budget(seed: int) -> None:
    rng = random.Random(seed)
    batching = Batching(batch_size=rng.randint(1, 5), buffer_mb=1)
    items = [(rng.choice("abc"), rng.randint(0, 2**18)) for _ in range(60)]
    left = batches(items, batching)
    assert sorted(number for batch in left for number in batch) == list(range(60))
    for batch in left:
        assert len({items[number][0] for number in batch}) == 1
        assert batch == sorted(batch)
        assert len(batch) <= batching.batch_size
        assert batch[-1] - batch[0] < batching.window
        assert sum(items[number][1] for number in batch) <= batching.buffer_bytes


def test_items_of_one_bucket_fill_their_batches() -> None:
    assert batches([("a", 1)] * 10, Batching(batch_size=4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_rare_bucket_leaves_when_the_window_has_passed() -> None:
    items = [("rare", 1), *[("a", 1)] * 9]
    assert batches(items, Batching(batch_size=2)) == [[1, 2], [3, 4], [5, 6], [0], [7, 8], [9]]


def test_the_oldest_bucket_leaves_when_the_next_item_does_not_fit() -> None:
    third = 2**20 // 3
    assert batches([("a", third), ("b", third), ("a", third), ("b", third)], Batching(8, buffer_mb=1)) == [[0, 2], [1, 3]]


def test_a_budget_is_spent_in_the_order_of_tickets() -> None:
    budget, admitted = ByteBudget(10), []

    def work(ticket: int) -> None:
        time.sleep(0.001 * (5 - ticket))  # later tickets come first
        if budget.admit(ticket, 6):
            admitted.append(ticket)
            time.sleep(0.002)
            budget.change(-6)

    threads = [threading.Thread(target=work, args=(ticket,)) for ticket in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert admitted == list(range(5))


def test_closing_a_budget_lets_go_who_waits() -> None:
    budget, answers = ByteBudget(1), []
    assert budget.admit(0, 1)
    waiting = threading.Thread(target=lambda: answers.append(budget.admit(1, 1)))
    waiting.start()
    budget.close()
    waiting.join(timeout=10)
    assert answers == [False]


def test_the_error_of_a_failed_batch_does_not_keep_its_values_alive() -> None:
    alive: list[int] = []

    class Value:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def work(part: slice) -> list[int]:
        kept = Value()  # noqa: F841  as the tensors of an attempt
        assert len(alive) == 1, "the values of the failed attempt are still there"
        if part.stop - part.start > 1:
            raise MemoryError
        return [part.start]

    assert isolate(work, 4, "work") == [0, 1, 2, 3]
