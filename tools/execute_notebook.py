"""Run notebooks from top to bottom and save them with their outputs, ready to commit: `make execute NOTEBOOK=...`."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT = ("tags", "mystnb")  # the cell metadata that mean something here


def execute(path: Path) -> None:
    """Run a notebook in its own folder and save it, unless a cell fails or writes to stderr.

    What writes to stderr is a warning or the word that the real data are missing: neither may be committed.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": path.parent}}
    )
    client.execute()
    notebook.metadata = METADATA
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise SystemExit(f"{path} is not saved, as a cell wrote to stderr:\n{cell.source}\n\n{output.text}")
            if "metadata" in output:
                output.metadata = {}
    nbformat.write(notebook, path)
    print(f"{path} is executed and saved")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("which notebook? make execute NOTEBOOK=chapters/mnist/train.ipynb")
    for name in sys.argv[1:]:
        execute(Path(name))
