from .deep_spectral import DeepSpectral as DeepSpectral
from .eigensegments import Eigensegments as Eigensegments
from .regions import multi_region as multi_region
