"""Normalized cuts of token graphs: ``build_affinity`` makes the graph, ``solve_ncut`` its smallest eigenpairs."""

from eigenseg.discovery.spectral.affinity import (
    Affinity,
    affinity_from_weights,
    build_affinity,
    check_features,
    check_graph_parameters,
    normalized_cut,
)
from eigenseg.discovery.spectral.arpack import solve_ncut_arpack
from eigenseg.discovery.spectral.certificate import Status
from eigenseg.discovery.spectral.dense import solve_ncut_dense
from eigenseg.discovery.spectral.lobpcg import solve_ncut_lobpcg
from eigenseg.discovery.spectral.ragged import graphs_at_once, solve_ncut_ragged
from eigenseg.discovery.spectral.result import NcutResult, orient, peak_index
from eigenseg.discovery.spectral.solve import NcutSolver, solve_ncut

__all__ = [
    "Affinity",
    "NcutResult",
    "NcutSolver",
    "Status",
    "affinity_from_weights",
    "build_affinity",
    "check_features",
    "check_graph_parameters",
    "graphs_at_once",
    "normalized_cut",
    "orient",
    "peak_index",
    "solve_ncut",
    "solve_ncut_arpack",
    "solve_ncut_dense",
    "solve_ncut_lobpcg",
    "solve_ncut_ragged",
]
