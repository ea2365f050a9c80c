"""Writes what lionkit/arms.json holds into the README, and its figure into docs/: `make figures`."""

import json
import re
import sys
from pathlib import Path

import matplotlib as mpl

from lionkit import arms, plots

ROOT = Path(__file__).resolve().parents[1]
RESULT = arms.RECORDED
BLOCK = re.compile(r"(<!-- arms -->\n).*?(<!-- /arms -->)", re.DOTALL)


def block() -> str:
    """The table and what it says, as Markdown."""
    facts, scores = json.loads(RESULT.read_text()), arms.read(RESULT)
    table = arms.table(scores)
    last = table["iteration"].max()
    first = table[table["iteration"] == 1].iloc[0]
    lines = [
        "| arm | relative score | exact match | less *random*: relative score (95 %) | became easy | lost |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in table[table["iteration"] == last].itertuples():
        versus = "" if row.arm == arms.RANDOM else f"{row.difference:+.1%} ({row.low:+.1%} to {row.high:+.1%})"
        scored = f"{row.relative_score:.1%} | {row.exact_match:.1%}"
        lines.append(f"| {row.arm} | {scored} | {versus} | {row.became_easy:.1f} | {row.lost:.1f} |")
    said = []
    for arm, base in ((arms.PAPER, arms.RANDOM), (arms.FRONTIER, arms.RANDOM), (arms.FRONTIER, arms.PAPER)):
        found = arms.difference(scores, arm, base, last)
        shown = "no difference is shown" if found.low <= 0 <= found.high else "a difference is shown"
        interval = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        said.append(f"*{arm}* less *{base}*: {100 * found.difference:+.1f} points ({interval}), {shown}.")
    seeds, heldout = scores["seed"].nunique(), scores["number"].nunique()
    told = (
        f"{seeds} training seeds, {heldout} held-out instructions each; all arms begin with the student of iteration 1 "
    )
    told += f"({first.relative_score:.1%} relative, {first.exact_match:.1%} exact).\n\n- "
    made = f"\n\nMade by `{facts['made by']}` in {facts['seconds'] / 60:.0f} minutes of stages on {facts['machine']}."
    return "\n".join([*lines, "", told + "\n- ".join(said) + made, ""])


def main() -> None:
    """Write README.md anew between its markers, and docs/arms.svg."""
    readme = ROOT / "README.md"
    written, times = BLOCK.subn(lambda found: found[1] + block() + found[2], readme.read_text())
    if times != 1:
        sys.exit("README.md has no place for the arms' table: <!-- arms --> ... <!-- /arms -->")
    readme.write_text(written)
    mpl.rcParams["svg.hashsalt"] = "lionkit"  # the same file every time
    figure = plots.arms(arms.table(arms.read(RESULT)), arms.RANDOM).figure
    figure.savefig(ROOT / "docs/arms.svg", metadata={"Date": None})
    print("README.md and docs/arms.svg say what lionkit/arms.json holds.", file=sys.stderr)


if __name__ == "__main__":
    main()
