"""Omniglot: handwritten characters of many alphabets, each drawn by twenty people, and its one-shot test."""

import io
import re
import zipfile
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lib.data.cache import STAND_IN, File, load

SIDE = 105  # pixels, of an image as published
RUNS, CLASSES = 20, 20  # of the one-shot test
DRAWINGS = 20  # of each background character

_ALPHABETS, _CHARACTERS = 8, 12  # of the stand-in
_STROKES, _POINTS = 3, 4  # of a character of the stand-in


class CharacterSet(NamedTuple):
    """Drawings of characters, in the order of their labels.

    Args:
        images: uint8, shape ``(N, side, side)``, from 0 (paper) to 255 (ink).
        labels: int64, shape ``(N,)``: the character, a place in ``names``.
        names: of the characters, alphabet first: ``"Greek/character01"``.
        source: Where they come from, one short sentence.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    source: str

    @property
    def is_real(self) -> bool:
        """Whether this is the data set asked for, not its stand-in."""
        return not self.source.startswith(STAND_IN)


class OneShotRuns(NamedTuple):
    """Tests in which each of 20 characters is shown once, and then 20 other drawings are to be named.

    Args:
        training: uint8, shape ``(20, 20, side, side)``: of each run, the one drawing of each character.
        test: uint8, shape ``(20, 20, side, side)``: of each run, the drawings to be named.
        answers: int64, shape ``(20, 20)``: for each test drawing, the place of its character in ``training``.
        source: Where they come from, one short sentence.
    """

    training: Tensor
    test: Tensor
    answers: Tensor
    source: str

    @property
    def is_real(self) -> bool:
        """Whether this is the data set asked for, not its stand-in."""
        return not self.source.startswith(STAND_IN)


def load_omniglot_background(side: int = SIDE, *, fallback: bool = True) -> CharacterSet:
    """Load the two small background sets of Omniglot, to learn from: 242 characters of eight alphabets.

    Five alphabets are in each set. Greek and Latin are in both, with the same images, and are returned once.

    Args:
        side: How many pixels wide and high the images shall be: 105, as published, or a divisor of it (35, 21, ...),
            whose pixels are means over squares.
        fallback: Where the files cannot be had, whether to return a stand-in (generated strokes, 96 characters) and
            say so on stderr, or to raise.

    Returns:
        Images (20 of each character), labels, names and their source.

    Raises:
        ValueError: ``side`` is no divisor of 105, or a published image has another size.
        DataError: The files cannot be had and ``fallback`` is False.

    Source: B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum, Science 350 (2015), https://doi.org/10.1126/science.aab3050
    (MIT licence).
    """
    _check_side(side)

    def parse(*archives: bytes) -> CharacterSet:
        drawings = {}
        for archive in archives:
            drawings |= {tuple(path.split("/")[1:]): image for path, image in _images(archive).items()}
        return _as_set(drawings, side, "Omniglot (Lake, Salakhutdinov and Tenenbaum)")

    return load("Omniglot", BACKGROUND, parse, lambda: _generated_background(side), fallback=fallback)


def load_omniglot_runs(side: int = SIDE, *, fallback: bool = True) -> OneShotRuns:
    """Load the 20 published one-shot runs of Omniglot: 20 characters each, all of one alphabet, none in the background.

    Args:
        side: As in ``load_omniglot_background``.
        fallback: Likewise; the characters of the stand-in are not in its background either.

    Returns:
        The drawings to learn from, those to be named, the right answers and their source.

    Raises:
        ValueError: ``side`` is no divisor of 105, or the published file is not what it should be.
        DataError: The file cannot be had and ``fallback`` is False.

    Source: B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum, Science 350 (2015), https://doi.org/10.1126/science.aab3050
    (MIT licence).
    """
    _check_side(side)

    def parse(archive: bytes) -> OneShotRuns:
        images = _images(archive)
        runs = range(1, RUNS + 1)
        training = [images[f"run{run:02}/training/class{i:02}.png"] for run in runs for i in range(1, CLASSES + 1)]
        test = [images[f"run{run:02}/test/item{i:02}.png"] for run in runs for i in range(1, CLASSES + 1)]
        with zipfile.ZipFile(io.BytesIO(archive)) as files:
            answers = [parse_answers(files.read(f"run{run:02}/class_labels.txt").decode(), run) for run in runs]
        source = "Omniglot's one-shot runs (Lake, Salakhutdinov and Tenenbaum), 400 questions"
        return OneShotRuns(_by_run(training, side), _by_run(test, side), torch.tensor(answers), source)

    return load("Omniglot", (ONE_SHOT_RUNS,), parse, lambda: _generated_runs(side), fallback=fallback)


def parse_answers(text: str, run: int) -> list[int]:
    """Read the right answers of a run, lines such as ``run01/test/item01.png run01/training/class08.png``.

    Args:
        text: The file ``class_labels.txt``.
        run: Which run it is of, from 1.

    Returns:
        For each test drawing, in their order, the place of its character among the training drawings, from 0.

    Raises:
        ValueError: The lines are not one for each of 20 drawings, each with another character.
    """
    pattern = rf"run{run:02}/test/item(\d\d)\.png run{run:02}/training/class(\d\d)\.png"
    pairs = [(int(item) - 1, int(kind) - 1) for item, kind in re.findall(pattern, text)]
    parts = [sorted(part) for part in zip(*pairs, strict=True)]
    if len(text.split()) != 2 * CLASSES or parts != [list(range(CLASSES))] * 2:
        raise ValueError(
            f"run {run} wants {CLASSES} lines that give each of {CLASSES} test drawings another character, got {text!r}"
        )
    return [kind for _, kind in sorted(pairs)]


def _check_side(side: int) -> None:
    if not isinstance(side, int) or isinstance(side, bool) or side < 1 or SIDE % side:
        raise ValueError(f"side is {side!r}; it must be an integer that divides {SIDE}, the side of a published image")


def _images(archive: bytes) -> dict[str, np.ndarray]:
    """Return the images of a zip file by their paths, true where there is ink."""
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        return {path: _ink(files.read(path), path) for path in files.namelist() if path.endswith(".png")}


def _ink(content: bytes, path: str) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        if image.size != (SIDE, SIDE):
            raise ValueError(f"{path} is {image.width} x {image.height} pixels; {SIDE} x {SIDE} are wanted")
        return np.asarray(image.convert("L")) < 128


def _stacked(images: list[np.ndarray], side: int) -> Tensor:
    """Return images of ink as one tensor of bytes, each pixel the mean of a square of theirs."""
    squares = np.stack(images).reshape(len(images), side, SIDE // side, side, SIDE // side)
    return torch.from_numpy((255 * squares.mean((2, 4)) + 0.5).astype(np.uint8))


def _by_run(images: list[np.ndarray], side: int) -> Tensor:
    return _stacked(images, side).reshape(RUNS, CLASSES, side, side)


def _as_set(drawings: dict[tuple[str, str, str], np.ndarray], side: int, source: str) -> CharacterSet:
    """Return drawings, given by alphabet, character and file, in the order of these three."""
    order = sorted(drawings)
    characters = [f"{alphabet}/{character}" for alphabet, character, _ in order]
    names = tuple(dict.fromkeys(characters))
    label = {name: number for number, name in enumerate(names)}
    labels = torch.tensor([label[name] for name in characters])
    spaced = f"{len(order):,}".replace(",", " ")
    return CharacterSet(_stacked([drawings[key] for key in order], side), labels, names, f"{source}, {spaced} images")


def _generated_background(side: int) -> CharacterSet:
    """Generated characters: strokes through random points, which each drawing shifts a little."""
    random = np.random.RandomState(0)  # its numbers are frozen; those of default_rng may change with numpy
    drawings = {}
    for alphabet in range(1, _ALPHABETS + 1):
        for character in range(1, _CHARACTERS + 1):
            strokes = _character(random)
            for drawing in range(1, DRAWINGS + 1):
                key = (f"alphabet{alphabet}", f"character{character:02}", f"{drawing:02}")
                drawings[key] = _drawn(strokes, random)
    return _as_set(drawings, side, f"{STAND_IN} Omniglot: generated strokes")


def _generated_runs(side: int) -> OneShotRuns:
    random = np.random.RandomState(1)
    characters = [_character(random) for _ in range(RUNS * CLASSES)]
    answers = np.stack([random.permutation(CLASSES) for _ in range(RUNS)])
    asked = (answers + CLASSES * np.arange(RUNS)[:, None]).ravel()
    training = [_drawn(strokes, random) for strokes in characters]
    test = [_drawn(characters[number], random) for number in asked]
    source = f"{STAND_IN} Omniglot's one-shot runs: generated strokes, {len(test)} questions"
    return OneShotRuns(_by_run(training, side), _by_run(test, side), torch.from_numpy(answers).long(), source)


def _character(random: np.random.RandomState) -> np.ndarray:
    """Return the corners of the strokes of a new character, within a square from -1 to 1."""
    return random.uniform(-0.75, 0.75, (_STROKES, _POINTS, 2))


def _drawn(strokes: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return one drawing of a character: turned, stretched and moved as a whole, its corners a little each."""
    turned = np.eye(2) + random.uniform(-0.2, 0.2, (2, 2))
    corners = (strokes + random.normal(0, 0.06, strokes.shape)) @ turned + random.uniform(-0.15, 0.15, 2)
    image = Image.new("1", (SIDE, SIDE))
    pen = ImageDraw.Draw(image)
    for stroke in np.rint((corners + 1) * (SIDE - 1) / 2).astype(int).tolist():
        pen.line([tuple(corner) for corner in stroke], fill=1, width=3)
    return np.asarray(image)


def _file(name: str, sha256: str) -> File:
    repository = (
        "https://raw.githubusercontent.com/brendenlake/omniglot/057f034baf2ecb8530bc5710e5a23584d2a519cc/python"
    )
    return File(f"omniglot/{name.rpartition('/')[-1]}", sha256, (f"{repository}/{name}",))


BACKGROUND = (
    _file("images_background_small1.zip", "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
    _file("images_background_small2.zip", "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
)

ONE_SHOT_RUNS = _file(
    "one-shot-classification/all_runs.zip", "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325"
)
