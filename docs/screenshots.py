"""Screenshots of every explorer on the demo's run, in both themes and two widths: python docs/screenshots.py [NAME ...]

Needs Chromium and playwright, starts a JupyterLab of its own and writes docs/explorers/NAME-THEME-WIDTH.png.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
import jupyter_lab  # noqa: E402  # shared with the browser's tests

OUT = ROOT / "docs" / "explorers"
BEFORE = "from lionkit import explore\nfrom lionkit.run import saved\nrun = saved('demo')"
CELLS = {
    "tau": "explore.tau_explorer(run)",
    "pool": "explore.pool_browser(run)",
    "changes": "explore.what_changed(run)",
    "map": "explore.pool_map(run)",
    "lineage": "explore.lineage(run)",
    "panel": "explore.run_panel(run)",
}
"""What is shown, and the cell that shows it."""
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
WIDTHS = (1400, 700)


def take(page: Page, address: str, names: list[str]) -> None:
    """Run the cells once, then show each explorer in every theme and width."""
    page.goto(address)
    page.get_by_text("(ipykernel) | Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.keyboard.press("Control+b")
    for cell in range(1, len(names) + 1):
        page.locator(".jp-Cell").nth(cell).evaluate("cell => cell.scrollIntoView()")
        page.locator(".jp-Cell").nth(cell).locator(".lk.live").wait_for()
    for theme, title in THEMES.items():
        page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", title)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 1600})
            page.wait_for_timeout(800)
            for cell, name in enumerate(names, start=1):
                output = page.locator(".jp-Cell").nth(cell).locator(".lk.live")
                page.locator(".jp-Cell").nth(cell).evaluate("cell => cell.scrollIntoView()")
                page.wait_for_timeout(400)
                output.screenshot(path=OUT / f"{name}-{theme}-{width}.png")


def main(names: list[str]) -> None:
    OUT.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or sys.exit("chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        shutil.copytree(ROOT / "runs" / "demo", home / "runs" / "demo")
        cells = [nbformat.v4.new_code_cell(text) for text in (BEFORE, *(CELLS[name] for name in names))]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, home / "explorers.ipynb")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTHS[0], "height": 1600})
        page.set_default_timeout(90_000)
        page.on("console", lambda message: print(message.text) if message.type == "error" else None)
        variables = {"LIONKIT_RUNS": str(home / "runs"), "LIONKIT_MODE": "offline"}
        server, token = jupyter_lab.start(home, home, "--LabApp.expose_app_in_browser=True", **variables)
        try:
            take(page, f"{jupyter_lab.address(server, home)}lab/tree/explorers.ipynb?token={token}", names)
        finally:
            browser.close()
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CELLS))
