"""The notebooks as they are committed: clean, run from top to bottom, readable on the website, in Jupyter and in Colab.

Each `problems_with_…` takes a notebook and says in words what is wrong with it; a sound one has an empty list. Then
come the theorems about the course's notebooks, and last the proof that the checks can fail: a miniature notebook is
broken in every way that they are to notice.
"""

import base64
import copy
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbformat.validator import iter_validate
from notebooks import (
    CHAPTERS,
    NOTEBOOKS,
    REPOSITORY,
    ROOT,
    anchors,
    code_cells,
    flat,
    markdown_cells,
    parse,
    parse_cells,
    read,
    sections,
    setup_cell,
    text_of,
)

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
CELL_METADATA = {"tags", "mystnb"}
MAX_OUTPUT_LINES = 200
MAX_IMAGE_BYTES = 150_000
MIN_ALT_LENGTH = 20
MIN_DESCRIPTION_LENGTH = 60
MAX_CODE_LINES = 30
MEDIAN_CODE_LINES = 10
MIN_WORDS = 600
MIN_REFERENCES = 3

LITTER = {
    "a warning": r"Warning",
    "a traceback": r"Traceback \(most recent call last\)",
    "a progress bar": r"\r|it/s|s/it|%\||█",
    "a terminal's control characters": r"\x1b",
    "what a call returned": r"^History\(",
}
READABLE = r"text/|application/|image/svg"  # the other images are base64, which may hold anything
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|Users)\b|\b[A-Z]:\\+Users\b|ipykernel_")
DEVICE = re.compile(r"\b(?:cuda|cpu)\b", re.IGNORECASE)

COMMONMARK = {
    *("paragraph", "heading", "blockquote", "bullet_list", "ordered_list", "list_item", "strong", "em", "link"),
    *("inline", "text", "softbreak", "hardbreak", "code_inline", "code_block", "fence", "hr", "image"),
    *("html_block", "html_inline"),
}
MATHS = {"math_inline", "math_block", "amsmath"}
TABLES = {"table", "thead", "tbody", "tr", "th", "td"}  # no CommonMark, but all three places render them
HTML_TAGS = {"details", "summary", "br", "sub", "sup"}
RAW_MYST = {"attributes in braces": r"\{[.#]\w", "a footnote": r"\[\^\w", "a wiki link": r"\[\["}

FOLD_OPENS = re.compile(r"<details>\s*<summary>(.+)</summary>\s*")
FOLD_CLOSES = re.compile(r"</details>\s*")
EXERCISE_LEVEL = re.compile(r"\*Level [123] of 3, \d+ minutes?\.\*")
DOI = re.compile(r"https://doi\.org/10\.\d{4,9}/\S+")
ARXIV = re.compile(r"https://arxiv\.org/abs/(?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})(?:v\d+)?")


# The file


def entries(toc) -> Iterator[str]:
    """Yield every page that a table of contents names."""
    if isinstance(toc, dict):
        yield from (toc[key] for key in ("root", "file") if key in toc)
        toc = list(toc.values())
    if isinstance(toc, list):
        for part in toc:
            yield from entries(part)


def problems_with_toc(toc: dict, files: Iterable[str]) -> list[str]:
    """Compare a table of contents with the files under chapters/."""
    listed = Counter(entries(toc))
    files = set(files)
    found = {page: {f"{page}.ipynb", f"{page}.md"} & files for page in listed}
    return [
        *(f"{page} is listed {times} times" for page, times in listed.items() if times > 1),
        *(f"{page} is listed but is neither a notebook nor a page" for page in listed if not found[page]),
        *(f"{page} is both a notebook and a page" for page in listed if len(found[page]) > 1),
        *(f"{file} is not listed" for file in sorted(files - set().union(*found.values()))),
    ]


def problems_with_format(notebook: NotebookNode) -> list[str]:
    """Validate against nbformat 4.5."""
    version = (notebook.nbformat, notebook.nbformat_minor)
    ids = Counter(cell.get("id") for cell in notebook.cells)
    return [
        *([f"the format is {version[0]}.{version[1]} and should be 4.5"] if version != (4, 5) else []),
        *(f"{times} cells have the id {id_}" for id_, times in ids.items() if times > 1),
        *(f"not valid: {error.message}" for error in iter_validate(notebook)),
    ]


def problems_with_metadata(notebook: NotebookNode) -> list[str]:
    """Look for what an editor, a machine or a run left in the metadata."""
    problems = [] if notebook.metadata == METADATA else [f"the notebook's metadata are {dict(notebook.metadata)}"]
    for cell in notebook.cells:
        problems += [f"{cell.id}: metadata hold {key!r}" for key in sorted(cell.metadata.keys() - CELL_METADATA)]
        problems += [
            f"{cell.id}: an output's metadata hold {sorted(output.metadata)}"
            for output in cell.get("outputs", ())
            if output.get("metadata")
        ]
    return problems


def problems_with_setup_cell(notebook: NotebookNode, shared: str, repository: str) -> list[str]:
    """Compare the first code cell with the one that all notebooks share."""
    cell = setup_cell(notebook)
    problems = []
    if cell.source != shared:
        problems.append("the first code cell differs from the other notebooks'")
    if cell.metadata.get("tags") != ["remove-cell"]:
        problems.append("the first code cell is not tagged remove-cell, and nothing else")
    if f"%pip install --quiet --no-deps git+{repository}" not in [line.strip() for line in cell.source.splitlines()]:
        problems.append(f"the first code cell does not install git+{repository} without its dependencies")
    return problems


# The code and its outputs


def texts(output: NotebookNode, kinds: str = "text/") -> Iterator[str]:
    """Yield what an output says, in all its formats."""
    yield output.get("text", "")
    yield from (str(content) for kind, content in output.get("data", {}).items() if re.match(kinds, kind))


def images(cell: NotebookNode) -> list[bytes]:
    """The images that a cell draws."""
    found = [(kind, content) for output in cell.get("outputs", ()) for kind, content in output.get("data", {}).items()]
    return [
        content.encode() if kind == "image/svg+xml" else base64.b64decode(content)
        for kind, content in found
        if kind.startswith("image/")
    ]


def has_line(start: str, source: str) -> bool:
    """Whether a line of the source begins in this way."""
    return re.search(f"^(?:{start})", source, re.MULTILINE) is not None


def problems_with_execution(notebook: NotebookNode) -> list[str]:
    """Find the first cell that was not run in its turn."""
    for turn, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != turn:
            return [f"{cell.id} was not run in its turn: it is number {turn}, its count {cell.execution_count}"]
    return []


def problems_with_missing_outputs(notebook: NotebookNode) -> list[str]:
    """Find cells that print or draw but show nothing."""
    problems = [] if any(cell.outputs for cell in code_cells(notebook)) else ["no cell has an output"]
    for cell in code_cells(notebook):
        if has_line(r"print\(", cell.source) and not any(output.get("name") == "stdout" for output in cell.outputs):
            problems.append(f"{cell.id} prints, but its output is missing")
        if cell.source.rstrip().endswith("plt.show()") and not images(cell):
            problems.append(f"{cell.id} draws, but its image is missing")
    return problems


def problems_with_litter(notebook: NotebookNode) -> list[str]:
    """Look for what no reader should meet in an output."""
    problems = []
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"{cell.id} stops with an error: {output.ename}")
            if output.get("name") == "stderr":
                problems.append(f"{cell.id} writes to stderr: {output.text}")
            for text in texts(output):
                problems += [f"{cell.id} shows {what}" for what, sign in LITTER.items() if re.search(sign, text)]
                if len(text.splitlines()) > MAX_OUTPUT_LINES:
                    problems.append(f"{cell.id} shows more than {MAX_OUTPUT_LINES} lines")
    return problems


def problems_with_paths(notebook: NotebookNode) -> list[str]:
    """Look for paths that exist on one machine only."""
    return [
        f"{cell.id} names a path of a machine: {match[0]}"
        for cell in notebook.cells
        for text in (cell.source, *(text for output in cell.get("outputs", ()) for text in texts(output, READABLE)))
        for match in MACHINE.finditer(text)
    ]


def problems_with_devices(notebook: NotebookNode) -> list[str]:
    """Look for a device in the code: `lib` picks it."""
    return [
        f"{cell.id} names a device: {match[0]}"
        for cell in code_cells(notebook)
        for match in DEVICE.finditer(cell.source)
    ]


def problems_with_length(notebook: NotebookNode) -> list[str]:
    """Count the lines of code."""
    lines = {cell.id: len(cell.source.splitlines()) for cell in code_cells(notebook)}
    problems = [f"{name} has {count} lines of code" for name, count in lines.items() if count > MAX_CODE_LINES]
    if median(lines.values()) >= MEDIAN_CODE_LINES:
        problems.append(f"the median code cell has {median(lines.values())} lines")
    return problems


def problems_with_training(notebook: NotebookNode) -> list[str]:
    """Find cells that train and whose outputs are compared by nothing: neither by nbval nor by an assert."""
    cells = code_cells(notebook)
    return [
        f"{cell.id} trains, but no later cell asserts anything"
        for position, cell in enumerate(cells)
        if "nbval-ignore-output" in cell.metadata.get("tags", ())
        and re.search(r"\bfit\(|\btrain_\w+\(", cell.source)
        and not any(has_line(r"\s*assert\b|\s*[\w.]+\.assert_\w+\(", later.source) for later in cells[position + 1 :])
    ]


# The text


def problems_with_markdown(notebook: NotebookNode) -> list[str]:
    """Look for what one of the website, Jupyter and Colab would show raw."""
    problems = []
    for cell in markdown_cells(notebook):
        for token in flat(parse(cell.source)):
            kind = token.type.removesuffix("_open").removesuffix("_close")
            if kind not in COMMONMARK | MATHS | TABLES:
                problems.append(f"{cell.id}: {kind} is neither CommonMark nor maths: {token.content}")
            if token.type == "fence" and token.info.startswith("{"):
                problems.append(f"{cell.id}: {token.info} is a directive of MyST")
            if token.type.startswith("html"):
                tags = set(re.findall(r"</?([a-zA-Z][\w-]*)", token.content)) - HTML_TAGS
                problems += [f"{cell.id}: the HTML tag {tag}" for tag in sorted(tags)]
            if token.type == "inline":
                raw = [what for what, sign in RAW_MYST.items() if re.search(sign, text_of(token))]
                problems += [f"{cell.id}: {what}: {token.content}" for what in raw]
    return problems


def problems_with_folds(notebook: NotebookNode) -> list[str]:
    """See that what folds has a summary, renders as Markdown, and ends in the cell in which it begins."""
    problems = []
    for cell in markdown_cells(notebook):
        depth = 0
        for token in parse(cell.source):
            if token.type != "html_block":
                continue
            if FOLD_OPENS.fullmatch(token.content):
                depth += 1
            elif FOLD_CLOSES.fullmatch(token.content):
                depth -= 1
            elif re.search("details|summary", token.content):
                problems.append(f"{cell.id}: not <details>, <summary>…</summary> and a blank line: {token.content}")
            if depth < 0:
                break
        if depth:
            problems.append(f"{cell.id}: <details> and </details> do not match")
    return problems


def problems_with_headings(notebook: NotebookNode) -> list[str]:
    """See that a title comes first, that it is the only one, and that no level is skipped."""
    headings = sections(parse_cells(notebook))
    problems = []
    first = notebook.cells[0]
    if first.cell_type != "markdown" or [section.level for section in sections(parse(first.source))][:1] != [1]:
        problems.append("the first cell has no title")
    titles = [section.title for section in headings if section.level == 1]
    if len(titles) > 1:
        problems.append(f"more than one title: {titles}")
    problems += [
        f"{after.title!r} skips a level" for before, after in pairwise(headings) if after.level > before.level + 1
    ]
    return problems


def problems_with_images(notebook: NotebookNode) -> list[str]:
    """See that each image can be heard, and is light."""
    problems = []
    for cell in code_cells(notebook):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if images(cell) and len(alt.strip()) < MIN_ALT_LENGTH:
            problems.append(f"{cell.id}: the image has no text alternative of {MIN_ALT_LENGTH} characters: {alt!r}")
        problems += [
            f"{cell.id}: the image has {len(image)} bytes, below {MAX_IMAGE_BYTES} is wanted"
            for image in images(cell)
            if len(image) >= MAX_IMAGE_BYTES
        ]
    for token in flat(parse_cells(notebook)):
        if token.type == "image" and not token.content.strip():
            problems.append(f"no text alternative: ![]({token.attrs['src']})")
    return problems


def problems_with_explorers(notebook: NotebookNode, wanted: bool) -> list[str]:
    """See that each figure with a slider can be heard, and that there is one where it is wanted."""
    pages = [text for cell in code_cells(notebook) for output in cell.outputs for text in texts(output, "text/html")]
    explorers = [image for page in pages for image in re.findall(r'<img class="still" alt="([^"]*)"', page)]
    problems = ["no figure has a slider"] if wanted and not explorers else []
    return problems + [
        f"a figure with a slider has no description of {MIN_DESCRIPTION_LENGTH} characters: {alt!r}"
        for alt in explorers
        if len(alt) < MIN_DESCRIPTION_LENGTH
    ]


def addresses(notebook: NotebookNode, kind: str) -> list[str]:
    """Where the links, or the images, of a notebook's text lead."""
    attribute = {"link_open": "href", "image": "src"}[kind]
    return [str(token.attrs[attribute]) for token in flat(parse_cells(notebook)) if token.type == kind]


def problem_with_local_link(address: str, notebook: NotebookNode, folder: Path) -> str | None:
    """Say why a link into the course leads nowhere."""
    path, _, fragment = unquote(address).partition("#")
    target = folder / path
    if path and not target.is_file():
        return f"{address}: there is no such file"
    if not fragment:
        return None
    if not path:
        headings = parse_cells(notebook)
    else:
        headings = parse_cells(read(target)) if target.suffix == ".ipynb" else parse(target.read_text(encoding="utf-8"))
    return None if fragment in anchors(headings) else f"{address}: there is no such heading"


def problem_with_remote_link(address: str) -> str | None:
    """Say why a link out of the course is not as it should be."""
    parts = urlsplit(address)
    if parts.scheme != "https" or "." not in parts.netloc:
        return f"{address}: not https"
    if parts.netloc.endswith("doi.org") and not DOI.fullmatch(address):
        return f"{address}: not of the form https://doi.org/10.…/…"
    if parts.netloc.endswith("arxiv.org") and not ARXIV.fullmatch(address):
        return f"{address}: not of the form https://arxiv.org/abs/…"
    return None


def problems_with_links(notebook: NotebookNode, folder: Path) -> list[str]:
    """Follow every link that stays in the course, and look at the form of those that leave it."""
    problems = []
    for address in addresses(notebook, "link_open"):
        leaves = urlsplit(address).scheme or address.startswith("//")
        problems.append(
            problem_with_remote_link(address) if leaves else problem_with_local_link(address, notebook, folder)
        )
    for address in addresses(notebook, "image"):
        if urlsplit(address).scheme or address.startswith("//"):
            problems.append(f"{address}: an image that is not in the repository")
        else:
            problems.append(problem_with_local_link(address, notebook, folder))
    problems += [f"{cell.id}: http:// where https:// is wanted" for cell in notebook.cells if "http://" in cell.source]
    return [problem for problem in problems if problem]


def problems_with_prose(notebook: NotebookNode) -> list[str]:
    """Count the words, those of code and maths apart."""
    words = sum(len(text_of(token).split()) for token in parse_cells(notebook) if token.type == "inline")
    return [] if words >= MIN_WORDS else [f"{words} words, {MIN_WORDS} are wanted"]


def problems_with_exercises(notebook: NotebookNode) -> list[str]:
    """See that there are four, each with a level, minutes, a hint and a solution, the latter two folded."""
    parts = sections(parse_cells(notebook))
    start = next((place for place, part in enumerate(parts) if (part.level, part.title) == (2, "Exercises")), None)
    if start is None:
        return ["no section is called Exercises"]
    end = next((place for place, part in enumerate(parts) if place > start and part.level <= 2), len(parts))
    exercises = [part for part in parts[start:end] if part.level == 3]
    problems = []
    if [exercise.title.partition(". ")[0] for exercise in exercises] != ["1", "2", "3", "4"]:
        problems.append(f"the exercises are not numbered 1. to 4.: {[exercise.title for exercise in exercises]}")
    for exercise in exercises:
        lines = [token.content for token in exercise.tokens if token.type == "inline"]
        if not EXERCISE_LEVEL.match("".join(lines[:1])):
            problems.append(f"{exercise.title!r} does not begin with *Level … of 3, … minutes.*")
        folds = " ".join(FOLD_OPENS.findall("".join(t.content for t in exercise.tokens if t.type == "html_block")))
        problems += [
            f"{exercise.title!r} has no folded {what}"
            for what, sign in {"hint": r"\bHint", "solution": r"\bSolution|\bAnswer"}.items()
            if not re.search(sign, folds)
        ]
    return problems


def problems_with_references(notebook: NotebookNode) -> list[str]:
    """Count the papers that can be found again."""
    listed = [part for part in sections(parse_cells(notebook)) if (part.level, part.title) == (2, "References")]
    if len(listed) != 1:
        return ["no section, or more than one, is called References"]
    links = {str(token.attrs["href"]) for token in flat(listed[0].tokens) if token.type == "link_open"}
    papers = [link for link in links if DOI.fullmatch(link) or ARXIV.fullmatch(link)]
    return [] if len(papers) >= MIN_REFERENCES else [f"{len(papers)} links to DOIs or arXiv, {MIN_REFERENCES} wanted"]


# The notebooks of the course


@pytest.fixture(params=NOTEBOOKS.values(), ids=NOTEBOOKS.keys(), scope="module")
def path(request):
    """Where a notebook is."""
    return request.param


@pytest.fixture(scope="module")
def notebook(path):
    """Every notebook of the course, one after the other."""
    return read(path)


def test_table_of_contents_lists_every_page_once_and_nothing_else():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [path.relative_to(ROOT) for path in CHAPTERS.rglob("*") if path.is_file()]
    files = [
        path.as_posix() for path in files if path.name != "ruff.toml" and not any(p.startswith(".") for p in path.parts)
    ]
    assert any(file.endswith(".ipynb") for file in files)
    assert problems_with_toc(toc, files) == []


def test_file_is_valid_nbformat_with_unique_ids(notebook):
    assert problems_with_format(notebook) == []


def test_metadata_are_clean(notebook):
    assert problems_with_metadata(notebook) == []


def test_first_code_cell_is_the_shared_one_and_names_the_configured_repository(notebook):
    shared = setup_cell(read(next(iter(NOTEBOOKS.values())))).source
    assert problems_with_setup_cell(notebook, shared, REPOSITORY) == []


def test_every_cell_was_run_in_its_turn(notebook):
    assert problems_with_execution(notebook) == []


def test_what_prints_and_draws_shows_it(notebook):
    assert problems_with_missing_outputs(notebook) == []


def test_outputs_are_free_of_errors_warnings_and_litter(notebook):
    assert problems_with_litter(notebook) == []


def test_nothing_names_a_path_of_a_machine(notebook):
    assert problems_with_paths(notebook) == []


def test_no_code_names_a_device(notebook):
    assert problems_with_devices(notebook) == []


def test_code_cells_are_short(notebook):
    assert problems_with_length(notebook) == []


def test_what_is_trained_is_asserted(notebook):
    assert problems_with_training(notebook) == []


def test_text_is_commonmark_and_maths(notebook):
    assert problems_with_markdown(notebook) == []


def test_what_folds_has_a_summary_and_an_end(notebook):
    assert problems_with_folds(notebook) == []


def test_headings_begin_with_one_title_and_skip_no_level(notebook):
    assert problems_with_headings(notebook) == []


def test_images_are_light_and_have_a_text_alternative(notebook):
    assert problems_with_images(notebook) == []


def test_every_chapter_on_formulas_has_a_figure_with_a_slider(notebook, path):
    assert problems_with_explorers(notebook, wanted=path.parent.name == "formulas") == []


def test_links_lead_somewhere(notebook, path):
    assert problems_with_links(notebook, path.parent) == []


def test_prose_is_a_chapter_long(notebook):
    assert problems_with_prose(notebook) == []


def test_four_exercises_have_level_minutes_hint_and_solution(notebook):
    assert problems_with_exercises(notebook) == []


def test_references_can_be_found_again(notebook):
    assert problems_with_references(notebook) == []


# The checks themselves: a miniature notebook passes them all, and fails each when it is broken

EXERCISE = """### {}. An exercise

*Level 1 of 3, 5 minutes.* Think.

<details>
<summary>Hint 1</summary>

Think of $x^2$.

</details>

<details>
<summary>Answer</summary>

It is `x ** 2`.

</details>"""
TITLE = "# A title\n\nSee [the papers](#references), $x_{[1]}$, `{role}` and [a page](neighbour.md#a-part).\n\n"
WORDS = "word " * 600
SETUP = f"try:\n    import google.colab\nelse:\n    %pip install --quiet --no-deps git+{REPOSITORY}"
PIXEL = base64.b64encode(b"a very small image").decode()
EXPLORER = f'<div class="explorer"><img class="still" alt="{"A slider moves a curve. " * 4}" src="data:,"></div>'
HEAVY = base64.b64encode(bytes(MAX_IMAGE_BYTES)).decode()


def miniature() -> NotebookNode:
    """A notebook with which nothing is wrong."""
    cells = [
        new_markdown_cell(TITLE + WORDS),
        new_code_cell(SETUP, metadata={"tags": ["remove-cell"]}),
        new_code_cell("print(1)", outputs=[new_output("stream", name="stdout", text="1\n")]),
        new_code_cell(
            "plt.show()",
            outputs=[new_output("display_data", {"image/png": PIXEL})],
            metadata={"mystnb": {"image": {"alt": "A falling line, then a flat one"}}},
        ),
        new_code_cell("explorer", outputs=[new_output("execute_result", {"text/html": EXPLORER}, execution_count=4)]),
        new_code_cell("runs = fit(net)", metadata={"tags": ["nbval-ignore-output"]}),
        new_code_cell("assert runs"),
        new_markdown_cell("## Exercises\n\n" + "\n\n".join(EXERCISE.format(number) for number in range(1, 5))),
        new_markdown_cell(
            "## References\n\n- [A](https://doi.org/10.1109/5.726791)\n- [B](https://arxiv.org/abs/1412.6980)\n"
            "- [C](https://arxiv.org/abs/math/0309285v2), its [code](https://example.org/code)\n"
        ),
    ]
    notebook = new_notebook(cells=cells, metadata=copy.deepcopy(METADATA))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    for count, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = count
    return notebook


def with_text(text: str):
    """Break a notebook by a Markdown cell after the first."""
    return lambda notebook: notebook.cells.insert(1, new_markdown_cell(text, id="broken"))


def with_code(source: str, place: int = 2):
    """Break a notebook by the source of a cell."""
    return lambda notebook: notebook.cells[place].update(source=source)


def with_output(kind: str, *data, place: int = 2, **content):
    """Break a notebook by an output of a cell."""
    return lambda notebook: notebook.cells[place].outputs.append(new_output(kind, *data, **content))


def with_print(text: str):
    """Break a notebook by what a cell prints."""
    return with_output("stream", name="stdout", text=text)


def with_metadata(place: int = 2, **metadata):
    """Break a notebook by the metadata of a cell."""
    return lambda notebook: notebook.cells[place].metadata.update(metadata)


def without_outputs(*places: int):
    """Break a notebook by cells that show nothing."""
    return lambda notebook: [notebook.cells[place].update(outputs=[]) for place in places]


def replacing(old: str, new: str):
    """Break a notebook by its text."""

    def replace(notebook):
        cell = next(cell for cell in markdown_cells(notebook) if old in cell.source)
        cell.source = cell.source.replace(old, new, 1)

    return replace


# For each check the ways to break the miniature: their names, how it is done, what the check then says.
BROKEN = {
    problems_with_format: {
        "older format": (lambda notebook: notebook.update(nbformat_minor=4), "4.4 and should be 4.5"),
        "two cells of one id": (lambda notebook: notebook.cells[1].update(id="cell-0"), "2 cells have the id cell-0"),
        "cell without an id": (lambda notebook: notebook.cells[1].pop("id"), "'id' is a required property"),
        "outputs lost": (lambda notebook: notebook.cells[2].pop("outputs"), "'outputs' is a required property"),
    },
    problems_with_metadata: {
        "version of Python": (lambda notebook: notebook.metadata.language_info.update(version="3.11.2"), "3.11.2"),
        "kernel of one machine": (lambda notebook: notebook.metadata.kernelspec.update(name="my-env"), "my-env"),
        "widgets": (lambda notebook: notebook.metadata.update(widgets={}), "widgets"),
        "Colab's": (lambda notebook: notebook.metadata.update(colab={}), "colab"),
        "timing": (with_metadata(execution={"iopub.execute_input": "1"}), "cell-2: metadata hold 'execution'"),
        "editor's": (with_metadata(vscode={"languageId": "python"}), "cell-2: metadata hold 'vscode'"),
        "output's": (with_output("display_data", {}, metadata={"light": 1}), "cell-2: an output's metadata"),
    },
    problems_with_setup_cell: {
        "of one's own": (with_code(f"{SETUP}\n", place=1), "differs from the other notebooks'"),
        "shown": (with_metadata(1, tags=[]), "not tagged remove-cell"),
        "from a fork": (with_code(SETUP.replace(REPOSITORY, "https://example.org/fork"), 1), f"git+{REPOSITORY}"),
        "with dependencies": (with_code(SETUP.replace(" --no-deps", ""), 1), "without its dependencies"),
    },
    problems_with_execution: {
        "never run": (
            lambda notebook: notebook.cells[2].update(execution_count=None),
            "cell-2 was not run in its turn",
        ),
        "run twice": (lambda notebook: notebook.cells[3].update(execution_count=9), "cell-3 was not run in its turn"),
    },
    problems_with_missing_outputs: {
        "all outputs": (without_outputs(2, 3, 4), "no cell has an output"),
        "what is printed": (without_outputs(2), "cell-2 prints"),
        "what is drawn": (without_outputs(3), "cell-3 draws"),
    },
    problems_with_litter: {
        "error": (with_output("error", ename="ValueError"), "stops with an error: ValueError"),
        "stderr": (with_output("stream", name="stderr", text="Stand-in for MNIST"), "writes to stderr"),
        "warning": (with_print("UserWarning: lr_scheduler"), "a warning"),
        "warning in a result": (with_output("display_data", {"text/plain": "FutureWarning: soon"}), "a warning"),
        "traceback": (with_print("Traceback (most recent call last):\n  File"), "a traceback"),
        "value of a last line": (with_output("execute_result", {"text/plain": "History(loss=[2.3"}), "a call returned"),
        "line that was overwritten": (with_print("10 of 20\r20 of 20"), "a progress bar"),
        "progress bar": (with_print("epoch 1:  50%|██"), "a progress bar"),
        "speed of a progress bar": (with_print("[00:01, 300.00it/s]"), "a progress bar"),
        "colours of a terminal": (with_print("\x1b[31mred\x1b[0m"), "control characters"),
        "endless output": (with_print("a line\n" * 201), "more than 200 lines"),
    },
    problems_with_paths: {
        **{
            f"in the text, below {folder}": (
                with_text(f"Look into `/{folder}/figures`."),
                f"broken names a path of a machine: /{folder}",
            )
            for folder in ("home", "root", "tmp", "Users")
        },
        "in code": (with_code("place = '/Users/ada'"), "cell-2 names a path of a machine: /Users"),
        "in a result": (with_output("display_data", {"text/html": "<b>/Users/ada</b>"}), "/Users"),
        "in a drawing": (with_output("display_data", {"image/svg+xml": "<!-- /Users/ada -->"}), "/Users"),
        "of Windows": (with_print(r"saved to C:\Users\ada"), r"C:\Users"),
        "of a kernel": (with_print("ipykernel_71/2914.py:3"), "ipykernel_"),
    },
    problems_with_devices: {
        "graphics card": (with_code("net.to('cuda:0')"), "cell-2 names a device: cuda"),
        "processor": (with_code("net = net.cpu()"), "cell-2 names a device: cpu"),
        "in a comment": (with_code("x = 1  # on the CPU"), "cell-2 names a device: CPU"),
    },
    problems_with_length: {
        "one long cell": (with_code("x = 1\n" * 31), "cell-2 has 31 lines"),
        "all cells middling": (
            lambda notebook: [cell.update(source="x = 1\n" * 10) for cell in code_cells(notebook)],
            "the median code cell has 10",
        ),
    },
    problems_with_training: {
        "no assert": (with_code("print(runs)", place=6), "cell-5 trains, but no later cell asserts"),
        "assert too early": (
            lambda notebook: notebook.cells.append(
                new_code_cell("train_from(3)", id="late", metadata={"tags": ["nbval-ignore-output"]})
            ),
            "late trains, but no later cell asserts",
        ),
    },
    problems_with_markdown: {
        "directive": (with_text("```{note}\nMind this.\n```"), "{note} is a directive"),
        "directive of colons": (with_text(":::{note}\nMind this.\n:::"), "colon_fence"),
        "role": (with_text("See {ref}`here`."), "myst_role"),
        "target": (with_text("(a-label)=\n\nText."), "myst_target"),
        "comment": (with_text("% to do\n\nText."), "myst_line_comment"),
        "label of a formula": (with_text("$$x$$ (a-label)"), "math_block_label"),
        "substitution": (with_text("By {{ author }}."), "substitution"),
        "definition list": (with_text("term\n: its meaning"), "dl is neither"),
        "field list": (with_text(":name: its value"), "field_list"),
        "footnote": (with_text("Text.[^1]\n\n[^1]: Note."), "footnote_ref"),
        "footnote in another cell": (with_text("Text.[^1]"), "a footnote"),
        "front matter": (replacing("# A title", "---\na: 1\n---\n# A title"), "front_matter"),
        "strikethrough": (with_text("~~gone~~"), "s is neither"),
        "attributes": (with_text("[a](https://example.org){.button}"), "attributes in braces"),
        "wiki link": (with_text("See [[Cross-entropy]]."), "a wiki link"),
        "HTML block": (with_text("<div>\n\nText.\n\n</div>"), "HTML tag div"),
        "HTML image": (with_text('Look: <img src="x.png">'), "HTML tag img"),
        "box to tick": (with_text("- [ ] to do"), "HTML tag input"),
    },
    problems_with_folds: {
        "no end": (with_text("<details>\n<summary>Hint</summary>\n\nText."), "do not match"),
        "no beginning": (with_text("Text.\n\n</details>"), "do not match"),
        "end before the beginning": (
            with_text("</details>\n\n<details>\n<summary>Hint</summary>\n\nText."),
            "do not match",
        ),
        "no summary": (with_text("<details>\n\nText.\n\n</details>"), "not <details>, <summary>"),
        "no blank line": (with_text("<details>\n<summary>Hint</summary>\n*Raw*\n\n</details>"), "and a blank line"),
    },
    problems_with_headings: {
        "no title": (replacing("# A title\n\n", ""), "the first cell has no title"),
        "title too late": (lambda notebook: notebook.cells.reverse(), "the first cell has no title"),
        "second title": (with_text("# Another"), "more than one title"),
        "skipped level": (with_text("### Deep"), "'Deep' skips a level"),
    },
    problems_with_images: {
        "no alternative": (lambda notebook: notebook.cells[3].metadata.clear(), "cell-3: the image has no text"),
        "terse alternative": (with_metadata(3, mystnb={"image": {"alt": "A figure"}}), "'A figure'"),
        "heavy image": (with_output("display_data", {"image/png": HEAVY}, place=3), "150000 bytes"),
        "heavy drawing": (with_output("display_data", {"image/svg+xml": "x" * 150_000}, place=3), "150000 bytes"),
        "no alternative in the text": (with_text("![](neighbour.md)"), "no text alternative: ![](neighbour.md)"),
    },
    problems_with_explorers: {
        "none": (lambda notebook: notebook.cells.pop(4), "no figure has a slider"),
        "terse description": (
            with_output("execute_result", {"text/html": '<img class="still" alt="A curve">'}, place=4),
            "60 characters: 'A curve'",
        ),
    },
    problems_with_links: {
        "missing file": (with_text("[a](missing.ipynb)"), "missing.ipynb: there is no such file"),
        "missing heading": (with_text("[a](#missing)"), "#missing: there is no such heading"),
        "missing heading elsewhere": (with_text("[a](neighbour.md#b)"), "neighbour.md#b: there is no such heading"),
        "heading by its words": (with_text("[a](#References)"), "#References: there is no such heading"),
        "missing image": (with_text("![a curve](missing.png)"), "missing.png: there is no such file"),
        "image from elsewhere": (with_text("![a](https://example.org/a.png)"), "not in the repository"),
        "image within a cell": (with_text("![a](attachment:a.png)"), "not in the repository"),
        "no encryption": (with_text("[a](http://example.org)"), "http://example.org: not https"),
        "no encryption in code": (with_code("url = 'http://example.org'"), "cell-2: http:// where"),
        "no scheme": (with_text("[a](//example.org)"), "//example.org: not https"),
        "malformed DOI": (with_text("[a](https://doi.org/5.726791)"), "not of the form https://doi.org"),
        "old address of DOIs": (
            with_text("[a](https://dx.doi.org/10.1109/5.726791)"),
            "not of the form https://doi.org",
        ),
        "PDF from arXiv": (with_text("[a](https://arxiv.org/pdf/1412.6980)"), "not of the form https://arxiv.org"),
        "malformed arXiv number": (
            with_text("[a](https://arxiv.org/abs/14126980)"),
            "not of the form https://arxiv.org",
        ),
    },
    problems_with_prose: {
        "too few words": (replacing(WORDS, "word " * 500), "words, 600 are wanted"),
        "code and maths for words": (replacing(WORDS, "$a b$ `c d` " * 600), "words, 600 are wanted"),
    },
    problems_with_exercises: {
        "none": (replacing("## Exercises", "## Games"), "no section is called Exercises"),
        "three": (replacing(f"\n\n{EXERCISE.format(4)}", ""), "not numbered 1. to 4."),
        "five": (
            replacing(EXERCISE.format(4), f"{EXERCISE.format(4)}\n\n{EXERCISE.format(5)}"),
            "not numbered 1. to 4.",
        ),
        "no number": (replacing("### 2. An", "### An"), "not numbered 1. to 4."),
        "no level": (replacing("*Level 1 of 3, 5 minutes.*", ""), "does not begin with *Level"),
        "level 4": (replacing("Level 1 of 3", "Level 4 of 3"), "does not begin with *Level"),
        "no minutes": (replacing(", 5 minutes.", "."), "does not begin with *Level"),
        "no hint": (replacing("<summary>Hint 1", "<summary>Look"), "'1. An exercise' has no folded hint"),
        "no solution": (replacing("<summary>Answer", "<summary>Look"), "'1. An exercise' has no folded solution"),
        "solution in the open": (replacing("<details>\n<summary>Answer</summary>", "Answer"), "no folded solution"),
    },
    problems_with_references: {
        "none": (replacing("## References", "## More"), "is called References"),
        "two": (replacing("/abs/1412.6980", "/list/1412.6980"), "2 links to DOIs or arXiv"),
        "one of them twice": (
            replacing("arxiv.org/abs/1412.6980", "doi.org/10.1109/5.726791"),
            "2 links to DOIs or arXiv",
        ),
    },
}
CASES = {
    f"{check.__name__.removeprefix('problems_with_')}: {name}": (check, *case)
    for check, cases in BROKEN.items()
    for name, case in cases.items()
}


@pytest.fixture
def arguments(tmp_path):
    """What some checks want to know beside the notebook."""
    (tmp_path / "neighbour.md").write_text("# A neighbour\n\n## A part\n", encoding="utf-8")
    return {
        problems_with_explorers: [True],
        problems_with_links: [tmp_path],
        problems_with_setup_cell: [SETUP, REPOSITORY],
    }


@pytest.mark.parametrize("check", BROKEN, ids=lambda check: check.__name__)
def test_sound_miniature_passes_every_check(check, arguments):
    assert check(miniature(), *arguments.get(check, [])) == []


@pytest.mark.parametrize(("check", "break_it", "reason"), CASES.values(), ids=CASES.keys())
def test_broken_miniature_is_refused_for_the_right_reason(check, break_it, reason, arguments):
    notebook = miniature()
    break_it(notebook)
    problems = check(notebook, *arguments.get(check, []))
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["a.md", "b.ipynb"], "c is listed but"),
        (["a.md", "b.ipynb", "c.ipynb", "d.ipynb"], "d.ipynb is not listed"),
        (["a.md", "b.ipynb", "c.ipynb", "model.pt"], "model.pt is not listed"),
        (["a.md", "b.ipynb", "c.ipynb", "c.md"], "c is both"),
    ],
)
def test_files_that_do_not_match_the_table_of_contents_are_named(files, reason):
    toc = {"root": "a", "parts": [{"chapters": [{"file": "b", "sections": [{"file": "c"}]}]}]}
    assert problems_with_toc(toc, ["a.md", "b.ipynb", "c.ipynb"]) == []
    (problem,) = problems_with_toc(toc, files)
    assert reason in problem


def test_page_that_is_listed_twice_is_named():
    toc = {"root": "a", "chapters": [{"file": "b"}, {"file": "b"}]}
    assert problems_with_toc(toc, ["a.md", "b.md"]) == ["b is listed 2 times"]


def test_every_check_is_shown_to_fail():
    checks = {check for name, check in globals().items() if name.startswith("problems_with_")}
    assert checks == {*BROKEN, problems_with_toc}
