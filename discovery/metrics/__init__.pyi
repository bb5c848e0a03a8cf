from .corloc import CorLoc as CorLoc, pairwise_iou as pairwise_iou
from .localization import Localization as Localization
