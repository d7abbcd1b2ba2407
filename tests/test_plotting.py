"""The look of the figures: readable on light and dark pages and without full colour vision, and drawn from the data."""

import base64
import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image

from lib import catalog, losses, plotting
from lib.training import CalibrationBins, History

STYLESHEET = Path(__file__).parent.parent / "website" / "style.css"

# Colour as people without one kind of cone see it: Machado, Oliveira, Fernandes 2009, doi:10.1109/TVCG.2009.113
VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


def linear(rgb) -> np.ndarray:
    """sRGB in [0, 1] to linear light."""
    rgb = np.clip(rgb, 0, 1)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(first, second) -> float:
    """The contrast of two colours, from 1 to 21, as WCAG 2 defines it."""
    light, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(linear_rgb) -> np.ndarray:
    """CIE L*a*b* of linear light, in which distance is roughly what the eye sees."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ np.clip(linear_rgb, 1e-4, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def on_a_dark_page(rgb) -> np.ndarray:
    """What the website's filter makes of a colour: invert(share), then hue-rotate(180deg), as CSS defines them."""
    share = float(re.search(r"filter: invert\(([\d.]+)\) hue-rotate\(180deg\)", STYLESHEET.read_text())[1])
    red, green, blue = 0.213, 0.715, 0.072
    half_turn = 2 * np.array([[red, green, blue]] * 3) - np.eye(3)
    return np.clip(half_turn @ (share + np.array(rgb) * (1 - 2 * share)), 0, 1)


@pytest.fixture(autouse=True)
def course_style():
    with plt.rc_context():
        plotting.use_style()
        yield
        plt.close("all")


@pytest.mark.parametrize("color", [*plotting.PALETTE, plotting.GREY])
def test_a_line_stands_out_from_the_panel_on_light_and_dark_pages(color):
    assert contrast(to_rgb(color), (1, 1, 1)) >= 3
    assert contrast(on_a_dark_page(to_rgb(color)), on_a_dark_page((1, 1, 1))) >= 3


def test_text_is_as_readable_as_the_guidelines_ask_on_light_and_dark_pages():
    ink = to_rgb(plt.rcParams["text.color"])
    assert contrast(ink, (1, 1, 1)) >= 7
    assert contrast(on_a_dark_page(ink), on_a_dark_page((1, 1, 1))) >= 7


@pytest.mark.parametrize("vision", VISION)
def test_the_colours_of_the_palette_can_be_told_apart(vision):
    seen = {color: lab(VISION[vision] @ linear(to_rgb(color))) for color in plotting.PALETTE}
    for first, second in itertools.combinations(plotting.PALETTE, 2):
        assert np.linalg.norm(seen[first] - seen[second]) > 10, (first, second)


def test_every_loss_has_a_colour():
    for entry in catalog.ENTRIES:
        assert plotting.loss_color(entry.name) in plotting.PALETTE
    assert set(plotting.LOSS_COLORS) == {entry.name for entry in catalog.ENTRIES}


def test_an_unknown_loss_is_told_the_nearest_name():
    with pytest.raises(
        ValueError, match="no loss called 'cross_entropi' has a colour; the nearest name is 'cross_entropy'"
    ):
        plotting.loss_color("cross_entropi")


def test_show_source_leaves_out_the_docstring_and_nothing_else():
    def sample(x):
        """Say nothing."""

        text = """not a docstring"""
        return x, text

    shown = plotting.show_source(sample).data
    assert "Say nothing" not in shown
    assert shown.splitlines() == [
        "```python",
        "def sample(x):",
        '    text = """not a docstring"""',
        "    return x, text",
        "```",
    ]


def test_show_source_leaves_out_the_docstrings_of_methods_too():
    shown = plotting.show_source(History).data
    assert "loss: list[float]" in shown
    assert '"""' not in shown


def test_an_image_grid_shows_each_image_once_under_what_it_is_and_was_read_as():
    images = torch.arange(3 * 4 * 4).reshape(3, 4, 4)
    axes = plotting.image_grid(images, torch.tensor([1, 2, 3]), torch.tensor([1, 7, 3]), [0.5, 0.25, 1.0], columns=2)
    assert axes.shape == (2, 2)
    titles = [ax.get_title() for ax in axes.flat]
    assert titles == ["1 read as 1\np = 0.5000", "2 read as 7\np = 0.2500", "3 read as 3\np = 1.0000", ""]
    for ax, image in zip(axes.flat, images, strict=False):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)


@pytest.mark.parametrize(("images", "labels"), [(3, 2), (0, 0)])
def test_an_image_grid_refuses_lengths_that_differ_and_nothing_at_all(images, labels):
    with pytest.raises(ValueError, match=r"as many labels .* as images, got lengths"):
        plotting.image_grid(torch.zeros(images, 2, 2), torch.zeros(labels))


def test_learning_curves_draw_training_and_held_out_data_of_every_run():
    runs = [
        History(
            train_loss=[2.0, 1.0],
            test_loss=[1.5, k],
            train_accuracy=[0.5, 0.6],
            test_accuracy=[0.4, 0.7],
        )
        for k in (1.2, 1.3)
    ]
    loss_panel, accuracy_panel = plotting.learning_curves(runs, held_out="validation")
    drawn = [line.get_ydata().tolist() for line in loss_panel.lines]
    assert drawn == [[2.0, 1.0], [1.5, 1.2], [2.0, 1.0], [1.5, 1.3]]
    assert accuracy_panel.lines[1].get_ydata().tolist() == [40.0, 70.0]
    assert [text.get_text() for text in loss_panel.get_legend().get_texts()] == ["training", "validation"]


def test_a_confusion_grid_shows_mistakes_and_hides_right_answers():
    ax = plotting.confusion_grid(np.array([[90, 2], [0, 80]]), ["cat", "dog"])
    assert [(text.get_text(), text.get_position()) for text in ax.texts] == [("2", (1, 0))]


def test_a_reliability_diagram_leaves_out_empty_bins():
    nan = float("nan")
    bins = CalibrationBins(
        share=torch.tensor([0.0, 0.4, 0.6]),
        confidence=torch.tensor([nan, 0.5, 0.9]),
        accuracy=torch.tensor([nan, 0.45, 0.7]),
    )
    ax = plotting.reliability_diagram(bins)
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[0.5, 0.45], [0.9, 0.7]])


# Explorers


SLIDER = plotting.Slider("delta", 0.5, 2.0, 1.0, 3)
DESCRIPTION = "Huber loss and its gradient, while delta moves from one half to two."


def huber_explorer(**options):
    return plotting.loss_explorer(
        {"huber_loss": lambda x, delta: losses.huber_loss(x, torch.zeros_like(x), delta=delta, reduction="none")},
        SLIDER,
        x_label="residual",
        x_range=(-3, 3),
        description=DESCRIPTION,
        fixed={"l1_loss": lambda x: x.abs()},
        **options,
    )


def frames(explorer, panel):
    """The moving curves of a panel, by the slider's value: what the browser picks from."""
    chart = explorer.chart.to_dict()
    parts = [chart, chart["vconcat"][panel], *chart["vconcat"][panel]["layer"]]  # Altair moves shared data upwards
    rows = [row for part in parts for row in part.get("data", {}).get("values", [])]
    return {row["setting"]: row for row in rows if "setting" in row}


@pytest.mark.parametrize("value", SLIDER.values)
def test_explorer_shows_what_the_loss_returns_at_each_position_of_the_slider(value):
    explorer = huber_explorer()
    x = torch.tensor(frames(explorer, 0)[value]["x"], dtype=torch.float64, requires_grad=True)
    loss = losses.huber_loss(x, torch.zeros_like(x), delta=value, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    np.testing.assert_allclose(frames(explorer, 0)[value]["y"], loss.detach(), rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(frames(explorer, 1)[value]["y"], gradient, rtol=2e-3, atol=1e-6)


def test_explorer_has_one_frame_for_each_position_of_the_slider():
    assert list(frames(huber_explorer(), 0)) == SLIDER.values == [0.5, 1.0, 1.5, 2.0]


def test_explorer_is_the_same_text_each_time_and_another_one_for_other_curves():
    assert huber_explorer()._repr_html_() == huber_explorer()._repr_html_()
    names = {
        re.search(r'id="(explorer-\w+)"', huber_explorer(**o)._repr_html_())[1] for o in ({}, {"loss_range": (0, 9)})
    }
    assert len(names) == 2


@pytest.mark.parametrize(("name", "columns"), [("short", None), ("a name of more than thirty letters", 2)])
def test_explorer_names_its_curves_in_two_columns_where_one_row_would_be_too_wide(name, columns):
    curves = {f"{name} {number}": lambda value: ([0, 1], [0, value]) for number in (1, 2)}
    panel = plotting.Panel(curves, "x", "y", (0, 1), (0, 2))
    chart = plotting.explorer([panel], SLIDER, description=DESCRIPTION, colors=dict.fromkeys(curves, "#000000")).chart
    first = chart.to_dict()["vconcat"][0]["layer"][0]["encoding"]["color"]["legend"]
    assert first.get("columns") == columns


def test_explorer_can_be_heard_and_printed():
    explorer = huber_explorer()
    page = BeautifulSoup(explorer._repr_html_(), "html.parser")
    assert page.img["alt"] == repr(explorer) == explorer.chart.to_dict()["description"] == DESCRIPTION
    still = base64.b64decode(page.img["src"].partition("base64,")[2])
    image = Image.open(io.BytesIO(still)).convert("RGB")
    assert image.width > 400
    assert len(still) < 40_000
    assert plotting.loss_color("huber_loss") == plotting.GREEN
    green = tuple(int(plotting.GREEN[i : i + 2], 16) for i in (1, 3, 5))
    assert np.abs(np.asarray(image, dtype=int) - green).max(axis=2).min() < 12


def test_curve_named_like_a_loss_has_the_color_of_that_loss_and_no_other_has_it():
    scale = huber_explorer().chart.to_dict()["vconcat"][0]["layer"][0]["encoding"]["color"]["scale"]
    colors = dict(zip(scale["domain"], scale["range"], strict=True))
    assert colors == {"huber_loss": plotting.GREEN, "l1_loss": plotting.VERMILION}
    panel = plotting.Panel(
        {"huber_loss": lambda _: ([0], [0]), "other": lambda _: ([0], [0])}, "x", "y", (0, 1), (0, 1)
    )
    chart = plotting.explorer([panel], SLIDER, description=DESCRIPTION).chart.to_dict()
    assert plotting.GREEN not in chart["vconcat"][0]["layer"][0]["encoding"]["color"]["scale"]["range"][1:]


def test_what_is_not_finite_leaves_a_gap():
    panel = plotting.Panel({"curve": lambda value: ([0, 1, 2], [math.inf, math.nan, value])}, "x", "y", (0, 1), (0, 1))
    explorer = plotting.explorer([panel], SLIDER, description=DESCRIPTION)
    assert frames(explorer, 0)[1.5]["y"] == [None, None, 1.5]


RIVALS = {"huber_loss": [[0.2, 0.4], [0.6], [0.7], [0.9]], "l1_loss, shifted": [[0.5], [0.5], [0.5], [-3.0]]}


def ranking(panels=None, **options):
    options = {"x_label": "score", "x_ranges": {"A race": (0.0, 1.0)}, "description": DESCRIPTION, **options}
    return plotting.ranking_explorer(panels or {"A race": RIVALS}, SLIDER, **options)


def test_ranking_shows_every_result_and_their_mean_at_each_position_of_the_slider():
    rows = ranking().chart.to_dict()["data"]["values"]
    for place, value in enumerate(SLIDER.values):
        for name, results in RIVALS.items():
            now = [row for row in rows if (row["name"], row["setting"]) == (name, value)]
            drawn = sorted(row["x"] for row in now if not row["of all"])
            assert drawn == sorted(np.clip(results[place], 0, 1))
            (mean,) = (row["x"] for row in now if row["of all"])
            assert mean == pytest.approx(np.clip(np.mean(results[place]), 0, 1))
            assert {row["rank"] for row in now} == {-np.mean(results[place])}


def test_rival_has_the_color_of_the_loss_that_its_name_begins_with():
    scale = ranking().chart.to_dict()["vconcat"][0]["encoding"]["color"]["scale"]
    assert dict(zip(scale["domain"], scale["range"], strict=True)) == {
        "huber_loss": plotting.loss_color("huber_loss"),
        "l1_loss, shifted": plotting.loss_color("l1_loss"),
    }


def test_ranking_can_be_heard_and_printed():
    page = BeautifulSoup(ranking()._repr_html_(), "html.parser")
    assert page.img["alt"] == repr(ranking()) == DESCRIPTION
    assert len(base64.b64decode(page.img["src"].partition("base64,")[2])) < 40_000


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: plotting.Slider("q", 1.0, 0.0, 0.5), "low < high"),
        (lambda: plotting.Slider("q", 0.0, 1.0, 0.5, 0), "at least one step"),
        (lambda: plotting.Slider("q", 0.0, 1.0, 0.3, 4), "can only stand at"),
        (lambda: plotting.explorer([], SLIDER, description=DESCRIPTION), "at least one panel"),
        (
            lambda: plotting.explorer([plotting.Panel({}, "x", "y", (0, 1), (0, 1))], SLIDER, description="A figure"),
            "40 characters",
        ),
        (
            lambda: ranking({"A race": {"huber_loss": [[1.0], [1.0]]}}),
            "huber_loss wants results at each of 4 positions",
        ),
        (lambda: ranking({"A race": {"huber_loss": [[1.0], [], [1.0], [1.0]]}}), "huber_loss wants results at each"),
        (
            lambda: plotting.ranking_explorer({}, SLIDER, x_label="", x_ranges={}, description=DESCRIPTION),
            "one panel",
        ),
        (lambda: ranking(description="A figure"), "40 characters"),
        (lambda: ranking(x_ranges={"Another": (0, 1)}), "A race has no range; there are ranges for Another"),
    ],
)
def test_explorer_that_cannot_work_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
