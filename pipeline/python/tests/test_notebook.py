"""The notebook runs from its first cell to its last one, and its clusters are the shapes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import tessera

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "notebook.ipynb"


@pytest.mark.skipif(not NOTEBOOK.exists(), reason="the notebook is not beside this package")
def test_the_notebook_runs(made: tessera.Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("TESSERA", str(made._found))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(tessera.__file__).parents[1]) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert len(notebook.cells) == 10
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without its outputs"
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = "\n".join(str(output.get("text", "") or output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "120 pictures" in texts and "(120, " in texts and "assigned: done, 120 rows" in texts
    [purity] = [float(line.split()[-1]) for line in texts.splitlines() if line.startswith("0 ") and len(line.split()) == 3]
    assert purity > 0.9
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    shutil.rmtree(tmp_path, ignore_errors=True)
