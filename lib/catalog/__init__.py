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
from lib.catalog._entry import Entry, Sample, Tool

_FAMILIES = (
    regression,
    classification,
    margin,
    metric,
    divergence,
    regularization,
    ranking,
    sequence,
    detection,
    gan,
    semi_supervised,
    adversarial,
    composite,
    large_scale,
)

ENTRIES: tuple[Entry, ...] = tuple(entry for family in _FAMILIES for entry in getattr(family, "ENTRIES", ()))
TOOLS: tuple[Tool, ...] = tuple(tool for family in _FAMILIES for tool in getattr(family, "TOOLS", ()))

__all__ = ["ENTRIES", "TOOLS", "Entry", "Sample", "Tool", "card", "entry", "table"]


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
    code = f"losses.{one.name}" if isinstance(one, Tool) else f"losses.{one.function_name}"
    facts = [one.purpose] if isinstance(one, Tool) else _facts(one)
    lines = [*facts, *(f"limit: {limit}" for limit in one.limits), f"origin: [{one.paper}]({one.url})"]
    formula = one.value if isinstance(one, Tool) else f"\\ell = {one.value}"
    return "\n".join([f"**{one.title}** `{code}`", "", f"$${formula}$$", "", *(f"- {line}" for line in lines)])


def _facts(one: Entry) -> list[str]:
    claims = [
        f"convex: {_word(one.convex)}",
        f"Lipschitz constant: {'none' if one.lipschitz is None else _word(one.lipschitz)}",
        f"upper bound: {'none' if one.bound is None else _word(one.bound)}",
        *([] if one.robust is None else [f"robust: {_word(one.robust)}"]),
        *([] if one.calibrated is None else [f"calibrated: {_word(one.calibrated)}"]),
    ]
    return [
        f"gradient in the input: ${one.gradient}$",
        f"input: {one.input}",
        f"target: {one.target}",
        f"'mean' divides by {one.divides_by}",
        f"least on average at: {one.minimiser}",
        "; ".join(claims),
        f"in PyTorch: {f'`F.{one.torch}`. {one.difference}'.strip() if one.torch else 'none'}",
    ]


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _word(value: bool | float | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.4g}"
