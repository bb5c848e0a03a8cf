from .found import FOUND as FOUND
from .head import FoundHead as FoundHead, load_head as load_head
from .targets import solver_targets as solver_targets
from .training import FoundRecipe as FoundRecipe, FoundTraining as FoundTraining
