"""Reading the course's notebooks, for the tests that look at them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import yaml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode
from myst_parser.config.main import MdParserConfig
from myst_parser.mdit_to_docutils.base import compute_unique_slug
from myst_parser.parsers.mdit import create_md_parser
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
CHAPTERS = ROOT / "chapters"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = CONFIG["repository"]["url"]
NOTEBOOKS = {
    path.relative_to(CHAPTERS).with_suffix("").as_posix(): path
    for path in sorted(CHAPTERS.rglob("*.ipynb"))
    if ".ipynb_checkpoints" not in path.parts
}

# The website's own parser, so that what counts as MyST is what MyST would take for its own. `{.class}` is left as text.
_SYNTAX = {"amsmath", "colon_fence", "deflist", "dollarmath", "fieldlist", "strikethrough", "substitution", "tasklist"}
_MARKDOWN = create_md_parser(MdParserConfig(enable_extensions=_SYNTAX), RendererHTML)
_LINKED_LEVELS = CONFIG["sphinx"]["config"]["myst_heading_anchors"]


@dataclass
class Section:
    """A heading and what follows it, up to the next heading of whatever level."""

    level: int
    title: str
    tokens: list[Token] = field(default_factory=list)


def read(path: Path) -> NotebookNode:
    """Read a notebook as it is: nothing is validated, converted or repaired."""
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells that are read."""
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def setup_cell(notebook: NotebookNode) -> NotebookNode:
    """The first code cell, which all notebooks share."""
    return code_cells(notebook)[0]


def parse(text: str) -> list[Token]:
    """The blocks of a Markdown text."""
    return _MARKDOWN.parse(text)


def parse_cells(notebook: NotebookNode) -> list[Token]:
    """The blocks of all Markdown cells."""
    return [token for cell in markdown_cells(notebook) for token in parse(cell.source)]


def flat(tokens: list[Token]) -> Iterator[Token]:
    """Every token, those within others too."""
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def text_of(token: Token) -> str:
    """What is read in a block: no code, no maths."""
    return "".join(child.content for child in token.children or [] if child.type == "text")


def sections(tokens: list[Token]) -> list[Section]:
    """A text by its headings; what stands before the first one is left out."""
    found: list[Section] = []
    for opening, inline in zip(tokens, [*tokens[1:], None], strict=True):
        if opening.type == "heading_open":
            found.append(Section(int(opening.tag[1:]), inline.content))
        elif found:
            found[-1].tokens.append(opening)
    for section in found:
        del section.tokens[:2]  # the heading's own text and its end
    return found


def anchors(tokens: list[Token]) -> set[str]:
    """The ends of the addresses under which the headings of a text can be reached."""
    slugs: list[str] = []
    for node in SyntaxTreeNode(tokens).walk():
        if node.type == "heading" and int(node.tag[1:]) <= _LINKED_LEVELS:
            slugs.append(compute_unique_slug(node, slugs))
    return set(slugs)
