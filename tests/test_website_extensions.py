"""The Sphinx extensions of the website, on small books of their own."""

import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path

import altair as alt
import psutil
import pytest
from docutils import nodes
from PIL import Image
from sphinx.errors import ExtensionError

from lib import plotting

WEBSITE = Path(__file__).parents[1] / "website"
sys.path.append(str(WEBSITE))  # as Jupyter Book does for a local extension
explorers = importlib.import_module("explorers")
lean_pages = importlib.import_module("lean_pages")
prerendered_math = importlib.import_module("prerendered_math")


@pytest.fixture
def katex():
    """A KaTeX process of this test's own."""
    if not prerendered_math.KATEX.is_dir():
        pytest.fail("KaTeX is not installed: run `make book`")
    katex = prerendered_math.KaTeX()
    yield katex
    katex.close()


def build(folder: Path, text: str) -> tuple[subprocess.CompletedProcess, str]:
    """Build a book of one page as `make book` does; return the process and the page."""
    (folder / "index.md").write_text(text, encoding="utf-8")
    (folder / "conf.py").write_text(
        "extensions = ['myst_parser', 'prerendered_math']\n"
        "html_math_renderer = 'katex'\n"
        "myst_enable_extensions = ['amsmath', 'dollarmath']\n",
        encoding="utf-8",
    )
    process = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "--no-color", folder, folder / "out"],
        env={"PYTHONPATH": str(WEBSITE)},
        capture_output=True,
        text=True,
    )
    page = folder / "out" / "index.html"
    return process, page.read_text(encoding="utf-8") if page.exists() else ""


def test_good_tex_is_typeset(tmp_path):
    process, page = build(tmp_path, "# Title\n\nThe loss $-\\log p$ falls.\n\n$$\na^2 + b^2 = c^2\n$$\n")
    assert process.returncode == 0, process.stderr
    assert page.count('class="katex"') == 2
    assert page.count('class="katex-display"') == 1


def test_bad_tex_fails_the_build_and_names_the_page_the_line_and_the_formula(tmp_path):
    process, _ = build(tmp_path, "# Title\n\nFine: $x$.\n\nWrong: $\\frac{1}{$.\n")
    assert process.returncode != 0
    assert "index.md:5: WARNING: KaTeX parse error" in process.stderr
    assert "in the formula: \\frac{1}{" in process.stderr


@pytest.mark.parametrize("tex", ["\\unknown x", "\\left( x", "x^2^3", "\\begin{aligned} a", "x_2é"])
def test_what_latex_refuses_is_refused(katex, tex):
    with pytest.raises(prerendered_math.TexError, match=r"KaTeX parse error|LaTeX-incompatible"):
        katex.render(tex, display=True)


def test_katex_goes_on_after_a_bad_formula(katex):
    with pytest.raises(prerendered_math.TexError):
        katex.render("}", display=False)
    assert "katex" in katex.render("x\n< y", display=False)


def test_labelled_equations_are_numbered_once_and_can_be_referred_to(tmp_path):
    text = (
        "# Title\n\n$$\na = b\n$$ (first)\n\n"
        "\\begin{align}\nc &= d \\\\\ne &= f\n\\end{align}\n\n"
        "\\begin{align*}\ng &= h\n\\end{align*}\n\nSee {eq}`first`.\n"
    )
    process, page = build(tmp_path, text)
    assert process.returncode == 0, process.stderr
    assert [page.count(f'<span class="eqno">({number})') for number in (1, 2, 3)] == [1, 1, 0]
    assert "eqn-num" not in page  # KaTeX's own numbers would stand beside Sphinx's
    assert 'href="#equation-first"' in page


def test_style_sheet_asks_for_no_font_that_is_not_there(tmp_path):
    build(tmp_path, "# Title\n\n$x$\n")
    folder = tmp_path / "out" / "_static" / "katex"
    named = {part.split(")")[0] for part in (folder / "katex.css").read_text(encoding="utf-8").split("url(")[1:]}
    assert named == {f"fonts/{font.name}" for font in (folder / "fonts").iterdir()}


def test_node_process_ends_with_the_build(katex):
    katex.render("x", display=False)
    process = katex.process
    katex.close()
    assert process.returncode == 0


def test_node_process_ends_when_the_build_is_killed():
    code = (
        "import prerendered_math as m; k = m.KaTeX(); k.render('x', False); print(k.process.pid, flush=True); input()"
    )
    build = subprocess.Popen(
        [sys.executable, "-c", code], cwd=WEBSITE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    node = psutil.Process(int(build.stdout.readline()))
    build.send_signal(signal.SIGKILL)
    build.communicate()
    psutil.wait_procs([node], timeout=60)
    assert not node.is_running() or node.status() == psutil.STATUS_ZOMBIE  # a container's init may leave a zombie


def test_script_is_cut_out_and_one_that_is_not_there_is_an_error():
    html = '<link href="a.css"><script defer src="_static/scripts/icons.js?v=1"></script><script src="b.js"></script>'
    assert lean_pages.without_script(html, "icons.js") == '<link href="a.css"><script src="b.js"></script>'
    with pytest.raises(ExtensionError, match=r"no longer loads missing\.js"):
        lean_pages.without_script(html, "missing.js")


def test_images_are_given_their_size_unless_they_have_one(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "figure.png")
    sources = {"a.png": tmp_path / "figure.png"}
    tag = '<img alt="A &gt; B" src="../_images/a.png"'
    assert lean_pages.size_images(f"{tag} />", sources) == f'{tag} width="30" height="20" />'
    assert lean_pages.size_images('<img width="9" src="../_images/a.png" />', sources).count("width") == 1


def test_description_is_the_first_paragraph_cut_at_a_word():
    text = "What a loss is. " * 20
    doctree = nodes.document(None, None, nodes.title(text="Title"), nodes.paragraph(text=text))
    description = lean_pages.describe(doctree)
    assert len(description) <= 160
    assert text.startswith(description.removesuffix(" …") + " ")


def test_explorer_is_pointed_to_the_scripts_that_are_copied():
    address = "https://cdn.jsdelivr.net/npm/vega-lite@6.4.1?noext"
    local = explorers.REMOTE.sub(lambda match: explorers.local_address(match, "../_static/"), f'"{address}"')
    assert local == '"../_static/vega-lite.min.js"'
    assert all((explorers.PACKAGES / script).is_file() for script in explorers.SCRIPTS.values())


def test_every_address_in_an_explorer_becomes_a_local_one():
    panel = plotting.Panel({"curve": lambda value: ([0, 1], [0, value])}, "x", "y", (0, 1), (0, 1))
    slider = plotting.Slider("slope", 0.0, 1.0, 0.5, 2)
    page = plotting.explorer(
        [panel], slider, description="A straight line whose slope follows the slider."
    )._repr_html_()
    assert len(explorers.REMOTE.findall(page)) >= len(explorers.SCRIPTS)
    local = explorers.REMOTE.sub(lambda match: explorers.local_address(match, ""), page)
    assert re.findall(r"https?://[^\"]+", local) == [
        f"https://vega.github.io/schema/vega-lite/v{alt.SCHEMA_VERSION[1:]}.json"
    ]


def test_explorer_drawn_for_another_version_of_vega_stops_the_build():
    match = explorers.REMOTE.search("https://cdn.jsdelivr.net/npm/vega@5?noext")
    with pytest.raises(ExtensionError, match="drawn for vega 5"):
        explorers.local_address(match, "")
