"""One look for every figure: the style, a stable colour for each loss, and the drawings that chapters share.

Figures are drawn on a white panel, which reads well in light and dark notebooks alike; the website turns the panel dark
where its page is dark. An explorer is a figure with a slider that works without a kernel: on the website, in JupyterLab
and in Colab.
"""

from lib.plotting._explorers import Explorer, Panel, Slider, explorer, loss_explorer, ranking_explorer
from lib.plotting._figures import confusion_grid, image_grid, learning_curves, reliability_diagram, show_source
from lib.plotting._style import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    INK,
    LIGHT_GREY,
    LOSS_COLORS,
    PALETTE,
    PURPLE,
    SKY,
    STYLE,
    VERMILION,
    loss_color,
    use_style,
)
from lib.plotting._thumbnails import thumbnail

__all__ = [
    "BLUE",
    "BROWN",
    "GREEN",
    "GREY",
    "INK",
    "LIGHT_GREY",
    "LOSS_COLORS",
    "PALETTE",
    "PURPLE",
    "SKY",
    "STYLE",
    "VERMILION",
    "Explorer",
    "Panel",
    "Slider",
    "confusion_grid",
    "explorer",
    "image_grid",
    "learning_curves",
    "loss_color",
    "loss_explorer",
    "ranking_explorer",
    "reliability_diagram",
    "show_source",
    "thumbnail",
    "use_style",
]
