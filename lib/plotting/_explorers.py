"""Figures with a slider that need no kernel: Altair draws them in the browser from curves that are computed here.

The curves come from the course's own functions, at each position of the slider; the browser only picks which to show.
So no formula is written a second time, in another language.
"""

import base64
import hashlib
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import altair as alt
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from lib.plotting._style import GREY, INK, LIGHT_GREY, LOSS_COLORS, PALETTE

WIDTH, HEIGHT = 440, 180  # of a panel in pixels: two of them, one below the other, fit on a phone
POINTS = 101
DIGITS = 4  # significant ones; less than a pixel
RANKING_LABELS = 185  # pixels for the names before a ranking
ROW_OF_NAMES = 64  # letters
STILL_COLORS = 48  # of thin lines on white; a third of the bytes of all colours
# The slider stands above the chart, and the still gives way to it.
STYLE = """
.explorer .vega-embed {flex-direction: column; align-items: center}
.explorer .vega-embed form {order: -1}
.explorer .vega-embed svg {max-width: 100%; height: auto}
.explorer .vega-embed ~ .still {display: none}
"""
FONT = "system-ui, sans-serif"
AXIS = {
    "labelFontSize": 12,
    "titleFontSize": 13,
    "labelColor": INK,
    "titleColor": INK,
    "gridColor": LIGHT_GREY,
    "domainColor": GREY,
    "tickColor": GREY,
}


@dataclass(frozen=True)
class Slider:
    """A number for the reader to set.

    Attributes:
        name: what the reader sees before it.
        low: its least value.
        high: its largest value.
        start: where it stands at first, one of its ``values``.
        steps: from ``low`` to ``high``, all of one size.
    """

    name: str
    low: float
    high: float
    start: float
    steps: int = 20

    def __post_init__(self):
        if not self.low < self.high or self.steps < 1:
            raise ValueError(f"a slider wants low < high and at least one step, got {self}")
        if not any(math.isclose(self.start, value, abs_tol=1e-9) for value in self.values):
            raise ValueError(f"the slider starts at {self.start}, but it can only stand at {self.values}")

    @property
    def values(self) -> list[float]:
        """All its positions."""
        return [float(f"{value:.6g}") for value in np.linspace(self.low, self.high, self.steps + 1)]

    @property
    def step(self) -> float:
        """From one position to the next."""
        return (self.high - self.low) / self.steps


@dataclass(frozen=True)
class Panel:
    """A pair of axes in an explorer.

    Attributes:
        curves: by their names in the legend, functions of the slider's value that return what x and y are, two
            sequences of one length. A name in ``lib.losses`` gets the colour of that loss.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        x_range: the least and the largest x that is shown.
        y_range: the least and the largest y that is shown; what lies outside is cut off.
        fixed: curves that do not move with the slider, by their names: pairs (x, y). They are dashed.
        points: names of those curves that are drawn as points.
    """

    curves: Mapping[str, Callable[[float], tuple[Sequence[float], Sequence[float]]]]
    x_label: str
    y_label: str
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    fixed: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    points: tuple[str, ...] = ()


class Explorer:
    """A figure with a slider. It shows itself in JupyterLab, in Colab and on the website; printed, it is a still.

    Attributes:
        chart: what Altair draws.
        description: what the figure shows, for those who do not see it.
    """

    def __init__(self, chart: alt.VConcatChart, still: bytes, description: str):
        self.chart = chart
        self.description = description
        self._still = still

    def __repr__(self) -> str:
        return self.description

    def _repr_html_(self) -> str:
        """The chart, with its still for the time until the browser has drawn it, and for where it cannot."""
        name = f"explorer-{hashlib.sha256(self.chart.to_json().encode()).hexdigest()[:12]}"
        chart = self.chart.to_html(
            fullhtml=False,
            output_div=name,
            template="universal",
            embed_options={"renderer": "svg", "actions": False},
        )
        still = base64.b64encode(self._still).decode()
        return (
            f'<div class="explorer"><style>{STYLE}</style>{chart.strip()}'
            f'<img class="still" alt="{html.escape(self.description)}" width="{WIDTH}" '
            f'src="data:image/png;base64,{still}"></div>'
        )


def explorer(panels: Sequence[Panel], slider: Slider, *, description: str, colors: Mapping[str, str] | None = None):
    """Draw panels, one below the other, whose curves follow one slider.

    Args:
        panels: what to draw, from top to bottom.
        slider: what the reader moves.
        description: what there is to see, in a sentence or two, for those who do not see it.
        colors: of curves whose name is no loss; the others get the palette's in turn.

    Returns:
        An ``Explorer``, which shows itself.

    Raises:
        ValueError: if there is no panel, or if the description has less than 40 characters.
    """
    shades = _shades(panels, colors or {})
    charts = [_drawn(panel, slider, shades, legend=panel is panels[0]) for panel in panels]
    return Explorer(_stacked(charts, slider, description), _still(panels, slider, shades), description)


def loss_explorer(
    curves: Mapping[str, Callable[[torch.Tensor, float], torch.Tensor]],
    slider: Slider,
    *,
    x_label: str,
    x_range: tuple[float, float],
    description: str,
    fixed: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    colors: Mapping[str, str] | None = None,
    loss_range: tuple[float, float] | None = None,
    gradient_range: tuple[float, float] | None = None,
) -> Explorer:
    """Draw losses over one range, and below them their gradients, while a slider sets one of their parameters.

    Args:
        curves: by name, functions of x, a float64 tensor of shape (K,), and of the slider's value; they return the K
            losses. The gradients are found by automatic differentiation.
        slider: the parameter.
        x_label: what x is.
        x_range: from where to where.
        description: what there is to see, in a sentence or two, for those who do not see it.
        fixed: losses to compare with, which do not depend on the slider; drawn dashed.
        colors: of curves whose name is no loss; the others get the palette's in turn.
        loss_range: what the upper panel shows; all of what is there at the slider's start where it is not given.
        gradient_range: what the lower panel shows; likewise.

    Returns:
        An ``Explorer``, which shows itself.
    """
    x = torch.linspace(*x_range, POINTS, dtype=torch.float64)
    still = {name: _loss_and_gradient(function, x) for name, function in (fixed or {}).items()}
    moving = {
        name: {value: _loss_and_gradient(function, x, value) for value in slider.values}
        for name, function in curves.items()
    }
    start = min(slider.values, key=lambda value: abs(value - slider.start))
    shown = [*still.values(), *(frames[start] for frames in moving.values())]

    def panel(part: int, label: str, given: tuple[float, float] | None) -> Panel:
        return Panel(
            curves={
                name: lambda value, frames=frames: (x.tolist(), frames[value][part]) for name, frames in moving.items()
            },
            fixed={name: (x.tolist(), pair[part]) for name, pair in still.items()},
            x_label=x_label,
            y_label=label,
            x_range=x_range,
            y_range=given or _span([pair[part] for pair in shown]),
        )

    panels = [panel(0, "loss", loss_range), panel(1, "gradient", gradient_range)]
    return explorer(panels, slider, description=description, colors=colors)


def ranking_explorer(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    slider: Slider,
    *,
    x_label: str,
    x_ranges: Mapping[str, tuple[float, float]],
    description: str,
) -> Explorer:
    """Draw who leads at each position of a slider: one row for each rival, the best mean on top.

    Args:
        panels: by title, by the name of each rival, its results at each position of the slider. All results are drawn
            as small points, their mean as a large one. A name that begins with one of ``lib.losses``, up to a comma,
            gets the colour of that loss.
        slider: what is set.
        x_label: what the results are.
        x_ranges: by title, the least and the largest result that is shown; what lies outside is drawn on the edge.
        description: what there is to see, in a sentence or two, for those who do not see it.

    Returns:
        An ``Explorer``, which shows itself.

    Raises:
        ValueError: if there is no panel, a panel has no range, a rival has not one result or more for each position of
            the slider, or the description has less than 40 characters.
    """
    for title, rivals in panels.items():
        if title not in x_ranges:
            raise ValueError(f"{title} has no range; there are ranges for {', '.join(x_ranges) or 'no panel'}")
        for name, results in rivals.items():
            if len(results) != len(slider.values) or not all(map(len, results)):
                raise ValueError(f"{name} wants results at each of {len(slider.values)} positions, got {results}")
    shades = {name: LOSS_COLORS.get(name.partition(",")[0], INK) for rivals in panels.values() for name in rivals}
    charts = [_ranked(title, rivals, slider, shades, x_label, x_ranges[title]) for title, rivals in panels.items()]
    chart = _stacked(charts, slider, description)
    return Explorer(chart, _still_of_ranking(panels, slider, shades, x_label, x_ranges), description)


def _loss_and_gradient(function, x, *setting) -> tuple[list[float], list[float]]:
    """Return the losses at the points x, and their derivatives."""
    x = x.clone().requires_grad_()
    loss = function(x, *setting)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return loss.tolist(), gradient.tolist()


def _span(curves) -> tuple[float, float]:
    """Return the range of all finite values, with a little air; it includes 0."""
    values = [value for curve in curves for value in curve if math.isfinite(value)]
    low, high = min(0.0, *values), max(0.0, *values)
    air = 0.04 * (high - low)
    return low - air * (low < 0), high + air * (high > 0)


def _shades(panels, colors) -> dict[str, str]:
    """Return a colour for each curve."""
    names = list(dict.fromkeys(name for panel in panels for name in (*panel.curves, *panel.fixed)))
    known = {**LOSS_COLORS, **colors}
    taken = {known[name] for name in names if name in known}
    free = iter([*(color for color in PALETTE if color not in taken), *PALETTE])
    return {name: known[name] if name in known else next(free) for name in names}


def _rounded(values) -> list[float | None]:
    """Return the numbers with few digits, and none where there is no finite number."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in map(float, values)]


def _stacked(charts, slider: Slider, description: str) -> alt.VConcatChart:
    """Return the charts of the panels, one below the other, with the slider.

    Raises:
        ValueError: if there is no panel, or if the description has less than 40 characters.
    """
    if not charts:
        raise ValueError("an explorer wants at least one panel, got none")
    if len(description) < 40:
        raise ValueError(f"the description should say what there is to see, in 40 characters or more: {description!r}")
    setting = alt.param(
        name="setting",
        value=slider.start,
        bind=alt.binding_range(min=slider.low, max=slider.high, step=slider.step, name=f"{slider.name} = "),
    )
    return (
        alt.vconcat(*charts, spacing=14, background="white", description=description)
        .add_params(setting)
        .resolve_scale(color="independent")  # else Vega warns of panels without a legend
        .configure_view(stroke=None)
        .configure(font=FONT, axis=alt.AxisConfig(titleFontWeight="normal", **AXIS))
        .configure_legend(labelFontSize=13, labelColor=INK, symbolStrokeWidth=3, orient="top")
    )


def _now(slider: Slider) -> str:
    """Return the condition that a row of data belongs to the position at which the slider stands."""
    return f"abs(datum.setting - setting) < {slider.step / 2:.6g}"


def _ranked(title, rivals, slider: Slider, shades, x_label: str, x_range) -> alt.Chart:
    """Return a ranking as Altair draws it."""
    rows = []
    for name, results in rivals.items():
        for value, at in zip(slider.values, results, strict=True):
            mean = float(np.mean(at))
            points = [(mean, True), *((result, False) for result in at)]
            for x, is_mean in points:
                shown = float(f"{np.clip(x, *x_range):.5g}")
                rows.append({"name": name, "setting": value, "x": shown, "of all": is_mean, "rank": -mean})
    order = alt.EncodingSortField("rank", op="mean", order="ascending")
    return (
        alt.Chart(alt.Data(values=rows), title=alt.TitleParams(title, anchor="start", fontWeight="normal", color=INK))
        .transform_filter(_now(slider))
        .mark_point(filled=True)
        .encode(
            x=alt.X("x:Q", title=x_label, scale=alt.Scale(domain=x_range, nice=False)),
            y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=RANKING_LABELS, grid=True)),
            color=alt.Color(
                "name:N", scale=alt.Scale(domain=[*rivals], range=[shades[n] for n in rivals]), legend=None
            ),
            size=alt.condition("datum['of all']", alt.value(110), alt.value(22)),
            opacity=alt.condition("datum['of all']", alt.value(1), alt.value(0.55)),
        )
        .properties(width=WIDTH - RANKING_LABELS, height=19 * len(rivals))
    )


def _legend(names: Sequence[str]) -> alt.Legend:
    """Return a legend of one row, or of two columns where that row would be wider than the panels."""
    fits = sum(map(len, names)) <= ROW_OF_NAMES
    return alt.Legend(title=None) if fits else alt.Legend(title=None, columns=2, labelLimit=0)


def _drawn(panel: Panel, slider: Slider, shades, *, legend: bool) -> alt.LayerChart:
    """Return a panel as Altair draws it."""
    rows = [
        {"curve": name, "setting": value, "x": _rounded(x), "y": _rounded(y)}
        for name, curve in panel.curves.items()
        for value in slider.values
        for x, y in [curve(value)]
    ]
    dashed = [{"curve": name, "x": _rounded(x), "y": _rounded(y)} for name, (x, y) in panel.fixed.items()]
    names = [*panel.curves, *panel.fixed]
    encoding = {
        "x": alt.X("x:Q", title=panel.x_label, scale=alt.Scale(domain=panel.x_range, nice=False)),
        "y": alt.Y("y:Q", title=panel.y_label, scale=alt.Scale(domain=panel.y_range, nice=False)),
        "color": alt.Color(
            "curve:N",
            scale=alt.Scale(domain=names, range=[shades[name] for name in names]),
            legend=_legend(names) if legend else None,
        ),
    }
    moving = alt.Chart(alt.Data(values=rows)).transform_filter(_now(slider)).transform_flatten(["x", "y"])
    pointed = alt.FieldOneOfPredicate("curve", list(panel.points))
    layers = [
        alt.Chart(alt.Data(values=dashed))
        .transform_flatten(["x", "y"])
        .mark_line(order=False, strokeWidth=1.8, strokeDash=[6, 4], clip=True)
        .encode(**encoding),
        moving.transform_filter(alt.LogicalNotPredicate(**{"not": pointed}))
        .mark_line(order=False, strokeWidth=2.2, clip=True)
        .encode(**encoding),
        moving.transform_filter(pointed).mark_point(filled=True, size=70, opacity=1, clip=True).encode(**encoding),
    ]
    needed = [bool(dashed), len(panel.points) < len(panel.curves), bool(panel.points)]
    return alt.layer(*(layer for layer, wanted in zip(layers, needed, strict=True) if wanted)).properties(
        width=WIDTH, height=HEIGHT
    )


def _still(panels, slider: Slider, shades) -> bytes:
    """Return a PNG of the panels as they are at the slider's start."""
    figure, axes = plt.subplots(len(panels), 1, figsize=(5, 2.3 * len(panels) + 0.3), squeeze=False)
    start = min(slider.values, key=lambda value: abs(value - slider.start))
    for panel, ax in zip(panels, axes[:, 0], strict=True):
        for name, (x, y) in panel.fixed.items():
            ax.plot(x, y, "--", color=shades[name], label=name)
        for name, curve in panel.curves.items():
            ax.plot(*curve(start), "o" if name in panel.points else "-", color=shades[name], label=name)
        ax.set(xlabel=panel.x_label, ylabel=panel.y_label, xlim=panel.x_range, ylim=panel.y_range)
    axes[0, 0].set_title(f"{slider.name} = {start:g}")
    axes[0, 0].legend()
    return _small_png(figure)


def _still_of_ranking(panels, slider: Slider, shades, x_label: str, x_ranges) -> bytes:
    """Return a PNG of the rankings as they are at the slider's start."""
    place = min(range(len(slider.values)), key=lambda at: abs(slider.values[at] - slider.start))
    rows = sum(len(rivals) for rivals in panels.values())
    figure, axes = plt.subplots(len(panels), 1, figsize=(5, 0.24 * rows + 0.7 * len(panels) + 0.4), squeeze=False)
    for (title, rivals), ax in zip(panels.items(), axes[:, 0], strict=True):
        x_range = x_ranges[title]
        now = {name: np.asarray(results[place], dtype=float) for name, results in rivals.items()}
        for row, name in enumerate(sorted(now, key=lambda name: now[name].mean())):
            shown = np.clip(now[name], *x_range)
            ax.plot(shown, [row] * len(shown), "o", color=shades[name], markersize=3, alpha=0.55)
            ax.plot(np.clip(now[name].mean(), *x_range), row, "o", color=shades[name], markersize=8)
        ax.set(xlabel=x_label, xlim=x_range, yticks=range(len(now)), title=title)
        ax.set_yticklabels(sorted(now, key=lambda name: now[name].mean()))
    figure.suptitle(f"{slider.name} = {slider.values[place]:g}", fontsize="medium")
    return _small_png(figure, method=Image.Quantize.MAXCOVERAGE)  # small points of many colours: keep each of them


def _small_png(figure, method: Image.Quantize = Image.Quantize.MEDIANCUT) -> bytes:
    """Return a PNG of few colours, and close the figure."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(STILL_COLORS, method).save(small, format="png", optimize=True)
    return small.getvalue()
