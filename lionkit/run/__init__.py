"""A run: its settings, its folder of stages, and what is known of how it was made."""

from lionkit.run.folder import PROJECT, STAGES, Run, digest, open_run, runs_root, shown
