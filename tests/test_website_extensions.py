"""The Sphinx extensions of the website, on small books of their own."""

import importlib
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import altair as alt
import psutil
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from PIL import Image
from sphinx.errors import ExtensionError

from lib import catalog, plotting

WEBSITE = Path(__file__).parents[1] / "website"
sys.path.append(str(WEBSITE))  # as Jupyter Book does for a local extension
catalogue_pages = importlib.import_module("catalogue_pages")
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


def build(folder: Path, text: str, extension: str = "prerendered_math") -> tuple[subprocess.CompletedProcess, str]:
    """Build a book, of one page if no other lies there, as `make book` does; return the process and the page."""
    (folder / "index.md").write_text(text, encoding="utf-8")
    (folder / "conf.py").write_text(
        f"extensions = ['myst_parser', 'prerendered_math', '{extension}']\n"
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


KNOWN = (*catalog.ENTRIES, *catalog.TOOLS)


def build_catalogue(folder: Path, text: str, **others: str) -> subprocess.CompletedProcess:
    """Build a book with an atlas and other pages, chapter__mnist for chapter/mnist."""
    pages = {"atlas": "# Atlas\n\n```{atlas}\n```\n"} | {name.replace("__", "/"): page for name, page in others.items()}
    for name, page in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(page, encoding="utf-8")
    contents = "\n".join(pages)
    return build(folder, f"# Title\n\n{text}\n\n```{{toctree}}\n{contents}\n```\n", "catalogue_pages")[0]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """The folder of a book with an atlas, a chooser, and links to the cards."""
    folder = tmp_path_factory.mktemp("catalogue")
    process = build_catalogue(
        folder,
        "See [Huber](atlas.md#huber-loss) and [a family](atlas.md#family-gan).",
        choosing="# Choosing\n\n## Tasks\n\n```{chooser} atlas.md\n```\n",
    )
    assert process.returncode == 0, process.stderr
    return folder / "out"


def read(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def words(values: str) -> set[str]:
    return set(values.split())


def test_atlas_has_a_card_for_each_loss_in_the_section_of_its_family(catalogue):
    atlas = read(catalogue / "atlas.html")
    cards = {card["id"]: card for card in atlas.select("section[data-entry]")}
    assert len(cards) == len(KNOWN)
    for one in KNOWN:
        card = cards[one.anchor]
        assert card["data-entry"] == one.anchor
        assert card.find("h3").text.startswith(one.title)
        assert one.because in " ".join(card.text.replace("\u2019", "'").split())
        assert one.url in [unquote(link["href"]) for link in card.select("details a")]
        assert card.parent["id"] == f"family-{one.family.replace(' ', '-')}"
        assert len(card.select("svg.thumbnail title")) == isinstance(one, catalog.Entry)
        assert card.select(".math .katex-display")


def test_what_a_card_can_be_found_by_is_what_the_catalogue_says(catalogue):
    cards = {card["id"]: card for card in read(catalogue / "atlas.html").select("section[data-entry]")}
    huber, weights = cards["huber-loss"], cards["class-balanced-weights"]
    found = {name: huber[f"data-{name}"] for name in ("family", "task", "trouble", "decision", "convex", "bounded")}
    assert found == {
        "family": "regression",
        "task": "predict-a-number",
        "trouble": "outliers",
        "decision": "the-typical-value",
        "convex": "yes",
        "bounded": "no",
    }
    assert (huber["data-robust"], huber["data-calibrated"], huber["data-in-pytorch"]) == ("yes", "", "yes")
    assert [claim.text for claim in huber.select(".claim")] == ["convex", "robust", "in PyTorch"]
    assert (weights["data-convex"], weights.select(".claim")) == ("", [])  # a tool claims nothing


@pytest.mark.parametrize("name", ["atlas", "choosing"])
def test_every_answer_of_a_form_alone_finds_a_loss(catalogue, name):
    page = read(catalogue / f"{name}.html")
    (form,) = page.select("form.catalogue-filter")
    assert all(select.find_parent("label") for select in form.select("select"))
    for select in form.select("select"):
        held = set().union(*(words(one[f"data-{select['name']}"]) for one in page.select("[data-entry]")))
        offered = {option["value"] for option in select.select("option")} - {""}
        assert offered == held


def test_chooser_has_a_row_for_each_loss_of_each_task_the_first_choice_first(catalogue):
    page = read(catalogue / "choosing.html")
    for task in catalog.TASKS:
        rows = page.select(f"#to-{task.replace(' ', '-')} tr[data-entry]")
        assert {row["data-entry"] for row in rows} == {one.anchor for one in KNOWN if task in one.use_for}
        for row in rows:
            assert row["data-task"] == task.replace(" ", "-")  # in this table it is found by this task alone
            (link,) = row.select("td:first-child a")
            assert link["href"] == f"atlas.html#{row['data-entry']}"
        first = ["First choice." in row.text for row in rows]
        assert first == sorted(first, reverse=True)
        assert any(first)


def test_chooser_names_the_losses_of_every_trouble_and_every_decision_without_its_form(catalogue):
    page = read(catalogue / "choosing.html")
    for section, meanings in (("the-troubles", catalog.TROUBLES), ("the-decisions", catalog.DECISIONS)):
        rows = {row.td.text: row for row in page.select(f"#{section} tbody tr")}
        assert list(rows) == list(meanings)
        for word, row in rows.items():
            named = {link["href"].partition("#")[2] for link in row.select("a")}
            assert named == {one.anchor for one in KNOWN if word in (*one.helps_against, *one.decisions)}


def test_links_to_a_card_and_to_a_family_lead_there(catalogue):
    links = {link["href"] for link in read(catalogue / "index.html").select("a")}
    assert {"atlas.html#huber-loss", "atlas.html#family-gan"} <= links


def test_script_is_loaded_by_the_pages_with_a_form_and_by_no_other(catalogue):
    def scripts(page):
        return [tag["src"] for tag in read(catalogue / f"{page}.html").select("script[src*=catalogue_pages]")]

    assert [len(scripts(page)) for page in ("atlas", "choosing", "index")] == [1, 1, 0]
    assert (catalogue / "_static" / catalogue_pages.SCRIPT.name).is_file()
    assert len(catalogue_pages.SCRIPT.read_text(encoding="utf-8").splitlines()) < 100


def test_chapter_of_a_loss_is_linked_where_the_book_has_it_and_only_there(catalogue, tmp_path):
    entry = catalog.entry("cross_entropy")
    assert "Chapter:" not in read(catalogue / "atlas.html").text
    chapter = f"chapters/{entry.chapter}".replace("/", "__")
    process = build_catalogue(tmp_path, "See [Hubr](atlas.md#hubr-loss).", **{chapter: "# The page of that name\n"})
    assert re.findall(r"WARNING: (.*)", process.stderr) == [  # a link to no card fails the build
        "local id not found in doc 'atlas': 'hubr-loss' [myst.xref_missing]"
    ]
    card = read(tmp_path / "out" / "atlas.html").find(id=entry.anchor)
    (link,) = (link for link in card.select(".glance a") if link["href"].startswith("chapters/"))
    assert (link["href"], link.text) == (f"chapters/{entry.chapter}.html", "The page of that name")
