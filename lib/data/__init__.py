"""The data sets of the course, as tensors: ``images, labels, source = load_mnist("train")``.

Files come from the folder that the environment variable ``LOSSES_DATA`` names (default: the user's cache), else from
a mirror, and are used only with the right SHA-256. Where neither has them, the loader says so and returns a small
stand-in of the same shape and dtype, so that every chapter runs anywhere.
"""

from lib.data.cache import DataError
from lib.data.housing import HousingSet, load_housing
from lib.data.mnist import ImageSet, load_fashion_mnist, load_mnist
from lib.data.omniglot import CharacterSet, OneShotRuns, load_omniglot_background, load_omniglot_runs

__all__ = [
    "CharacterSet",
    "DataError",
    "HousingSet",
    "ImageSet",
    "OneShotRuns",
    "load_fashion_mnist",
    "load_housing",
    "load_mnist",
    "load_omniglot_background",
    "load_omniglot_runs",
]
