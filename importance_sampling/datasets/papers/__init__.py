"""Data sets of the papers of 2017 to 2019, read from local files."""

from ._faces import CASIAWebFace, CASIAWebFace2
from ._imagenet import ImageNetDownsampled
from ._lfw import LFW
from ._penn_treebank import PennTreeBank
from ._scenes import MIT67
from ._timit import TIMIT, convert_timit

__all__ = [
    "LFW",
    "MIT67",
    "TIMIT",
    "CASIAWebFace",
    "CASIAWebFace2",
    "ImageNetDownsampled",
    "PennTreeBank",
    "convert_timit",
]
