"""The solvers that are timed: this toolkit, the published call, and library routines for the same eigenvectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy import linalg
from scipy.sparse.linalg import eigsh
from torch import Tensor

from benchmarks.graphs import TAU
from eigenseg.discovery.spectral import NcutResult, Status, build_affinity, solve_ncut

EPS = 1e-5


@dataclass(frozen=True)
class Answer:
    """Result of a contestant; evidence that it does not provide is None."""

    bits: np.ndarray  # (n, N) bool, whether a token lies above the mean
    residual: float  # largest |M y - mu y|
    passes: list[int] | None = None
    unproven: int | None = None
    fallbacks: int | None = None


class Contestant(Protocol):
    """``build`` makes the graphs, ``solve`` computes their second eigenvectors; both are timed, ``answer`` is not."""

    def build(self, features: Tensor) -> Any: ...

    def solve(self, graphs: Any) -> Any: ...

    def answer(self, graphs: Any, solution: Any) -> Answer: ...


class Eigenseg:
    def __init__(self, tol: float = 1e-10, storage: Any = "auto") -> None:
        self.tol, self.storage = tol, storage

    def build(self, features: Tensor) -> Any:
        graphs = build_affinity(features, tau=TAU, eps=EPS, storage=self.storage)
        assert graphs.degrees.min() > 0  # computed on first access and cached: part of the build
        return graphs

    def solve(self, graphs: Any) -> NcutResult:
        return solve_ncut(graphs, tol=self.tol)

    def answer(self, graphs: Any, solution: NcutResult) -> Answer:
        x = solution.eigenvectors[:, :, 0]
        return Answer(
            (x > x.mean(dim=1, keepdim=True)).cpu().numpy(),
            float(solution.residuals.max()),
            solution.passes.tolist(),
            int((~solution.proven).sum()),
            sum(status is not Status.CONVERGED for status in solution.status),
        )


class Published:
    """The published call: generalized eigenproblem of dense float64 matrices D - W and D, one image at a time."""

    def build(self, features: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
        graphs = []
        for rows in features.numpy():
            unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            weights = np.where(unit @ unit.T > TAU, 1.0, EPS)
            degrees = np.diag(weights.sum(axis=1))
            graphs.append((degrees - weights, degrees))
        return graphs

    def solve(self, graphs: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        return [linalg.eigh(laplacian, degrees, subset_by_index=[1, 2]) for laplacian, degrees in graphs]

    def answer(self, graphs: Any, solution: Any) -> Answer:
        bits, worst = [], 0.0
        for (laplacian, degrees), (values, vectors) in zip(graphs, solution, strict=True):
            x, root = vectors[:, 0], np.sqrt(np.diag(degrees))
            bits.append(x > x.mean())
            worst = max(worst, float(np.linalg.norm((laplacian @ x) / root - values[0] * root * x)))
        return Answer(np.stack(bits), worst)


class Standard:
    """A library's symmetric eigensolver on a precomputed dense float64 M = D^-1/2 W D^-1/2."""

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        graphs = []
        for i in range(len(features)):
            affinity = build_affinity(features[i : i + 1], tau=TAU, eps=EPS)
            root = affinity.degrees[0].sqrt()
            graphs.append((affinity.dense()[0] / root[:, None] / root[None], root))
        return graphs

    def solve(self, graphs: Any) -> list[tuple[float, Tensor]]:
        if self.name == "batched eigh":
            values, vectors = torch.linalg.eigh(torch.stack([matrix for matrix, _ in graphs]))
            return [(float(mu), y) for mu, y in zip(values[:, -2], vectors[:, :, -2], strict=True)]
        return [self._second(matrix) for matrix, _ in graphs]

    def _second(self, matrix: Tensor) -> tuple[float, Tensor]:
        last = len(matrix) - 1
        if self.name == "scipy eigh":
            values, vectors = linalg.eigh(matrix.numpy(), subset_by_index=[last - 1, last], driver="evr")
            return float(values[0]), torch.from_numpy(vectors[:, 0])
        if self.name == "torch eigh":
            values, vectors = torch.linalg.eigh(matrix)
            return float(values[-2]), vectors[:, -2]
        if self.name == "torch lobpcg":
            start = torch.randn(len(matrix), 3, generator=torch.Generator().manual_seed(0), dtype=matrix.dtype)
            values, vectors = torch.lobpcg(matrix, k=3, X=start.to(matrix), niter=200, tol=1e-10, largest=True)
            return float(values[1]), vectors[:, 1]
        # The trivial pair, the second one, and the third for its gap; or, with a common loose tolerance, without the third.
        k, tol = (3, 0.0) if self.name == "arpack" else (2, 1e-8)
        start = np.random.default_rng(0).standard_normal(len(matrix))
        values, vectors = eigsh(matrix.numpy(), k=k, which="LA", tol=tol, v0=start)
        order = np.argsort(values)
        return float(values[order[-2]]), torch.from_numpy(vectors[:, order[-2]])

    def answer(self, graphs: Any, solution: Any) -> Answer:
        bits, worst = [], 0.0
        for (matrix, root), (mu, y) in zip(graphs, solution, strict=True):
            x = y / root
            bits.append((x > x.mean()).cpu().numpy())
            worst = max(worst, float((matrix @ y - mu * y).norm()))
        return Answer(np.stack(bits), worst)


CONTESTANTS: dict[str, Contestant] = {
    "eigenseg": Eigenseg(),
    "eigenseg, tol 1e-7": Eigenseg(tol=1e-7),
    "eigenseg, float32 graph": Eigenseg(storage="float32"),
    "scipy eigh generalized (published)": Published(),
    "scipy eigh standard, subset": Standard("scipy eigh"),
    "scipy eigsh, tol 0, k 3": Standard("arpack"),
    "scipy eigsh, tol 1e-8, k 2": Standard("arpack, loose"),
    "torch.linalg.eigh": Standard("torch eigh"),
    "torch.linalg.eigh, batched": Standard("batched eigh"),
    "torch.lobpcg, k 3": Standard("torch lobpcg"),
}
REFERENCE = "scipy eigh generalized (published)"
ON_CPU = [name for name in CONTESTANTS if "batched" not in name]
ON_CUDA = ["eigenseg", "eigenseg, tol 1e-7", "torch.linalg.eigh, batched", "torch.lobpcg, k 3"]
