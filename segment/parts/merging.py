"""Greedy agglomerative clustering of neighboring tokens, most similar first, for part hierarchies."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
Labels = NDArray[np.int64]


def merge_levels(
    tokens: Features, inside: NDArray[np.bool_], thresholds: Sequence[float]
) -> list[tuple[Labels, dict[int, float]]]:
    """Merge tokens of a mask into ever larger clusters.

    Each step merges the two 4-neighboring clusters whose mean features have the highest cosine; a level ends when no pair
    reaches its threshold. With a heap of pairs, N tokens take O(N log N) comparisons instead of the O(N^2) of a scan of
    all pairs in every step. Of equal cosines the pair with the lowest token indices is merged first.

    Args:
        tokens: (N, D) float64, row-major.
        inside: (gh, gw) bool with gh * gw = N; other tokens are ignored.
        thresholds: of the cosine, decreasing.

    Returns:
        For every threshold: (gh, gw) int64, the lowest token index of each token's cluster, -1 outside; and the cosine at
        which each cluster was last merged, by that index.
    """
    clusters = _Clusters(tokens, inside)
    levels = []
    for threshold in thresholds:
        clusters.merge_down_to(threshold)
        levels.append((clusters.labels(), dict(clusters.coherence)))
    return levels


class _Clusters:
    """Clusters during merging: sums of features, neighbors, and a heap of pairs in which outdated entries remain."""

    def __init__(self, tokens: Features, inside: NDArray[np.bool_]) -> None:
        self._grid = inside.shape
        self._sums = {int(i): tokens[i].copy() for i in np.flatnonzero(inside)}
        self._root = {i: i for i in self._sums}
        self._neighbors: dict[int, set[int]] = {i: set() for i in self._sums}
        self._version = dict.fromkeys(self._sums, 0)
        self.coherence: dict[int, float] = {}
        self._heap: list[tuple[float, int, int, int, int]] = []
        for i, j in _adjacent(inside):
            self._neighbors[i].add(j)
            self._neighbors[j].add(i)
        for i in self._sums:
            self._push(i, [j for j in self._neighbors[i] if j > i])

    def merge_down_to(self, threshold: float) -> None:
        """Merge the most similar neighbors until no pair reaches the threshold."""
        while self._heap and -self._heap[0][0] >= threshold:
            negative, i, j, at_i, at_j = heapq.heappop(self._heap)
            if self._version.get(i) == at_i and self._version.get(j) == at_j:
                self._merge(i, j, -negative)

    def labels(self) -> Labels:
        """The lowest token index of each token's cluster, -1 outside: (gh, gw)."""
        labels = np.full(self._grid[0] * self._grid[1], -1, dtype=np.int64)
        for i in self._root:
            labels[i] = self._find(i)
        return labels.reshape(self._grid)

    def _merge(self, i: int, j: int, cosine: float) -> None:
        # Pairs are stored as (low, high), so a cluster keeps its lowest token's index.
        self._sums[i] += self._sums.pop(j)
        self._root[j] = i
        around = (self._neighbors[i] | self._neighbors.pop(j)) - {i, j}
        for other in around:
            self._neighbors[other].discard(j)
            self._neighbors[other].add(i)
        self._neighbors[i] = around
        self._version[i] += 1
        del self._version[j]
        self.coherence[i] = min(cosine, self.coherence.get(i, 1.0), self.coherence.pop(j, 1.0))
        self._push(i, sorted(around))

    def _push(self, i: int, others: list[int]) -> None:
        if not others:
            return
        feature, neighbors = self._sums[i], np.stack([self._sums[j] for j in others])
        # The mean has the direction of the sum; tokens of zero length get the lowest cosine.
        lengths = np.linalg.norm(feature) * np.linalg.norm(neighbors, axis=1)
        cosines = np.divide(neighbors @ feature, lengths, out=np.full(len(others), -1.0), where=lengths > 0)
        for j, cosine in zip(others, cosines.tolist(), strict=True):
            low, high = min(i, j), max(i, j)
            heapq.heappush(self._heap, (-cosine, low, high, self._version[low], self._version[high]))

    def _find(self, i: int) -> int:
        while self._root[i] != i:
            self._root[i] = self._root[self._root[i]]
            i = self._root[i]
        return i


def _adjacent(inside: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of tokens inside that share a side."""
    index = np.arange(inside.size).reshape(inside.shape)
    for both, first, second in (
        (inside[:, :-1] & inside[:, 1:], index[:, :-1], index[:, 1:]),
        (inside[:-1] & inside[1:], index[:-1], index[1:]),
    ):
        yield from zip(first[both].tolist(), second[both].tolist(), strict=True)
