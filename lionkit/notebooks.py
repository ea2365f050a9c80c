"""Run the ordered notebooks without a browser, with visible progress, and keep what they showed.

Each notebook runs in its own kernel, in order, on the run that the environment names; the executed copy and its
HTML page go to `<run>/notebooks/`. Progress lines and printed text of the running cell are shown as they
come. `clean` makes a copy fit to be committed: no timings, no warnings, no ids of this run. `serve` shows the hard
pool of a finished run to readers without code.
"""

import os
import re
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html, strip_ansi

from lionkit.errors import LionkitError
from lionkit.files import write_text
from lionkit.progress import LOG_SECONDS
from lionkit.run import PROJECT, Run, shown

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
TEMPLATES = Path(__file__).parent / "templates"
ONLY_HERE = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
"""What the page may load: nothing from another machine."""
OF_THIS_RUN = re.compile(r" at 0x[0-9a-f]+|(?<= data-lk=')\w+")
"""Addresses in memory, and explorers' keys."""


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
    _prefer(Path(sys.prefix, "share", "jupyter"))
    place = {"metadata": {"path": str(path.parent)}}
    client = _Relay(notebook, timeout=None, kernel_name="python3", store_widget_state=False, resources=place)
    client.extra_arguments = ["--log-level=ERROR"]  # otherwise each kernel warns that its loopback is not encrypted
    problem = ""
    try:
        client.execute()
    except CellExecutionError as error:
        problem = strip_ansi(f"{error.ename}: {error.evalue}").splitlines()[0]
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


def _prefer(*folders: Path) -> None:
    """Jupyter looks here first: the kernel is this interpreter's own, whatever kernels the user has elsewhere."""
    os.environ["JUPYTER_PATH"] = os.pathsep.join([*map(str, folders), os.environ.get("JUPYTER_PATH", "")])


def serve(run: Run, theme: str = "light") -> None:
    """Show notebook 07 of a finished run to browsers of this machine until Ctrl-C: no code, no exercises.

    The address that is printed holds a token; without it nothing is shown. The page may fetch nothing from elsewhere,
    whatever a model's words ask for. A cell that fails is one line there, and its reason stands in the terminal.
    """
    from traitlets.config import Config
    from voila.app import Voila

    if not run.done(run.config.iterations, "discrimination"):
        raise LionkitError(f"{shown(run.path)} is not finished, and the page shows a finished run: `make run` first")
    os.environ["LIONKIT_RUN"] = run.name
    _prefer(Path(sys.prefix, "share", "jupyter"), TEMPLATES)
    config = Config()
    config.Voila.tornado_settings = {"headers": {"Content-Security-Policy": ONLY_HERE}}
    config.VoilaConfiguration.prelaunch_hook = _without_exercises
    config.VoilaConfiguration.page_config_hook = _without_mathjax
    [path] = [path for path in find() if path.stem.startswith("07_")]
    given = [str(path), "--no-browser", "--token", "--Voila.ip=127.0.0.1", "--VoilaConfiguration.template=page"]
    told = "Why is said in the terminal where `make page` runs."
    given += [f"--VoilaConfiguration.theme={theme}", f"--VoilaExecutor.cell_error_instruction={told}"]
    Voila.launch_instance(given, config=config)


def _without_exercises(handler: Any, notebook: Any, cwd: str) -> None:
    last = next(number for number, cell in enumerate(notebook.cells) if "## Exercises" in cell.source)
    del notebook.cells[last:]


def _without_mathjax(page: dict[str, Any], **others: Any) -> dict[str, Any]:
    """An empty address in place of none: voila then sets no formulas, and dollars in other people's text stay."""
    return page | {"fullMathjaxUrl": ""}


class Page(NamedTuple):
    """A notebook as the contents name it; what its first cell does not say is empty."""

    name: str
    title: str
    question: str = ""
    time: str = ""


def pages() -> list[Page]:
    """The index, then every notebook in order, as its first cell has it."""
    listed = [Page("index", "All notebooks")]
    for path in find():
        first = nbformat.read(path, as_version=4).cells[0].source
        title = first.partition("\n")[0].strip("# ").partition(":")[0]
        question = re.search(r"^\*\*The question\.\*\*(.*?)(?:\n\n|\Z)", first, re.S | re.M)
        minutes = re.search(r"^\*(About [^·*]*)", first, re.M)
        said = (" ".join(found[1].split()) if found else "" for found in (question, minutes))
        listed.append(Page(path.stem, title, *said))
    return listed


def write_index(out: Path) -> Path:
    """The first page of the site that the notebooks' pages make: each with its question and its minutes."""
    rows = [f"- [{page.title}]({page.name}.html) · {page.time}\n\n  {page.question}" for page in pages()[1:]]
    cell = nbformat.v4.new_markdown_cell("# The notebooks, executed\n\n" + "\n".join(rows))
    write_text(out / "index.html", to_html(nbformat.v4.new_notebook(cells=[cell]), "index"))
    return out / "index.html"


def to_html(notebook: Any, name: str) -> str:
    """The notebook as one page of the site, by `templates/site`: contents beside it, the pages before and after below.

    It needs no network and no script: plots are inside it, widgets replaced by their text, links to code by its name.
    """
    words = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)<a class="anchor-link"', markdown2html(words))
    listed = pages()
    title = {page.name: page.title for page in listed}.get(name, name)
    look = {"embed_images": True, "exclude_input_prompt": True, "exclude_output_prompt": True}
    exporter = HTMLExporter(template_name="site", extra_template_basedirs=[str(TEMPLATES)], **look)
    told = {"metadata": {"name": title}, "name": name, "pages": listed, "headings": headings}
    page = exporter.from_notebook_node(notebook, resources=told)[0]
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
                data = output.get("data", {})
                if "image/png" in data:  # the page has it with an alt text; here once is enough
                    data.pop("text/html", None)
                for kind in data.keys() & {"text/plain", "text/html"}:
                    text = OF_THIS_RUN.sub("", data[kind])
                    data[kind] = re.sub(r"\bT_[0-9a-f]{5}", f"T_{index:02d}{number}", text)  # pandas' ids


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
