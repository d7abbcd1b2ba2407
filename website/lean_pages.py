"""A Sphinx extension: what the theme's pages lack is added, and what no page needs is left out."""

import re
import textwrap
from pathlib import Path

import imagesize
from docutils import nodes
from sphinx.errors import ExtensionError


def without_script(html: str, name: str) -> str:
    """Cut the script called `name` out of a piece of a page; it is an error if the theme no longer has it."""
    lean, found = re.subn(rf"<script[^>]*/{re.escape(name)}[^>]*></script>", "", html)
    if not found:
        raise ExtensionError(f"the theme no longer loads {name}: drop the line of the template that removes it")
    return lean


def describe(doctree) -> str:
    """Return a page's first paragraph, cut to what a search engine shows."""
    paragraph = next(doctree.findall(nodes.paragraph), nodes.paragraph())
    return textwrap.shorten(paragraph.astext(), width=160, placeholder=" …")


def size_images(body: str, sources: dict[str, Path]) -> str:
    """Write each image's size into its tag, so that the text below does not jump when the image comes."""

    def sized(match):
        width, height = imagesize.get(sources[match["name"]])
        return f'{match[0]} width="{width}" height="{height}"' if width > 0 else match[0]

    return re.sub(r'<img(?![^>]*\b(?:width|height)\b)[^>]* src="[^"]*_images/(?P<name>[^"]+)"', sized, body)


def complete_page(app, pagename, templatename, context, doctree):
    """Give the templates what they ask for."""
    context["without_script"] = without_script
    context["description"] = describe(doctree) if doctree else app.config.html_title
    if doctree:
        sources = {name: Path(app.srcdir, source) for source, name in app.builder.images.items()}
        # MyST-NB labels a folded cell "Toggle hidden content", which hides its own words from a screen reader.
        context["body"] = size_images(context["body"], sources).replace(' aria-label="Toggle hidden content"', "")


def setup(app):
    """Connect to the moment at which Sphinx fills a page's template."""
    app.connect("html-page-context", complete_page)
    app.add_config_value("comments_config", {}, "html")  # Jupyter Book sets it for an extension that is not loaded
    return {"parallel_read_safe": True, "parallel_write_safe": True}
