from .batching import Batching as Batching
from .run import Outcome as Outcome, Prepared as Prepared, Stages as Stages, run as run
from .times import StageTimes as StageTimes
