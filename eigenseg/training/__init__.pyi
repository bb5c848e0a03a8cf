from .batches import Batches as Batches
from .checkpoint import Checkpoints as Checkpoints
from .launch import launch_fabric as launch_fabric
from .loop import TrainingRun as TrainingRun, train as train
from .schedule import Schedule as Schedule
from .settings import TrainingSettings as TrainingSettings
