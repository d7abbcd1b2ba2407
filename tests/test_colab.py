"""On Colab: a notebook alone, Colab's own packages, and nothing of ours but what the notebook's first cell installs."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions, packages_distributions
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from notebooks import NOTEBOOKS, REPOSITORY, ROOT, code_cells, read, setup_cell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What we need of what Colab preinstalls, in the versions of June 2026. Colab publishes the list of its image as
# pip-freeze.gpu.txt in github.com/googlecolab/backend-info; what is added here must be in it.
COLAB_PYTHON = "3.12"
PREINSTALLED = {
    "altair": "5.5.0",
    "cycler": "0.12.1",
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
    "matplotlib": "3.10.0",
    "numpy": "2.0.2",
    "pillow": "11.3.0",
    "pip": "24.1.2",
    "pooch": "1.9.0",
    "requests": "2.32.4",
    "scikit-learn": "1.6.1",
    "scipy": "1.16.3",
    "setuptools": "75.2.0",
    "torch": "2.11.0",
    "tqdm": "4.67.3",
}
WHOLE = {"mnist/train"}  # run to its end; of every other notebook the first cell and the imports
CELL_TIMEOUT = 300  # seconds

# What could lead the other environment, or its git and pip, back to this one.
SETTINGS = re.compile("CONDA|COVERAGE|GIT_|IPYTHON|JUPYTER|MPL|PIP_|PYTEST|PYTHON|VIRTUAL_ENV|XDG_")
WITHOUT_GIT_SETTINGS = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


# What is imported


def imports(source: str) -> list[ast.Import | ast.ImportFrom]:
    """Every import of a piece of Python, those within functions too."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def modules(source: str) -> set[str]:
    """The top-level modules that a piece of Python imports."""
    names = set()
    for node in imports(source):
        names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module or ""}
    return {name.partition(".")[0] for name in names}


def missing_on_colab(sources: Iterable[str]) -> set[str]:
    """The modules that are imported but neither Python's nor ours nor preinstalled on Colab."""
    providers = packages_distributions()
    imported = set().union(*map(modules, sources)) - sys.stdlib_module_names - {"lib", "google"}
    return {name for name in imported if not PREINSTALLED.keys() & set(map(canonicalize_name, providers.get(name, ())))}


def python(notebook: NotebookNode) -> str:
    """A notebook's code, its magics written as Python."""
    return "\n".join(TransformerManager().transform_cell(cell.source) for cell in code_cells(notebook))


def test_all_that_lib_imports_is_preinstalled_on_colab():
    assert missing_on_colab(path.read_text(encoding="utf-8") for path in (ROOT / "lib").rglob("*.py")) == set()


@pytest.mark.parametrize("path", NOTEBOOKS.values(), ids=NOTEBOOKS.keys())
def test_all_that_a_notebook_imports_is_preinstalled_on_colab(path):
    assert missing_on_colab([python(read(path))]) == set()


def test_an_import_that_colab_lacks_is_noticed():
    assert missing_on_colab(["import numpy.linalg, nbval", "def f():\n    from hypothesis import given"]) == {
        "nbval",
        "hypothesis",
    }


def test_lib_asks_for_nothing_newer_than_what_colab_has():
    needed = [Requirement(f"python{PROJECT['requires-python']}"), *map(Requirement, PROJECT["dependencies"])]
    there = PREINSTALLED | {"python": COLAB_PYTHON}
    assert [str(package) for package in needed if not package.specifier.contains(there[package.name])] == []


# A machine like Colab's


def with_dependencies(names: Iterable[str]) -> dict[str, Distribution]:
    """The installed packages of these names and all that they need, by name."""
    found, wanted = {}, [*names]
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name not in found:
            found[name] = distribution(name)
            needed = map(Requirement, found[name].requires or ())
            wanted += [other.name for other in needed if not other.marker or other.marker.evaluate({"extra": ""})]
    return found


def link(package: Distribution, folder: Path) -> None:
    """Show a package of the running environment in another folder."""
    for name in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
        source, target = Path(package.locate_file(name)), folder / name
        if not target.exists():
            target.symlink_to(source)
        elif not target.samefile(source):
            raise FileExistsError(f"{package.name} brings {name}, which is there already")


def git(*arguments: str | Path) -> None:
    """Run git with no settings but ours."""
    subprocess.run(["git", *arguments], check=True, env={"PATH": os.environ["PATH"], **WITHOUT_GIT_SETTINGS})


class Colab:
    """A folder for a notebook, and a virtual environment with what Colab preinstalls and nothing of this course.

    The preinstalled packages are links to those of the running environment, so that nothing is downloaded. They lie in
    a folder of their own, out of pip's reach: whatever it installs goes to the environment's own folder, and is seen.
    """

    def __init__(self, folder: Path, repository: str):
        self.content = folder / "content"
        self.content.mkdir()
        environment = folder / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        self.python = environment / "bin" / "python"
        self.variables = {
            **{name: value for name, value in os.environ.items() if not SETTINGS.match(name)},
            **WITHOUT_GIT_SETTINGS,
            "HOME": str(folder),
            # What the notebook gets from the repository's address comes from the local one,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{repository}.insteadOf",
            "GIT_CONFIG_VALUE_0": REPOSITORY,
            # and pip has nowhere else to get anything from.
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # 0 turns isolation off (pip's issue 5735): setuptools is there already
        }
        self.site = Path(self.ask("-c", "import sysconfig; print(sysconfig.get_path('purelib'))"))
        self.preinstalled = folder / "preinstalled"
        (self.preinstalled / "google" / "colab").mkdir(parents=True)
        (self.preinstalled / "google" / "colab" / "__init__.py").touch()
        for package in with_dependencies(PREINSTALLED).values():
            link(package, self.preinstalled)
        (self.site / "preinstalled.pth").write_text(f"{self.preinstalled}\n", encoding="utf-8")
        kernel = folder / "kernels" / "colab"
        kernel.mkdir(parents=True)
        command = [str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Colab"}), encoding="utf-8")
        self.kernels = KernelSpecManager(kernel_dirs=[str(kernel.parent)])

    def ask(self, *arguments: str) -> str:
        """Run Python and return what it prints."""
        command = [self.python, *arguments]
        answer = subprocess.run(command, env=self.variables, cwd=self.content, check=True, stdout=subprocess.PIPE)
        return answer.stdout.decode().strip()

    def packages(self) -> dict[str, str]:
        """The versions of what is installed, as pip lists them."""
        listed = json.loads(self.ask("-m", "pip", "list", "--format=json"))
        return {canonicalize_name(package["name"]): package["version"] for package in listed}

    def installed(self) -> set[str]:
        """The names and versions of what was installed beside the preinstalled packages, or over them."""
        found = distributions(path=[str(self.site)])
        return {f"{package.name} {package.version}" for package in found}

    def run(self, notebook: NotebookNode) -> NotebookNode:
        """Run a notebook, the only file of its folder; a cell that fails raises."""
        nbformat.write(notebook, self.content / "notebook.ipynb")
        client = NotebookClient(
            notebook,
            km=AsyncKernelManager(kernel_name="colab", kernel_spec_manager=self.kernels),
            timeout=CELL_TIMEOUT,
            resources={"metadata": {"path": self.content}},
        )
        return client.execute(env=self.variables, cleanup_kc=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The address of a git repository that holds the working tree as it is, changes and new files included."""
    bare = tmp_path_factory.mktemp("repository") / "course.git"
    here = ["--git-dir", bare, "--work-tree", ROOT]
    git("init", "--quiet", "--bare", "--initial-branch", "main", bare)
    git(*here, "add", "--all")
    git(*here, "-c", "user.name=Test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "Now")
    return bare.as_uri()


@pytest.fixture
def colab(tmp_path, repository):
    """A fresh machine for each notebook."""
    return Colab(tmp_path, repository)


def without_work(notebook: NotebookNode) -> NotebookNode:
    """A notebook's first cell and, after it, all that the others import."""
    first = setup_cell(notebook)
    needed = [ast.unparse(node) for node in imports(python(notebook)) if "google" not in ast.unparse(node)]
    return new_notebook(cells=[first, new_code_cell("\n".join(needed))])


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_on_colab_and_installs_nothing_but_the_library(name, colab):
    notebook = read(NOTEBOOKS[name])
    if name not in WHOLE:
        notebook = without_work(notebook)
    notebook.cells.append(new_code_cell("import lib, torch\nlib.__file__, torch.__file__"))
    before = colab.packages()
    assert PROJECT["name"] not in before
    assert colab.installed() == set()

    library, torch = ast.literal_eval(colab.run(notebook).cells[-1].outputs[0].data["text/plain"])

    assert Path(library) == colab.site / "lib" / "__init__.py"
    assert Path(torch) == colab.preinstalled / "torch" / "__init__.py"
    assert colab.installed() == {f"{PROJECT['name']} {PROJECT['version']}"}
    assert colab.packages() == before | {PROJECT["name"]: PROJECT["version"]}


def test_every_notebook_that_is_to_run_whole_exists():
    assert NOTEBOOKS.keys() >= WHOLE
