"""Runs the notebook and writes into it what its cells give.

python experiments/run_notebook.py
"""

import pathlib
from typing import Any

import nbclient
import nbformat

from momentum_jax._base.files import write_atomically

NOTEBOOK = pathlib.Path(__file__).with_name("momentum_in_ten_minutes.ipynb")


def main() -> None:
    write_atomically(NOTEBOOK, f"{nbformat.writes(execute(read()), indent=1)}\n".encode())


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def execute(notebook: Any) -> Any:
    """The notebook with the outputs of a new kernel, without what belongs to a moment or a machine: times, progress.

    Raises:
      CellExecutionError: a cell raised.
      RuntimeError: a cell warned.
    """
    metadata = dict(notebook.metadata)
    notebook = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute()
    notebook.metadata = metadata
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if is_kept(output)]
    return notebook


def is_kept(output: Any) -> bool:
    """Whether an output is printed, the value of a cell, or a figure.

    Raises:
      RuntimeError: it is a warning.
    """
    if output.get("name") == "stderr" and "Warning" in output.text:
        raise RuntimeError(output.text)
    figure = "image/png" in output.get("data", ())
    return bool(figure or output.get("name") == "stdout" or output.output_type == "execute_result")


if __name__ == "__main__":
    main()
