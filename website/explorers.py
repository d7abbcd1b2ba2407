"""A Sphinx extension: the figures with a slider draw themselves with the website's own copy of Vega.

A notebook's explorer asks a content network for Vega, as it must in JupyterLab and in Colab. On the website nothing is
asked of third parties, so the addresses are replaced by those of the packages that package-lock.json fixes.
"""

import re
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util.fileutil import copy_asset_file

PACKAGES = Path(__file__).parent / "node_modules"
SCRIPTS = {name: f"{name}/build/{name}.min.js" for name in ("vega", "vega-lite", "vega-embed")}
REMOTE = re.compile(r"https://cdn\.jsdelivr\.net/npm/(?P<name>[\w-]+)(?:@(?P<major>\d+)[\d.]*)?\?noext")


def installed_major(name: str) -> str:
    """Return the first part of the version of a package that is installed here."""
    manifest = (PACKAGES / name / "package.json").read_text(encoding="utf-8")
    return re.search(r'"version": "(\d+)\.', manifest)[1]


def local_address(match: re.Match, root: str) -> str:
    """Return where the website keeps what an explorer asks a content network for."""
    name, major = match["name"], match["major"]
    if name not in SCRIPTS:
        return ""  # vega-lib: the template names it, and never loads it
    if major != installed_major(name):
        raise ExtensionError(f"a notebook was drawn for {name} {major}, but website/package.json has another version")
    return f"{root}{Path(SCRIPTS[name]).name}"


def use_local_scripts(app, pagename, templatename, context, doctree):
    """Point a page's explorers to the website's own scripts."""
    if "body" in context and 'class="explorer"' in context["body"]:
        root = context["pathto"]("_static/", 1)
        context["body"] = REMOTE.sub(lambda match: local_address(match, root), context["body"])


def copy_scripts(app, error):
    """Copy the scripts beside the pages."""
    if error is None and app.builder.format == "html":
        for script in SCRIPTS.values():
            copy_asset_file(PACKAGES / script, Path(app.outdir, "_static"))


def setup(app):
    """Connect to the moments at which a page is filled, and at which the build ends."""
    app.connect("html-page-context", use_local_scripts)
    app.connect("build-finished", copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
