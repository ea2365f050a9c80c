"""Run the ordered notebooks without a browser, with visible progress, and keep what they showed.

Each notebook runs in its own kernel, in order, on the run that the environment names; the executed copy and its
HTML page go to `<run>/notebooks/`. Progress lines and printed text of the running cell are shown as they
come. `clean` makes a copy fit to be committed: no timings, no warnings, no ids of this run.
"""

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from lionkit.errors import LionkitError
from lionkit.files import write_text
from lionkit.progress import LOG_SECONDS
from lionkit.run import PROJECT, shown

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def find() -> list[Path]:
    """The repository's notebooks in order: every `NN_name.ipynb`."""
    folder = PROJECT / "notebooks"
    found = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not found:
        raise LionkitError(f"no notebooks in {shown(folder)}: run this from a clone of the repository")
    return found


def execute(path: Path, out: Path, *, title: str = "") -> Path:
    """Run one notebook; its executed copy and HTML page go to `out`. A cell's error becomes a LionkitError.

    A cell may take as long as it needs: training does. The copy is `clean`, unless a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    started = time.monotonic()
    print(f"── {title or path.stem}", flush=True)
    # The kernel is this interpreter's own, whatever kernels the user has installed elsewhere.
    own = str(Path(sys.prefix, "share", "jupyter"))
    os.environ["JUPYTER_PATH"] = os.pathsep.join([own, os.environ.get("JUPYTER_PATH", "")])
    place = {"metadata": {"path": str(path.parent)}}
    client = _Relay(notebook, timeout=None, kernel_name="python3", store_widget_state=False, resources=place)
    client.extra_arguments = ["--log-level=ERROR"]  # otherwise each kernel warns that its loopback is not encrypted
    problem = ""
    try:
        client.execute()
    except CellExecutionError as error:
        problem = ANSI.sub("", f"{error.ename}: {error.evalue}").splitlines()[0]
    except (DeadKernelError, AssertionError):  # after Ctrl-C nbclient drops the kernel and then fails for want of it
        again = "interrupted; run it again to go on from here"
        problem = "the kernel died (out of memory?)" if client.km else again
    finally:
        client.end_line()
        write_text(out / path.name, nbformat.writes(notebook) + "\n")
    if problem:
        raise LionkitError(f"{path.name} stopped: {problem} (its outputs are in {shown(out / path.name)})")
    write_text(out / f"{path.stem}.html", to_html(notebook, path.stem))
    clean(notebook)
    write_text(out / path.name, nbformat.writes(notebook) + "\n")
    print(f"   {path.stem} done in {time.monotonic() - started:.0f} s", flush=True)
    return out / path.name


def to_html(notebook: Any, title: str) -> str:
    """The notebook as one page that needs no network and no other file than the other pages: plots are inside it,
    widgets are replaced by their text, links to code by its name."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(embed_images=True, exclude_input_prompt=True, exclude_output_prompt=True)
    exporter.mathjax_url = exporter.require_js_url = exporter.jquery_url = ""
    page = exporter.from_notebook_node(notebook, resources={"metadata": {"name": title}})[0]
    page = re.sub(r'<a href="[\w/]+\.py">(.*?)</a>', r"\1", page)
    return re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', page)  # from page to page


def clean(notebook: Any) -> None:
    """Make an executed notebook fit to be committed, in place: nothing that changes from run to run."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index:02d}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for number, output in enumerate(cell.outputs):
                for kind in output.get("data", {}).keys() & {"text/plain", "text/html"}:
                    text = re.sub(r" at 0x[0-9a-f]+", "", output["data"][kind])
                    output["data"][kind] = re.sub(r"\bT_[0-9a-f]{5}", f"T_{index:02d}{number}", text)  # pandas' ids


class _Relay(NotebookClient):
    """Shows what the running cell prints and its progress lines, and keeps no live widget; all else is nbclient's."""

    _shown_at = 0.0
    _open = False

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        kind, content = msg["msg_type"], msg["content"]
        data = content.get("data", {})
        if kind == "stream":
            self.end_line()
            print("".join(f"   {line}\n" for line in content["text"].splitlines() if line.strip()), end="", flush=True)
        elif kind.endswith("display_data") and data.keys() == {"text/plain"} and "\n" not in data["text/plain"]:
            self._progress(data["text/plain"])
        data.pop(WIDGET_MIME, None)  # a saved page has no kernel behind its widgets; their text stays
        return super().process_message(msg, cell, cell_index)

    def _progress(self, text: str) -> None:
        if sys.stdout.isatty():
            print(f"\r\x1b[K   {text[:110]}", end="", flush=True)
            self._open = True
        elif "[" not in text or time.monotonic() - self._shown_at >= LOG_SECONDS:
            self._shown_at = time.monotonic()
            print(f"   {text}", flush=True)

    def end_line(self) -> None:
        if self._open:
            print(flush=True)
            self._open = False
