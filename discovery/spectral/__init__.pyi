from .affinity import (
    Affinity as Affinity,
    affinity_from_weights as affinity_from_weights,
    build_affinity as build_affinity,
    graphs_per_batch as graphs_per_batch,
    normalized_cut as normalized_cut,
)
from .arpack import solve_ncut_arpack as solve_ncut_arpack
from .certificate import Status as Status, has_cut as has_cut
from .checks import check_features as check_features, check_graph_parameters as check_graph_parameters
from .dense import solve_ncut_dense as solve_ncut_dense
from .lobpcg import solve_ncut_lobpcg as solve_ncut_lobpcg
from .ragged import solve_ncut_ragged as solve_ncut_ragged
from .result import NcutResult as NcutResult, orient as orient, peak_index as peak_index
from .solve import NcutSolver as NcutSolver, check_solver as check_solver, solve_ncut as solve_ncut
