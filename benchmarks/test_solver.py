"""``python -m pytest benchmarks``: graph build and solve with pytest-benchmark's statistics, next to the published call.

A time whose bits differ from the published call is void: its test fails. For ratios use ``python -m benchmarks.solver``,
which runs each contestant in its own process.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest
import torch

from benchmarks.contestants import CONTESTANTS, ON_CPU, REFERENCE, Answer
from benchmarks.graphs import make_features
from benchmarks.harness import PAUSE, wrong_bits

torch.set_num_threads(2)
CELLS = [(900, 1), (900, 8), (3600, 1)]


@cache
def published(tokens: int, batch: int) -> Answer:
    contestant = CONTESTANTS[REFERENCE]
    graphs = contestant.build(make_features("photo", batch, tokens))
    return contestant.answer(graphs, contestant.solve(graphs))


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize(("tokens", "batch"), CELLS)
def test_solve(benchmark: Any, name: str, tokens: int, batch: int) -> None:
    contestant = CONTESTANTS[name]
    graphs = contestant.build(make_features("photo", batch, tokens))
    benchmark.group = f"solve, N = {tokens}, batch {batch}"
    solution = benchmark.pedantic(
        contestant.solve, args=(graphs,), setup=lambda: time.sleep(PAUSE), rounds=3, warmup_rounds=1
    )
    answer = contestant.answer(graphs, solution)
    benchmark.extra_info.update(residual=answer.residual, passes=answer.passes, fallbacks=answer.fallbacks)
    assert wrong_bits(answer, published(tokens, batch)) == 0


@pytest.mark.parametrize("name", ["eigenseg", "eigenseg, float32 graph", REFERENCE])
@pytest.mark.parametrize(("tokens", "batch"), CELLS)
def test_build(benchmark: Any, name: str, tokens: int, batch: int) -> None:
    features = make_features("photo", batch, tokens)
    benchmark.group = f"build, N = {tokens}, batch {batch}"
    benchmark.pedantic(
        CONTESTANTS[name].build, args=(features,), setup=lambda: time.sleep(PAUSE), rounds=3, warmup_rounds=1
    )
