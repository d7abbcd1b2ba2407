"""A Sphinx extension: the pages that are written from the catalogue of losses while the book is built.

``{atlas}`` shows the card of every loss, ``{chooser}`` leads from a task to a loss; both begin with a form. Without
JavaScript everything is shown; catalogue_pages.js hides what does not fit the form.
"""

from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from sphinx.util.fileutil import copy_asset_file

import lib
from lib import catalog, plotting

SCRIPT = Path(__file__).with_name("catalogue_pages.js")
FORM = "catalogue-filter"
KNOWN = (*catalog.ENTRIES, *catalog.TOOLS)
LIBRARY = Path(lib.__file__).parent
SOURCES = sorted(file for folder in ("catalog", "losses", "plotting") for file in (LIBRARY / folder).glob("*.py"))
CLAIMS = ("convex", "bounded", "robust", "calibrated", "in PyTorch")


class data_section(nodes.section):  # noqa: N801, as all nodes
    """A section with data attributes."""


class data_row(nodes.row):  # noqa: N801
    """A row of a table with data attributes."""


def visit_section(translator, node):
    """Open a section, one level further down."""
    translator.section_level += 1
    translator.body.append(translator.starttag(node, "section", **node["data"]))


def visit_row(translator, node):
    """Open a row of a table."""
    translator.body.append(translator.starttag(node, "tr", "", **node["data"]))
    node.column = 0


def token(words: str) -> str:
    """Return words as they stand in a data attribute and in an address."""
    return words.lower().replace(" ", "-")


def tokens(names) -> str:
    """Return names as they stand in a data attribute, apart by spaces."""
    return " ".join(map(token, names))


def claims(one: catalog.Known) -> dict[str, bool | None]:
    """Return what a loss claims, by the words of the form; None where the claim makes no sense."""
    if isinstance(one, catalog.Tool):
        return dict.fromkeys(CLAIMS)
    said = (one.convex, one.bound is not None, one.robust, one.calibrated, one.torch is not None)
    return dict(zip(CLAIMS, said, strict=True))


def data(one: catalog.Known) -> dict[str, str]:
    """Return the data attributes of a loss, which the form's fields are compared with."""
    word = {True: "yes", False: "no", None: ""}
    return {
        "data-entry": one.anchor,
        "data-family": token(one.family),
        "data-task": tokens(one.use_for),
        "data-trouble": tokens(one.helps_against),
        "data-decision": tokens(one.decisions),
    } | {f"data-{token(claim)}": word[answer] for claim, answer in claims(one).items()}


def form(fields: dict[str, dict[str, str]]) -> nodes.raw:
    """Return a form with a menu for each field, which names its values and what the reader sees of them."""
    menus = "".join(
        f'<label>{label}<select name="{token(label)}" autocomplete="off"><option value="">any</option>'
        + "".join(f'<option value="{token(value)}">{escape(text)}</option>' for value, text in values.items())
        + "</select></label>"
        for label, values in fields.items()
    )
    button, status = '<button type="button">Show all</button>', f"All {len(KNOWN)} are shown."
    html = f'<form class="{FORM}" aria-label="What to show">{menus}<p role="status">{status}</p>{button}</form>'
    return nodes.raw("", html, format="html")


def themselves(names) -> dict[str, str]:
    """Return names as values that the reader sees as they are."""
    return {name: name for name in names}


class FromCatalogue(SphinxDirective):
    """A directive whose page is read anew when the library changes."""

    def run(self) -> list[nodes.Node]:
        """Return what is to stand in the place of the directive."""
        for source in SOURCES:
            self.env.note_dependency(str(source))
        return self.write()

    def section(self, anchor: str, title: str, data: dict[str, str], *content: nodes.Node) -> nodes.section:
        """Return a section that can be linked to by its anchor."""
        return data_section("", nodes.title(text=title), *content, ids=[anchor], data=data)


class Atlas(FromCatalogue):
    """Every loss on a card, by family."""

    def write(self) -> list[nodes.Node]:
        """Return the form and the families."""
        fields = {
            "Family": catalog.FAMILIES,
            "Task": themselves(catalog.TASKS),
            "Trouble": themselves(catalog.TROUBLES),
        } | {claim[0].upper() + claim[1:]: themselves(("yes", "no")) for claim in CLAIMS}
        families = (
            self.section(
                f"family-{token(family)}",
                title,
                {"data-group": ""},
                *(self.card(one) for one in KNOWN if one.family == family),
            )
            for family, title in catalog.FAMILIES.items()
        )
        return [form(fields), *families]

    def card(self, one: catalog.Known) -> nodes.section:
        """Return the card of a loss: beside its picture what it is for, then the formula, and folded the rest."""
        badges = (f'<span class="claim">{claim}</span>' for claim, answer in claims(one).items() if answer)
        words = (" ".join((catalog.call(one), *badges)), one.because, self.uses(one))
        said = nodes.container("", *self.parse_text_to_nodes("\n\n".join(words)))
        picture = [] if isinstance(one, catalog.Tool) else [self.picture(one)]
        return self.section(
            one.anchor,
            one.title,
            data(one),
            nodes.container("", said, *picture, classes=["glance"]),
            *self.parse_text_to_nodes(catalog.formula(one)),
            nodes.raw("", "<details><summary>All facts</summary>", format="html"),
            *self.parse_text_to_nodes(catalog.facts(one)),
            nodes.raw("", "</details>", format="html"),
        )

    def uses(self, one: catalog.Known) -> str:
        """Return what a loss is for, and the chapter that explains it, if the book has that page."""
        lines = {"For": ", ".join(one.use_for), "Helps with": ", ".join(one.helps_against)}
        page = f"chapters/{one.chapter}"
        if page in self.env.found_docs:
            lines["Chapter"] = f"[](/{self.env.doc2path(page, base=False)})"
        return " ".join(f"**{label}:** {line}." for label, line in lines.items() if line)

    def picture(self, one: catalog.Entry) -> nodes.raw:
        """Return the thumbnail of a loss with its caption."""
        caption = f"<figcaption>{escape(one.slice.label)}</figcaption>"
        return nodes.raw("", f"<figure>{plotting.thumbnail(one)}{caption}</figure>", format="html")


class Chooser(FromCatalogue):
    """From a task, a trouble and a decision to losses; the argument is where the atlas is."""

    required_arguments = 1

    def write(self) -> list[nodes.Node]:
        """Return the form, a table for each task, and what the words of the form mean."""
        fields = {
            "Task": themselves(catalog.TASKS),
            "Trouble": themselves(catalog.TROUBLES),
            "Decision": themselves(catalog.DECISIONS),
        }
        troubles = {trouble: [one for one in KNOWN if trouble in one.helps_against] for trouble in catalog.TROUBLES}
        decisions = {decision: [one for one in KNOWN if decision in one.decisions] for decision in catalog.DECISIONS}
        return [
            form(fields),
            *(self.task(*item) for item in catalog.TASKS.items()),
            self.glossary("The troubles", "trouble", catalog.TROUBLES, troubles),
            self.glossary("The decisions", "decision", catalog.DECISIONS, decisions),
        ]

    def task(self, task: str, meaning: str) -> nodes.section:
        """Return the table of the losses for one task, the first choice first."""
        losses = sorted((one for one in KNOWN if task in one.use_for), key=lambda one: task not in one.first_choice_for)
        table = self.table(("loss", "when to choose it"), [(self.link(one), self.reason(one, task)) for one in losses])
        (body,) = table.findall(nodes.tbody)
        body.children = [
            data_row("", *row.children, data=data(one) | {"data-task": token(task)})
            for row, one in zip(body.children, losses, strict=True)
        ]
        for row in body.children:
            row.parent = body
        group = {"data-group": ""}
        return self.section(f"to-{token(task)}", task.capitalize(), group, nodes.paragraph(text=meaning), table)

    def reason(self, one: catalog.Known, task: str) -> str:
        """Return when to choose a loss for a task."""
        first = ["**First choice.**"] if task in one.first_choice_for else []
        remedy = [f"*Helps with {', '.join(one.helps_against)}.*"] if one.helps_against else []
        return " ".join((*first, one.because, *remedy))

    def glossary(self, title: str, word: str, meanings: dict[str, str], losses: dict[str, list]) -> nodes.section:
        """Return what words mean, and which losses belong to them."""
        rows = [(key, meanings[key], ", ".join(map(self.link, losses[key]))) for key in meanings]
        return self.section(token(title), title, {}, self.table((word, "what it means", "losses"), rows))

    def table(self, head, rows) -> nodes.table:
        """Return a table of Markdown cells."""
        lines = (head, ["---"] * len(head), *rows)
        (table,) = self.parse_text_to_nodes("\n".join(f"| {' | '.join(line)} |" for line in lines))
        return table

    def link(self, one: catalog.Known) -> str:
        """Return a link to the card of a loss."""
        return f"[{one.title}]({self.arguments[0]}#{one.anchor})"


def make_cards_known(app, doctree):
    """Let links to a card, atlas.md#huber-loss, find it, as MyST lets links to a heading."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for section in doctree.findall(data_section):
        slugs[section["ids"][0]] = (section.line, section["ids"][0], section.next_node(nodes.title).astext())


def add_script(app, pagename, templatename, context, doctree):
    """Load the script on the pages that have the form."""
    if f'class="{FORM}"' in context.get("body", ""):
        app.add_js_file(SCRIPT.name, loading_method="defer")


def copy_script(app, error):
    """Copy the script beside the pages."""
    if error is None and app.builder.format == "html":
        copy_asset_file(SCRIPT, Path(app.outdir, "_static"))


def setup(app):
    """Register the directives and their nodes."""
    app.add_directive("atlas", Atlas)
    app.add_directive("chooser", Chooser)
    app.add_node(data_section, html=(visit_section, lambda translator, node: translator.depart_section(node)))
    app.add_node(data_row, html=(visit_row, lambda translator, node: translator.depart_row(node)))
    app.connect("doctree-read", make_cards_known)
    app.connect("html-page-context", add_script)
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
