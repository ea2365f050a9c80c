"""A JupyterLab of one's own on a free local port: for the browser's tests, and for docs/screenshots.py."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 120


def start(home: Path, folder: Path, *options: str, **variables: str) -> tuple[subprocess.Popen[bytes], str]:
    """The server, which serves `folder` and keeps all else of its own in `home`, and its token.

    Run by this interpreter, which is the kernel's too, with `variables` and no setting or key of the shell.
    """
    token = secrets.token_hex(16)
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--LabApp.news_url=", *options]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"]
    with open(home / "log.txt", "w") as log:
        environment = _environment(home) | variables
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log), token


def address(server: subprocess.Popen[bytes], home: Path) -> str:
    """Where the server answers, as soon as it does; the address ends in a slash."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        for file in (home / "runtime").glob("jpserver-*.json"):
            try:
                info = json.loads(file.read_text())
                urlopen(f"{info['url']}api", timeout=5).close()
                return info["url"]
            except (ValueError, OSError):
                pass
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{(home / 'log.txt').read_text()[-3000:]}")


def _environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LIONKIT_", "JUPYTER", "IPYTHON"))}
    folders = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own = {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "TMPDIR": str(home),
        "MPLCONFIGDIR": str(home / "mpl"),
    }
    return kept | folders | own | {"PYTHONPATH": str(ROOT)}
