"""The built website, page by page, in a real browser: `make book` builds what these tests look at."""

import copy
import functools
import http.server
import io
import itertools
import os
import re
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[1]
SITE = ROOT / "_build" / "html"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
PAGES = list(parse_toc_yaml(ROOT / "_toc.yml"))
NOTEBOOKS = [page for page in PAGES if (ROOT / f"{page}.ipynb").exists()]
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Chromium's own calls home are no requests of the page, but they would fail where there is no network.
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
]
# Collected from the first paint on; a shift that follows the reader's own input would not count.
COUNT_SHIFTS = """
window.layoutShift = 0;
new PerformanceObserver(list => list.getEntries().forEach(entry => {
  if (!entry.hadRecentInput) window.layoutShift += entry.value;
})).observe({type: "layout-shift", buffered: true});
"""
# Hints and solutions must fit, too.
UNFOLD = """
document.querySelectorAll("article details").forEach(box => box.open = true);
Promise.all(document.getAnimations().map(animation => animation.finished)).then(() => null);
"""


def without(what: str):
    """Skip a test that lacks something on a reader's machine; in CI nothing may lack."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@functools.cache
def parse(path: Path) -> BeautifulSoup:
    """Return a built page, parsed."""
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def read(page: str) -> BeautifulSoup:
    """Return a page of the table of contents, for looking only."""
    path = SITE / f"{page}.html"
    if not path.exists():
        without(f"{page} is not in the website yet: run `make book`")
    return parse(path)


@pytest.fixture(scope="module")
def site():
    """The address at which the built website is served on this machine."""
    if not SITE.exists():
        without("the website is not built: run `make book`")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """One browser for all pages."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        without(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A page in the browser, and what happened while it loaded."""

    page: Page
    theme: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    layout_shift: float = 0.0

    def load(self, address: str):
        """Open an address, wait until nothing more comes, and unfold what folds."""
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.failures.append(request.url))
        self.page.on("response", lambda answer: answer.status >= 400 and self.failures.append(answer.url))
        self.page.add_init_script(COUNT_SHIFTS)
        self.page.goto(address, wait_until="networkidle")
        self.page.evaluate("document.fonts.ready.then(() => null)")
        self.layout_shift = self.page.evaluate("window.layoutShift")
        self.page.evaluate(UNFOLD)


@pytest.fixture(
    scope="module",
    params=itertools.product([*PAGES, "search"], ("light", "dark"), SIZES),
    ids=lambda combination: "-".join(combination),
)
def visit(request, browser, site):
    """Every page, light and dark, on a desk and on a phone."""
    name, theme, size = request.param
    width, height = SIZES[size]
    if name != "search":
        read(name)
    page = browser.new_page(color_scheme=theme, viewport={"width": width, "height": height})
    visit = Visit(page, theme)
    visit.load(f"{site}{name}.html")
    yield visit
    page.close()


def test_page_raises_and_logs_no_error(visit):
    assert visit.errors == []


def test_page_asks_no_third_party(visit, site):
    assert [url for url in visit.requests if not url.startswith((site, "data:"))] == []


def test_every_request_of_a_page_is_answered(visit):
    assert visit.failures == []


def test_page_takes_the_theme_that_the_reader_prefers(visit):
    assert visit.page.locator("html").get_attribute("data-theme") == visit.theme


def test_layout_shifts_by_less_than_a_tenth(visit):
    assert visit.layout_shift < 0.1


def test_nothing_but_tables_formulas_and_code_scrolls_sideways(visit):
    # These scroll inside themselves; the page, and the article, which the theme would let scroll, have no need to.
    overhang = visit.page.evaluate(
        """[document.documentElement, ...document.querySelectorAll(".bd-article-container")]
           .map(box => box.scrollWidth - box.clientWidth)"""
    )
    assert max(overhang) <= 0


def test_figures_on_a_dark_page_are_dark(visit):
    figures = visit.page.locator("div.cell:not(.tag_keep-colors) > div.cell_output img:not(.still)")
    if visit.theme == "dark" and figures.count():
        corner = Image.open(io.BytesIO(figures.first.screenshot())).convert("L").getpixel((3, 3))
        assert corner < 40


def test_page_is_accessible(visit):
    visit.page.add_script_tag(path=ROOT / "website" / "node_modules" / "axe-core" / "axe.min.js")
    violations = visit.page.evaluate("axe.run().then(result => result.violations)")
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_moving_a_slider_moves_the_curves(name, size, browser, site):
    if not read(name).select(".explorer"):
        return
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(f"{site}{name}.html", wait_until="networkidle")
    for explorer in page.locator(".explorer").all():
        slider, lines = explorer.locator("input[type=range]"), explorer.locator("svg .role-mark path")
        before = lines.evaluate_all(
            "marks => marks.map(mark => mark.getAttribute('d') + mark.getAttribute('transform'))"
        )
        assert explorer.locator("svg").bounding_box()["width"] <= width
        at_the_end = slider.input_value() == slider.get_attribute("max")
        slider.fill(slider.get_attribute("min" if at_the_end else "max"))
        page.wait_for_timeout(100)
        after = lines.evaluate_all(
            "marks => marks.map(mark => mark.getAttribute('d') + mark.getAttribute('transform'))"
        )
        assert before != after
        assert not explorer.locator("img.still").is_visible()
    page.close()


@pytest.fixture(params=["formulas/atlas", "appendix/choosing"])
def catalogue(request, browser, site):
    """A page with menus, which hide the losses that do not fit."""
    name = f"chapters/{request.param}"
    read(name)
    page = browser.new_page()
    page.goto(f"{site}{name}.html", wait_until="networkidle")
    yield page
    page.close()


def shown(page: Page) -> list[str]:
    """The losses that can be seen, in the order of the page."""
    return page.locator("[data-entry]:visible").evaluate_all("cards => cards.map(card => card.dataset.entry)")


def choose(page: Page, **choice: str):
    """Set menus as the keyboard does, with the event that the browser sends."""
    for name, value in choice.items():
        page.locator(f"select[name={name}]").select_option(value)


def test_menus_hide_what_does_not_fit_and_say_how_much_is_left(catalogue):
    everything = shown(catalogue)
    status = catalogue.get_by_role("status")
    assert status.inner_text() == f"All {len(set(everything))} are shown."
    choose(catalogue, task="predict-a-number", trouble="outliers")
    left = shown(catalogue)
    assert "huber-loss" in left
    assert not {"mse-loss", "cross-entropy"} & set(left)
    assert status.inner_text() == f"{len(set(left))} of {len(set(everything))} are shown."
    assert all(
        group.locator("[data-entry]:visible").count() for group in catalogue.locator("[data-group]:visible").all()
    )
    catalogue.get_by_role("button", name="Show all").click()
    assert shown(catalogue) == everything


def test_address_keeps_the_choice(catalogue, browser):
    choose(catalogue, task="pick-one-class", trouble="wrong-labels")
    assert urlsplit(catalogue.url).fragment == "task=pick-one-class&trouble=wrong-labels"
    other = browser.new_page()
    other.goto(catalogue.url, wait_until="networkidle")
    assert shown(other) == shown(catalogue) == ["generalized-cross-entropy", "symmetric-cross-entropy"]
    assert other.locator("select[name=trouble]").input_value() == "wrong-labels"
    other.close()
    catalogue.get_by_role("button", name="Show all").click()
    assert urlsplit(catalogue.url).fragment == ""


def test_address_that_makes_no_sense_shows_everything(catalogue):
    everything = shown(catalogue)
    for fragment in ("task=fly", "nothing", "task=pick-one-class&trouble=%"):
        catalogue.evaluate("fragment => { location.hash = fragment; }", fragment)
    catalogue.wait_for_function("document.querySelector('select[name=trouble]').value === ''")
    choose(catalogue, task="")
    assert shown(catalogue) == everything


def test_every_answer_that_the_menus_offer_leads_to_a_loss(catalogue):
    # Every pair of answers is set; of the third menu, what is offered then is compared with what the rows hold.
    unkept = catalogue.evaluate(
        """() => {
          const menus = [...document.querySelectorAll("form.catalogue-filter select")];
          const values = menu => [...menu.options].map(option => option.value);
          const set = (menu, value) => {
            menu.value = value;
            menu.dispatchEvent(new Event("input", {bubbles: true}));
          };
          const unkept = [];
          for (const [i, first] of menus.entries()) for (const one of values(first)) {
            set(first, one);
            for (const second of menus.slice(i + 1)) for (const option of second.options) {
              const offered = !option.disabled, before = second.value;
              set(second, option.value);
              const left = [...document.querySelectorAll("[data-entry]")].filter(card => !card.hidden).length;
              const said = document.querySelector("[role=status]").textContent;
              if (offered !== left > 0 || said.startsWith("No loss") !== (left === 0)) unkept.push([one, option.value]);
              set(second, before);
            }
            set(first, "");
          }
          return unkept;
        }"""
    )
    assert unkept == []


def test_combination_without_a_loss_says_so(catalogue):
    catalogue.evaluate("location.hash = 'task=find-boxes&trouble=wrong-labels'")
    catalogue.get_by_text("No loss that this course knows fits all of this").wait_for()
    assert shown(catalogue) == []


def test_menus_are_reached_and_set_with_the_keyboard(catalogue):
    catalogue.locator("select[name=task]").focus()
    catalogue.keyboard.type("pick")
    assert "cross-entropy" in shown(catalogue)
    assert "mse-loss" not in shown(catalogue)
    catalogue.keyboard.press("Tab")
    assert catalogue.evaluate("document.activeElement.name") == "trouble"


def test_link_to_a_card_shows_it_even_if_the_menus_had_hidden_it(browser, site):
    read("chapters/formulas/atlas")
    page = browser.new_page()
    page.goto(f"{site}chapters/formulas/atlas.html#task=predict-a-number", wait_until="networkidle")
    assert not page.locator("#focal-loss").is_visible()
    page.evaluate("location.hash = 'focal-loss'")
    page.locator("#focal-loss").wait_for()
    assert page.locator("#focal-loss").bounding_box()["y"] < page.viewport_size["height"]
    page.close()


@pytest.mark.parametrize("name", ["formulas/atlas", "appendix/choosing"])
def test_without_scripts_every_loss_can_be_read_and_no_dead_form_is_seen(name, browser, site):
    built = read(f"chapters/{name}")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}chapters/{name}.html")
    assert page.locator("[data-entry]:visible").count() == len(built.select("[data-entry]"))
    assert not page.locator("form.catalogue-filter").is_visible()
    context.close()


def test_search_finds_a_chapter(browser, site):
    chapter = PAGES[-1]
    word = max(re.findall(r"[A-Za-z]+", read(chapter).h1.text), key=len)
    page = browser.new_page()
    page.goto(f"{site}search.html")
    page.locator("main input[name=q]").fill(word)
    page.keyboard.press("Enter")
    page.locator("#search-results li a").first.wait_for()
    links = page.locator("#search-results li a").evaluate_all("links => links.map(link => link.href.split(/[?#]/)[0])")
    page.close()
    assert f"{site}{chapter}.html" in links


@pytest.mark.parametrize("name", PAGES)
def test_formulas_are_typeset_in_the_page_itself(name):
    article = copy.copy(read(name).article)
    assert [formula.text for formula in article.select(".math") if not formula.select(".katex")] == []
    assert [error.text for error in article.select(".katex-error")] == []
    for verbatim in article.select("code, pre, .katex"):
        verbatim.decompose()
    assert re.findall(r"\$\S(?:[^$]*\S)?\$|\\[\[(]|\\begin\{", article.text) == []


@pytest.mark.parametrize("name", PAGES)
def test_page_describes_itself(name):
    (description,) = read(name).select("meta[name=description]")
    assert len(description["content"]) > 40


@pytest.mark.parametrize("name", PAGES)
def test_images_have_an_alternative_text(name):
    # Without one of the author's, Sphinx writes the file's path.
    images = read(name).article.select("img")
    assert [image["src"] for image in images if image.get("alt", "").strip() in ("", image["src"])] == []


@pytest.mark.parametrize("name", PAGES)
def test_buttons_lead_to_the_configured_repository(name):
    repository = CONFIG["repository"]
    links = {link["href"] for link in read(name).select(".article-header-buttons a")}
    path = urlsplit(repository["url"]).path + f"/blob/{repository['branch']}/{name}.ipynb"
    colab = {f"https://colab.research.google.com/github{path}"} if name in NOTEBOOKS else set()
    assert links == {repository["url"]} | colab


@pytest.mark.parametrize("name", PAGES)
def test_links_within_the_site_lead_somewhere(name):
    broken = []
    for link in read(name).select("a[href], link[href], script[src], img[src]"):
        target = urlsplit(urljoin(f"http://site/{name}.html", link.get("href") or link["src"]))
        if target.netloc != "site":
            continue
        file = SITE / unquote(target.path).lstrip("/")
        if not file.is_file() or (target.fragment and not parse(file).find(id=unquote(target.fragment))):
            broken.append(target.geturl())
    assert broken == []
