"""Figures bring an alt text into notebooks and pages; other figures are as they were."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import nbformat
import pandas as pd

mpl.use("Agg")

from IPython.core.formatters import DisplayFormatter
from matplotlib import pyplot as plt

from lionkit import notebooks, plots

TABLE = pd.DataFrame({"iteration": [0, 1], "hard": [4, 5], "easy": [0, 7], "undecided": [0, 0]})


def test_the_alt_text_says_title_axes_and_numbers() -> None:
    _, axes = plt.subplots(1, 2)
    plots.pool_sides(TABLE, axes[0])
    plots.relative_by_category(
        pd.DataFrame({"category": ['<a "b"> $x$'], "teacher": [8.0], "student": [4.0], "gap": [4.0]}), axes[1]
    )
    data, metadata = DisplayFormatter().format(axes[0].figure)
    plt.close("all")
    alt = data["text/plain"]
    assert alt.startswith(
        "Cache pool. across: iteration (0 = before training), up: instructions. "
        "hard: 0 4, 1 5. easy: 0 0, 1 7. undecided: 0 0, 1 0. Relative score by category. 1 pairs, 0 undecided"
    )
    assert '<a "b"> $x$ (1) 50' in alt
    assert metadata["image/png"] == {"alt": alt}
    assert "&lt;a &quot;b&quot;&gt; $x$ (1) 50" in data["text/html"]


def test_figures_of_others_are_not_touched() -> None:
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    data, metadata = DisplayFormatter().format(figure)
    plt.close(figure)
    assert metadata == {}
    assert data.keys() == {"text/plain"}


def test_a_notebook_and_its_page_carry_the_alt_text(tmp_path: Path) -> None:
    cells = [
        "from lionkit import plots\nplots.loss([3.0, 2.0, 1.0]);",
        "import matplotlib.pyplot as plt\nplt.plot([1]);",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    (tmp_path / "00_a.ipynb").write_text(nbformat.writes(notebook))
    written = notebooks.execute(tmp_path / "00_a.ipynb", tmp_path / "out")
    alt = "Training loss. across: optimizer step, up: loss, nats per supervised token. training: from 3 to 1."
    ours, others = (cell["outputs"][-1] for cell in json.loads(written.read_text())["cells"])
    assert f'alt="{alt}"' in written.with_suffix(".html").read_text()
    assert ours["data"].keys() == {"image/png", "text/plain"}  # a preview has no use for the picture twice
    assert ours["metadata"] == {"image/png": {"alt": alt}}  # and no white card behind it in a dark notebook
    assert "alt" not in str(others["metadata"])
