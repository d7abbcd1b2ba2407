"""MNIST and Fashion-MNIST: 28 x 28 grey images in ten classes, 60 000 to train on and 10 000 to test."""

import gzip
import math
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.cache import STAND_IN, File, load

CLASSES = 10
SIDE = 28  # pixels

Split = tuple[File, File]  # images, labels

_STAND_IN_PARTS = {"train": slice(0, 1500), "test": slice(1500, None)}


class ImageSet(NamedTuple):
    """Labelled grey images.

    Args:
        images: uint8, shape ``(N, 28, 28)``, from 0 (background) to 255.
        labels: int64, shape ``(N,)``, from 0 to 9.
        source: Where they come from, one short sentence.
    """

    images: Tensor
    labels: Tensor
    source: str

    @property
    def is_real(self) -> bool:
        """Whether this is the data set asked for, not its stand-in."""
        return not self.source.startswith(STAND_IN)


def load_mnist(split: str, *, fallback: bool = True) -> ImageSet:
    """Load MNIST, handwritten digits 0 to 9.

    Args:
        split: ``"train"`` (60 000 images) or ``"test"`` (10 000).
        fallback: Where the files cannot be had, whether to return a stand-in (scikit-learn's 1 797 smaller digits,
            1 500 to train and 297 to test, enlarged) and say so on stderr, or to raise.

    Returns:
        Images, labels and their source.

    Raises:
        ValueError: ``split`` is neither ``"train"`` nor ``"test"``.
        DataError: The files cannot be had and ``fallback`` is False.

    Source: Y. LeCun, C. Cortes, C. Burges; LeCun et al. (1998), https://doi.org/10.1109/5.726791.
    """
    return _load("MNIST", "LeCun, Cortes and Burges", MNIST, _enlarged_digits, split, fallback)


def load_fashion_mnist(split: str, *, fallback: bool = True) -> ImageSet:
    """Load Fashion-MNIST, photographs of clothes in ten classes.

    Args:
        split: ``"train"`` (60 000 images) or ``"test"`` (10 000).
        fallback: Where the files cannot be had, whether to return a stand-in (generated patterns, 1 500 to train and
            300 to test) and say so on stderr, or to raise.

    Returns:
        Images, labels (T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot) and their
        source.

    Raises:
        ValueError: ``split`` is neither ``"train"`` nor ``"test"``.
        DataError: The files cannot be had and ``fallback`` is False.

    Source: H. Xiao, K. Rasul, R. Vollgraf (2017), https://arxiv.org/abs/1708.07747.
    """
    return _load("Fashion-MNIST", "Xiao, Rasul and Vollgraf", FASHION_MNIST, _generated_patterns, split, fallback)


def _load(
    name: str, authors: str, files: dict[str, Split], stand_in: Callable[[str], ImageSet], split: str, fallback: bool
) -> ImageSet:
    if split not in ("train", "test"):
        raise ValueError(f'split is {split!r}; it must be "train" or "test"')

    def parse(images: bytes, labels: bytes) -> ImageSet:
        pixels = parse_idx(gzip.decompress(images), (SIDE, SIDE))
        classes = parse_idx(gzip.decompress(labels), ()).long()
        if len(pixels) != len(classes):
            raise ValueError(f"{name}, {split}: {len(pixels)} images, but {len(classes)} labels")
        return ImageSet(pixels, classes, f"{name} ({authors}), {_spaced(len(pixels))} images")

    return load(name, files[split], parse, lambda: stand_in(split), fallback=fallback)


def parse_idx(content: bytes, item: tuple[int, ...]) -> Tensor:
    """Read an idx file of unsigned bytes.

    Two zero bytes, the type (8: unsigned byte), the number of dimensions D, then D sizes as big-endian 32-bit
    integers, then the values, the last dimension fastest.

    Args:
        content: The file, uncompressed.
        item: The shape wanted of each item: ``(28, 28)`` for images, ``()`` for labels.

    Returns:
        uint8, shape ``(N, *item)``.

    Raises:
        ValueError: The file is no idx file of bytes, its items have another shape, or it is too short or too long.

    Source: "The IDX file format", on the MNIST page of Y. LeCun.
    """
    dimensions = 1 + len(item)
    magic = bytes((0, 0, 8, dimensions))
    header = struct.Struct(f">4s{dimensions}I")
    if content[:4] != magic or len(content) < header.size:
        raise ValueError(
            f"an idx file of bytes in {dimensions} dimensions starts with {magic.hex(' ')} and {dimensions} sizes; "
            f"this one starts with {content[: header.size].hex(' ') or 'nothing'}"
        )
    _, *shape = header.unpack_from(content)
    if tuple(shape[1:]) != item:
        raise ValueError(f"the idx file holds items of shape {tuple(shape[1:])}; {item} is wanted")
    found, wanted = len(content) - header.size, math.prod(shape)
    if found != wanted:
        raise ValueError(f"the idx file announces {wanted} values of shape {tuple(shape)}, but holds {found}")
    values = np.frombuffer(content, np.uint8, offset=header.size).reshape(shape)
    return torch.from_numpy(values.copy())  # a copy: tensors must own memory that may be written


def _enlarged_digits(split: str) -> ImageSet:
    """scikit-learn's 8 x 8 digits, enlarged to MNIST's layout: 20 x 20 in the middle of 28 x 28."""
    from sklearn.datasets import load_digits  # here: the import takes a second, which the real data need not spend

    digits = load_digits()
    part = _STAND_IN_PARTS[split]
    small = torch.from_numpy(digits.images[part]).float() * (255 / 16)  # the values range from 0 to 16
    images = F.pad(_enlarged(small, 20), (4, 4, 4, 4))
    labels = torch.from_numpy(digits.target[part]).long()
    source = f"{STAND_IN} MNIST: scikit-learn's digits, enlarged, {_spaced(len(images))} images"
    return ImageSet(_as_bytes(images), labels, source)


def _generated_patterns(split: str) -> ImageSet:
    """A smooth random pattern for each class, under one of each image's own that is twice as strong.

    Twice, because a linear model then gets about as many of them right as of Fashion-MNIST itself.
    """
    random = np.random.RandomState(0)  # its numbers are frozen; those of default_rng may change with numpy
    classes, own = (random.standard_normal((count, 7, 7)).astype(np.float32) for count in (CLASSES, 1800))
    labels = random.permutation(np.arange(len(own)) % CLASSES)
    part = _STAND_IN_PARTS[split]
    images = 40 + 60 * _enlarged(torch.from_numpy(classes[labels] + 2 * own)[part], SIDE)  # a third of it black
    source = f"{STAND_IN} Fashion-MNIST: generated patterns, {_spaced(len(images))} images"
    return ImageSet(_as_bytes(images), torch.from_numpy(labels)[part].long(), source)


def _enlarged(images: Tensor, side: int) -> Tensor:
    """Square images of another size, interpolated smoothly."""
    return F.interpolate(images[:, None], size=(side, side), mode="bicubic")[:, 0]


def _as_bytes(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def _spaced(number: int) -> str:
    """60000 as "60 000"."""
    return f"{number:,}".replace(",", " ")


def _files(folder: str, mirrors: tuple[str, ...], train: tuple[str, str], test: tuple[str, str]) -> dict[str, Split]:
    """The four files, named alike in both data sets, from the SHA-256 of images and labels of each split."""

    def file(name: str, sha256: str) -> File:
        return File(f"{folder}/{name}", sha256, tuple(f"{mirror}/{name}" for mirror in mirrors))

    return {
        split: (file(f"{prefix}-images-idx3-ubyte.gz", images), file(f"{prefix}-labels-idx1-ubyte.gz", labels))
        for split, prefix, (images, labels) in [("train", "train", train), ("test", "t10k", test)]
    }


MNIST = _files(
    "mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    ),
    train=(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    test=(
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
)

FASHION_MNIST = _files(
    "fashion-mnist",
    mirrors=(
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    train=(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    test=(
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)
