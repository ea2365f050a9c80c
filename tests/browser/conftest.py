"""JupyterLab on a free local port with its own folders, and Chromium on it; both end with the module's tests."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120
CHROMIUM = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab: its address (ending in a slash), its token and the folder it serves."""

    url: str
    token: str
    folder: Path


@pytest.fixture(scope="module")
def chromium_path() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    return path


@pytest.fixture(scope="module")
def lab(chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Run by the interpreter that runs the tests, which is also the kernel's. Fails if anything stays behind."""
    home = tmp_path_factory.mktemp("lab")
    folder, token = home / "work", secrets.token_hex(16)
    folder.mkdir()
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with open(home / "log.txt", "w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--LabApp.news_url=",
                "--ServerApp.port=0",
            ]
            + ["--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"],
            env=_environment(home),
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    children: list[psutil.Process] = []
    try:
        url = _wait_for_server(server, home)
        yield Lab(url, token, folder)
        children = psutil.Process(server.pid).children(recursive=True)
    finally:
        server.terminate()
        try:
            server.wait(30)
        finally:
            _, alive = psutil.wait_procs(
                [*children, *([] if server.poll() is not None else [psutil.Process(server.pid)])], 10
            )
            for process in alive:
                process.kill()
    assert not alive, f"left running by JupyterLab: {alive}"
    with pytest.raises(URLError):
        urlopen(url, timeout=2)


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


def _wait_for_server(server: subprocess.Popen[bytes], home: Path) -> str:
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
    pytest.fail(f"JupyterLab did not start:\n{(home / 'log.txt').read_text()[-3000:]}")


@dataclass
class Visit:
    """One browser page and what it did that a test wants to know of."""

    page: Any
    foreign: list[str] = field(default_factory=list)
    """Addresses asked for outside this machine."""
    dialogs: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def visit(lab: Lab, chromium_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    """A page of 1280 x 1000 in a fresh profile."""
    from playwright.sync_api import sync_playwright

    home = tmp_path_factory.mktemp("chromium")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TMPDIR", "HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(home))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium_path, args=[*CHROMIUM.split(), "--no-first-run", "--disable-quic"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            page.set_default_timeout(60_000)
            seen = Visit(page)
            page.on(
                "request",
                lambda r: (
                    None if r.url.startswith((lab.url, "data:", "blob:", "ws://127")) else seen.foreign.append(r.url)
                ),
            )
            page.on("dialog", lambda d: (seen.dialogs.append(d.message), d.dismiss()))
            yield seen
            browser.close()
    left = [p.name() for p in psutil.Process().children(recursive=True) if "chrom" in p.name() or "node" in p.name()]
    assert not left, f"left running by the browser: {left}"
