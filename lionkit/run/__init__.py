"""A run: made once, steered, branched and compared.

`settings` says which stage reads which setting, `stages` what each is made from, `folder` makes and records them;
`opening` opens a run, `branch` changes or forks it, `reading` reads what is in it, `compare` holds runs against each
other; `marks` keeps what readers say of instructions; `remedies` words what to do about a refusal, `provenance` says
where numbers come from.
"""

from lionkit.run.branch import change, fork
from lionkit.run.folder import Run
from lionkit.run.opening import open_run, saved
from lionkit.run.provenance import PROJECT, digest, runs_root, shown
from lionkit.run.stages import NOTEBOOKS, Place, Stage

Run.change = change  # type: ignore[attr-defined]  # `run.change(...)` and `run.fork(...)`, which build on Run itself
Run.fork = fork  # type: ignore[attr-defined]
