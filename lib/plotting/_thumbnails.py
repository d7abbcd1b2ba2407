"""Thumbnails: a loss and its gradient side by side, as a small drawing that a page can hold."""

import html

import numpy as np

from lib.plotting._style import GREY, INK, LIGHT_GREY, loss_color

LEFT, TOP, WIDTH, HEIGHT = 34, 18, 104, 66  # of a panel's axes, in pixels
PANEL = LEFT + WIDTH + 8  # from one panel's left edge to that of the next
BELOW = 16  # for the labels of the horizontal axis
LINE_OF_TEXT = 10


def thumbnail(entry) -> str:
    """Return the value of a loss and its derivative along the ``slice`` of its entry as one SVG element.

    Each panel reaches from the lowest to the highest number drawn, 0 included, and these are written at its ends.

    Args:
        entry: of ``lib.catalog``.
    """
    points, values, slopes = entry.curve()
    color = loss_color(entry.name)
    panels = "".join(
        f'<g transform="translate({position * PANEL} 0)">{_panel(name, points, numbers, color)}</g>'
        for position, (name, numbers) in enumerate({"loss": values, "gradient": slopes}.items())
    )
    title = (
        f"{entry.title} along the {entry.slice.label}, from {_label(points[0])} to {_label(points[-1])}: the loss goes "
        f"from {_label(values[0])} to {_label(values[-1])}, its gradient from {_label(slopes[0])} to "
        f"{_label(slopes[-1])}."
    )
    width, height = 2 * PANEL, TOP + HEIGHT + BELOW
    return (
        f'<svg class="thumbnail" role="img" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f"<title>{html.escape(title)}</title>"
        f'<g font-size="{LINE_OF_TEXT}" fill="{INK}" stroke-linejoin="round">{panels}</g></svg>'
    )


def _panel(name: str, points: np.ndarray, numbers: np.ndarray, color: str) -> str:
    """Return the axes, their labels and the curve of one panel."""
    low, high = min(0.0, numbers.min()), max(0.0, numbers.max())
    horizontal = LEFT + WIDTH * (points - points[0]) / (points[-1] - points[0])
    vertical = TOP + HEIGHT * (high - numbers) / (high - low)
    zero = TOP + HEIGHT * high / (high - low)
    bottom, right = TOP + HEIGHT, LEFT + WIDTH
    levels = {high: TOP, low: bottom}
    if min(zero - TOP, bottom - zero) > LINE_OF_TEXT:
        levels[0.0] = zero
    curve = " ".join(f"{x:.5g} {y:.4g}" for x, y in zip(horizontal, vertical, strict=True))
    return "".join(
        [
            f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="{LIGHT_GREY}"/>',
            f'<path d="M{LEFT} {zero:.4g}H{right}" stroke="{GREY}"/>',
            f'<path d="M{curve}" fill="none" stroke="{color}" stroke-width="1.8"/>',
            f'<text x="{LEFT}" y="{LINE_OF_TEXT}" font-weight="600">{name}</text>',
            *(
                f'<text x="{LEFT - 4}" y="{y + 3.5:.4g}" text-anchor="end">{_label(number)}</text>'
                for number, y in levels.items()
            ),
            f'<text x="{LEFT}" y="{bottom + 13}">{_label(points[0])}</text>',
            f'<text x="{right}" y="{bottom + 13}" text-anchor="end">{_label(points[-1])}</text>',
        ]
    )


def _label(number: float) -> str:
    """Return a number with at most three digits, and with a minus sign that is one."""
    return f"{round(number, 2) + 0.0:.3g}".replace("-", "\u2212")  # -0.0 + 0.0 is 0.0
