"""The catalogue: one entry for each loss, from which its tests, its card and the tables of the course are made.

    >>> from lib import catalog
    >>> catalog.entry("cross_entropy").lipschitz ** 2
    2.0000000000000004

``python -m lib.catalog`` prints it as a table.
"""

import difflib

from lib.catalog import (
    adversarial,
    classification,
    composite,
    detection,
    divergence,
    gan,
    large_scale,
    margin,
    metric,
    ranking,
    regression,
    regularization,
    semi_supervised,
    sequence,
)
from lib.catalog._choice import DECISIONS, TASKS, TROUBLES
from lib.catalog._entry import Entry, Known, Sample, Slice, Tool

_FAMILIES = {
    regression: "Numbers",
    classification: "Classes",
    margin: "Margins",
    metric: "Embeddings",
    divergence: "Distributions",
    regularization: "Penalties",
    ranking: "Order",
    sequence: "Sequences",
    detection: "Boxes and masks",
    gan: "Generators and discriminators",
    semi_supervised: "Samples without labels",
    adversarial: "Attacks",
    composite: "Sums of losses",
    large_scale: "Large scale",
}

FAMILIES: dict[str, str] = {family.__name__.rpartition(".")[2]: title for family, title in _FAMILIES.items()}
ENTRIES: tuple[Entry, ...] = tuple(entry for family in _FAMILIES for entry in getattr(family, "ENTRIES", ()))
TOOLS: tuple[Tool, ...] = tuple(tool for family in _FAMILIES for tool in getattr(family, "TOOLS", ()))

_MINIMISERS = {
    "mean": "the mean of the targets",
    "median": "the median of the targets",
    "quantile": "the quantile of the targets",
    "log of the mean": "the logarithm of the mean of the targets",
    "between median and mean": "as a rule a number between the median and the mean of the targets",
    "posterior": "the true probabilities of the classes (the posterior)",
    "flattened posterior": "probabilities in the order of the true ones, but more even",
    "sharpened posterior": "probabilities in the order of the true ones, but less even",
    "majority": "the most probable class, whatever its probability",
    "majority above one half": "the most probable class, provided that it has more than half of the probability",
}

__all__ = [
    "DECISIONS",
    "ENTRIES",
    "FAMILIES",
    "TASKS",
    "TOOLS",
    "TROUBLES",
    "Entry",
    "Known",
    "Sample",
    "Slice",
    "Tool",
    "call",
    "card",
    "entry",
    "facts",
    "formula",
    "table",
]


def entry(name: str) -> Entry | Tool:
    """Return the entry of a loss or a tool.

    Args:
        name: of the function in ``lib.losses``, with the kind behind a comma where it is several losses:
            "generator_loss, wgan".

    Raises:
        ValueError: if there is none; the message names the nearest.
    """
    found = {known.name: known for known in (*ENTRIES, *TOOLS)}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.0)
        raise ValueError(f"the catalogue has no loss called {name!r}; the nearest name is {near[0]!r}")
    return found[name]


def table() -> str:
    """Return the whole catalogue as Markdown: a table of the losses, one row each, and one of the tools."""
    head = ("loss", "family", "minimiser", "convex", "Lipschitz", "bound", "robust", "calibrated", "torch")
    rows = [
        (
            one.name,
            one.family,
            one.minimiser,
            _word(one.convex),
            _word(one.lipschitz),
            _word(one.bound),
            _word(one.robust),
            _word(one.calibrated),
            one.torch or "-",
        )
        for one in ENTRIES
    ]
    tools = [(tool.name, tool.family, tool.purpose) for tool in TOOLS]
    return _markdown(head, rows) + ("\n\n" + _markdown(("tool", "family", "purpose"), tools) if tools else "")


def card(name: str) -> str:
    """Return what the catalogue says of one loss or tool as Markdown, for the head of its section.

    Raises:
        ValueError: if there is none of that name.
    """
    one = entry(name)
    return f"**{one.title}** {call(one)}\n\n{formula(one)}\n\n{facts(one)}"


def call(one: Known) -> str:
    """Return how a loss or a tool is called, as Markdown."""
    function, _, kind = one.name.partition(", ")
    return f'`losses.{function}(..., kind="{kind}")`' if kind else f"`losses.{function}`"


def formula(one: Known) -> str:
    """Return the formula of a loss or a tool as Markdown."""
    return f"$${one.value}$$" if isinstance(one, Tool) else f"$$\\ell = {one.value}$$"


def facts(one: Known) -> str:
    """Return all that a card says below the formula as Markdown, a list."""
    said = {"Symbols": one.symbols} if one.symbols else {}
    said |= {"Purpose": one.purpose} if isinstance(one, Tool) else _claims(one)
    said |= {"Limits": " ".join(one.limits), "Origin": f"[{one.paper}]({one.url})"}
    return "\n".join(f"- **{label}:** {fact}" for label, fact in said.items())


def _claims(one: Entry) -> dict[str, str]:
    """Return what a card says of a loss, by the label in front of it."""
    claims = [
        "convex" if one.convex else "not convex",
        "no Lipschitz constant" if one.lipschitz is None else f"Lipschitz constant {one.lipschitz:.4g}",
        "no upper bound" if one.bound is None else f"upper bound {one.bound:.4g}",
        *([] if one.robust is None else ["robust" if one.robust else "not robust"]),
        *([] if one.calibrated is None else ["calibrated" if one.calibrated else "not calibrated"]),
    ]
    return {
        "Gradient in the input": f"${one.gradient}$",
        "Input": one.input,
        "Target": one.target,
        "The mean divides by": one.divides_by,
        "Least on average at": _MINIMISERS.get(one.minimiser, one.minimiser),
        f"Checked by the tests{f', {one.setting}' if one.setting else ''}": ", ".join(claims),
        "In PyTorch": f"`F.{one.torch}`. {one.difference}".strip() if one.torch else "none",
    }


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _word(value: bool | float | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.4g}"
