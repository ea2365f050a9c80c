"""JupyterLab on a free local port with its own folders, and Chromium on it; both end with the module's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil
import pytest

import jupyter_lab

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
    folder = home / "work"
    folder.mkdir()
    server, token = jupyter_lab.start(home, folder)
    children: list[psutil.Process] = []
    try:
        url = jupyter_lab.address(server, home)
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
