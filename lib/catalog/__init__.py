"""The catalogue: one entry for each loss, from which its tests, its card and the tables of the course are made.

    >>> from lib import catalog
    >>> catalog.entry("cross_entropy").lipschitz ** 2
    2.0000000000000004

``python -m lib.catalog`` prints it as a table.
"""

import difflib

from lib.catalog import classification, margin, regression
from lib.catalog._entry import Entry, Sample

ENTRIES: tuple[Entry, ...] = (*regression.ENTRIES, *classification.ENTRIES, *margin.ENTRIES)

__all__ = ["ENTRIES", "Entry", "Sample", "card", "entry", "table"]


def entry(name: str) -> Entry:
    """Return the entry of a loss.

    Args:
        name: of the function in ``lib.losses``.

    Raises:
        ValueError: if there is none; the message names the nearest.
    """
    found = {known.name: known for known in ENTRIES}
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1, cutoff=0.0)
        raise ValueError(f"the catalogue has no loss called {name!r}; the nearest name is {near[0]!r}")
    return found[name]


def table() -> str:
    """Return the whole catalogue as a Markdown table, one row a loss."""
    head = ("loss", "family", "minimiser", "convex", "Lipschitz", "bound", "robust", "calibrated", "torch")
    rows = [head, ["---"] * len(head)]
    rows += [
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
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def card(name: str) -> str:
    """Return what the catalogue says of one loss as Markdown, for the head of its section.

    Raises:
        ValueError: if there is no such loss.
    """
    one = entry(name)
    lines = [
        f"**{one.title}** `losses.{one.name}`",
        f"$$\\ell = {one.value}$$",
        f"- gradient in the input: ${one.gradient}$",
        f"- input: {one.input}",
        f"- target: {one.target}",
        f"- 'mean' divides by {one.divides_by}",
        f"- least on average at: {one.minimiser}",
        f"- convex: {_word(one.convex)}; Lipschitz constant: {_word(one.lipschitz)}; bound: {_word(one.bound)}",
        f"- robust: {_word(one.robust)}; calibrated: {_word(one.calibrated)}",
        *(f"- limit: {limit}" for limit in one.limits),
        f"- in PyTorch: {f'`F.{one.torch}`. {one.difference}'.strip() if one.torch else 'none'}",
        f"- origin: [{one.paper}]({one.url})",
    ]
    return "\n".join([lines[0], "", lines[1], "", *lines[2:]])


def _word(value: bool | float | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else f"{value:.4g}"
