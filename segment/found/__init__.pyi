from .found import FOUND as FOUND
from .head import FoundHead as FoundHead, load_head as load_head
