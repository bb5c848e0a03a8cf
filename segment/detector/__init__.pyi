from .detector import ClassAgnosticDetector as ClassAgnosticDetector
from .self_training import merge_labels as merge_labels, self_train as self_train
from .settings import Architecture as Architecture, Detections as Detections, Recipe as Recipe
