"""Exploring a run: pages to work in where a kernel answers, and to read where none does.

`tau` moves τ, `pool` browses hard and easy, `changes` compares two students, `map` with `neighbourhoods` shows what
kind is hard, `lineage` what came from what, `panel` runs a run. `front` with `explorer.js` is what all share; `source`
reads what is looked at, `card` shows one instruction, `words` marks differences and hits, `static` makes other
people's text inert.
"""

from lionkit.explore.card import show_instruction
from lionkit.explore.changes import what_changed
from lionkit.explore.lineage import lineage
from lionkit.explore.map import pool_map
from lionkit.explore.panel import run_panel
from lionkit.explore.pool import pool_browser
from lionkit.explore.tau import tau_explorer
