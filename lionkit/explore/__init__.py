"""Exploring a cache pool after discrimination: widgets, and what stands beside them on a page without a kernel.

`widgets` moves τ and browses hard and easy; `static` shows the same records as escaped HTML and plain text.
"""

from lionkit.explore.static import show_instruction, static_pool
from lionkit.explore.widgets import browse_rows, pool_browser, tau_explorer
