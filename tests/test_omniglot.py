"""Omniglot: what the loaders return, that it is the published data, and that nothing else passes for it."""

import hashlib
import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from lib.data import DataError, cache, load_omniglot_background, load_omniglot_runs, omniglot
from lib.data.omniglot import parse_answers

LOADERS = [load_omniglot_background, load_omniglot_runs]


def errors_of_nearest_pixels(runs) -> float:
    distance = torch.cdist(runs.test.flatten(2).float(), runs.training.flatten(2).float())
    return (distance.argmin(2) != runs.answers).float().mean().item()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png")
    return file.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        for path, content in files.items():
            members.writestr(path, content)
    return file.getvalue()


def put(empty_cache, name: str, content: bytes) -> cache.File:
    """Write a file into the cache and return it with its right checksum."""
    (empty_cache / "omniglot").mkdir(exist_ok=True)
    (empty_cache / "omniglot" / name).write_bytes(content)
    return cache.File(f"omniglot/{name}", hashlib.sha256(content).hexdigest(), ())


# What the loaders return


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("side", [0, -21, 28, 210, 21.0, "21", None, True])
def test_a_side_that_no_image_can_have_is_refused(loader, side):
    with pytest.raises(ValueError, match="must be an integer that divides 105") as caught:
        loader(side)
    assert repr(side) in str(caught.value)


@pytest.mark.parametrize("side", [1, 15, 21])
def test_the_background_has_the_same_schema_for_the_real_data_and_the_stand_in(side):
    images, labels, names, source = load_omniglot_background(side)
    assert images.shape == (len(labels), side, side)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert labels.tolist() == [i for i in range(len(names)) for _ in range(20)]
    assert list(names) == sorted(set(names))
    assert len({name.split("/")[0] for name in names}) == 8
    assert all(len(name.split("/")) == 2 for name in names)
    assert f"{len(labels):,} images".replace(",", " ") in source


@pytest.mark.parametrize("side", [1, 15, 21])
def test_the_runs_have_the_same_schema_for_the_real_data_and_the_stand_in(side):
    training, test, answers, source = load_omniglot_runs(side)
    for images in (training, test):
        assert images.shape == (20, 20, side, side)
        assert images.dtype == torch.uint8
    assert answers.dtype == torch.int64
    assert torch.equal(answers.sort(1).values, torch.arange(20).expand(20, 20))
    assert "400 questions" in source


@pytest.mark.parametrize("loader", LOADERS)
def test_every_load_returns_memory_of_its_own(loader):
    first, second = loader(15), loader(15)
    first[0].fill_(7)
    first[1].fill_(7)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize("loader", LOADERS)
def test_images_as_published_are_paper_and_ink_and_little_of_it_is_ink(loader):
    images = loader()[0]
    assert images.shape[-1] == 105
    assert images.unique().tolist() == [0, 255]
    assert 0.02 < images.float().mean() / 255 < 0.15


@pytest.mark.parametrize("loader", LOADERS)
def test_smaller_images_hold_as_much_ink(loader):
    large, small = loader()[0].double().mean().item(), loader(21)[0].double().mean().item()
    assert small == pytest.approx(large, abs=0.01)  # each pixel is rounded


def test_no_drawing_of_the_runs_is_in_the_background():
    background, runs = load_omniglot_background(), load_omniglot_runs()
    known = {image.numpy().tobytes() for image in background.images}
    assert not any(image.numpy().tobytes() in known for image in torch.cat([runs.training, runs.test]).flatten(0, 1))


def test_pixels_alone_do_better_than_chance_and_far_from_well():
    assert 0.5 < errors_of_nearest_pixels(load_omniglot_runs(21)) < 0.9


def test_the_real_data_are_the_published_ones():
    background, runs = load_omniglot_background(), load_omniglot_runs()
    if not (background.is_real and runs.is_real):
        pytest.skip(f"the real data are not in the cache: {background.source}")
    alphabets = [name.split("/")[0] for name in background.names]
    assert {name: alphabets.count(name) for name in alphabets} == {
        "Balinese": 24,
        "Early_Aramaic": 22,
        "Greek": 24,
        "Japanese_(katakana)": 47,
        "Korean": 40,
        "Latin": 26,
        "Sanskrit": 42,
        "Tagalog": 17,
    }
    assert len(background.images.flatten(1).unique(dim=0)) == len(background.images) == 4840
    assert runs.answers[0, :5].tolist() == [7, 8, 1, 18, 9]
    assert errors_of_nearest_pixels(runs) == pytest.approx(0.81, abs=0.003)


# The stand-ins


def test_a_stand_in_says_what_it_is_and_why(empty_cache, capsys):
    assert not load_omniglot_background(21).is_real
    assert not load_omniglot_runs(21).is_real
    message = capsys.readouterr().err
    assert message.count("Omniglot is not available, so a small stand-in takes its place.") == 1
    assert "set LOSSES_DATA to a folder" in message


@pytest.mark.parametrize("loader", LOADERS)
def test_without_a_fallback_what_is_missing_is_an_error(empty_cache, loader):
    with pytest.raises(DataError, match=r"omniglot/\w+\.zip cannot be downloaded"):
        loader(21, fallback=False)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_stand_in_is_deterministic_and_leaves_the_random_generators_alone(empty_cache, loader):
    torch.manual_seed(1)
    np.random.seed(1)
    before = loader(21)
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    assert (torch.rand(1), np.random.rand()) == drawn
    for one, other in zip(before, loader(21), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_file_with_another_checksum_is_never_used(empty_cache, monkeypatch):
    put(empty_cache, "all_runs.zip", b"PK, but not the published bytes")
    assert not load_omniglot_runs(21).is_real
    assert not (empty_cache / "omniglot" / "all_runs.zip").exists()


# Reading the files


def a_background(alphabets: dict[str, int]) -> bytes:
    """A tiny background set: of each alphabet two characters with one drawing each, of that much ink."""
    paper = np.full((105, 105), 255, np.uint8)
    files = {}
    for alphabet, ink in alphabets.items():
        for character in ("character01", "character02"):
            drawing = paper.copy()
            drawing[:ink, :ink] = 0
            files[f"images_background_small1/{alphabet}/{character}/0001_01.png"] = png(drawing)
    return archive(files)


def test_an_alphabet_that_is_in_both_files_is_returned_once(empty_cache, monkeypatch):
    files = tuple(
        put(empty_cache, f"small{i}.zip", a_background(alphabets))
        for i, alphabets in enumerate([{"Latin": 10, "Greek": 20}, {"Greek": 20, "Tagalog": 30}])
    )
    monkeypatch.setattr(omniglot, "BACKGROUND", files)
    data = load_omniglot_background()
    assert data.is_real
    assert data.names == tuple(f"{a}/character0{i}" for a in ("Greek", "Latin", "Tagalog") for i in (1, 2))
    assert data.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert (data.images == 255).sum((1, 2)).tolist() == [400, 400, 100, 100, 900, 900]


def test_an_image_of_another_size_is_refused_by_name(empty_cache, monkeypatch):
    files = archive({"images_background_small1/Latin/character01/0001_01.png": png(np.zeros((105, 104), np.uint8))})
    monkeypatch.setattr(omniglot, "BACKGROUND", (put(empty_cache, "small1.zip", files),))
    with pytest.raises(ValueError, match=r"0001_01\.png is 104 x 105 pixels; 105 x 105 are wanted"):
        load_omniglot_background(21)


def lines(answers: list[int], run: int = 3) -> str:
    return "".join(
        f"run{run:02}/test/item{item + 1:02}.png run{run:02}/training/class{kind + 1:02}.png\n"
        for item, kind in enumerate(answers)
    )


def test_parsing_undoes_writing_in_whatever_order_the_lines_stand():
    answers = np.random.RandomState(0).permutation(20).tolist()
    text = lines(answers)
    assert parse_answers(text, 3) == answers
    assert parse_answers("\n".join(reversed(text.splitlines())), 3) == answers


@pytest.mark.parametrize(
    "text",
    [
        "",
        lines(list(range(19))),
        lines(list(range(21))),
        lines([0, *range(19)]),
        lines(list(range(20)), run=4),
        lines(list(range(20))) + "and more\n",
    ],
)
def test_answers_that_are_not_one_for_each_drawing_are_refused(text):
    with pytest.raises(ValueError, match="run 3 wants 20 lines"):
        parse_answers(text, 3)


@pytest.mark.parametrize("side", [1, 3, 5, 7, 15, 21, 35, 105])
def test_each_pixel_of_a_smaller_image_is_the_mean_of_a_square(empty_cache, monkeypatch, side):
    pixels = np.random.RandomState(0).choice(np.array([0, 255], np.uint8), (105, 105))
    files = archive({"images_background_small1/Latin/character01/0001_01.png": png(pixels)})
    monkeypatch.setattr(omniglot, "BACKGROUND", (put(empty_cache, "small1.zip", files),))
    (image,) = load_omniglot_background(side).images
    step = 105 // side
    for row, column in np.ndindex(side, side):
        square = pixels[row * step : (row + 1) * step, column * step : (column + 1) * step]
        assert image[row, column].item() == pytest.approx(255 - square.mean(), abs=0.5)
