"""A panel to run a run from: what it would take as settings move, start and stop, and what it is at.

The run is a process of its own (`python -m lionkit run`), so the kernel stays free and its memory is the run's own.
Stopping is Ctrl-C: what was paid for is kept, and starting again goes on. The panel only reads the run's folder, so
it shows runs that were started elsewhere too, and finds its own again after a restart of the kernel.
"""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from html import escape
from typing import Any

import psutil

from lionkit import files, plan
from lionkit.client import ChatClient, total
from lionkit.config import Config
from lionkit.explore import front
from lionkit.explore.front import Act, Explorer, Regions
from lionkit.explore.static import one_line
from lionkit.explore.words import block
from lionkit.progress import LOG_SECONDS
from lionkit.run import Run, saved
from lionkit.run.settings import apply, value
from lionkit.run.stages import order

SETTINGS = ("iterations", "hard_size", "easy_size", "tau", "api.concurrency", "api.budget_usd",
            "student.epochs", "student.rank", "student.device_rows", "student.max_length")  # fmt: skip
"""What the plan offers to move."""
LINES = 6
"""Lines of the process's output that are shown."""


def run_panel(run: Run) -> Explorer:
    """Start, watch and stop a run, and see what other settings would take. Nothing is begun until it is asked for."""
    return _Panel(run).explorer


class _Panel:
    """The panel of one run."""

    def __init__(self, run: Run) -> None:
        self.name, self.log, self.note = run.name, run.path / "panel.log", run.path / ".panel.json"
        self.tried: dict[str, Any] = {}
        events: dict[str, Act] = {name: partial(self.try_out, name) for name in SETTINGS}
        events |= {"start": self.start, "stop": self.stop, "look": self.look, "take": self.take, "room": self.memory}
        self.live = False
        summary = f"{run.name}: {len(run.finished())} of {len(order(run.config.iterations))} stages done"
        regions = {**self.state(), "controls": self.controls(), "plan": self.planned(run.config), "memory": ""}
        self.explorer = Explorer("run panel", regions, events, summary)

    @property
    def run(self) -> Run:
        return saved(self.name)

    def process(self) -> psutil.Process | None:
        """The process that a panel started and that is still at work."""
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
            process = psutil.Process(noted["pid"])
            alive = process.create_time() == noted["since"] and process.status() != psutil.STATUS_ZOMBIE
            return process if alive else None
        except (FileNotFoundError, psutil.Error, ValueError, KeyError):
            return None

    def start(self, _: Any) -> Regions:
        if self.process() is None:
            run = self.run
            command = [sys.executable, "-u", "-m", "lionkit", "run", "--run", run.name]  # -u: shown as it is said
            environment = os.environ | {"LIONKIT_RUNS": str(run.path.parent), "LIONKIT_MODE": run.config.mode}
            with open(self.log, "wb") as log:
                how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
                child = psutil.Popen(command, env=environment, start_new_session=True, **how)
            files.write_text(self.note, json.dumps({"pid": child.pid, "since": child.create_time()}))
        return self.state()

    def stop(self, _: Any) -> Regions:
        process = self.process()
        if process is not None:
            process.send_signal(signal.SIGINT)
        return self.state()

    def look(self, _: Any) -> Regions:
        """What changed since the last look, once a second as long as the page is there."""
        self.live = True
        return {name: html for name, html in self.state().items() if html != self.explorer.regions.get(name)}

    def state(self) -> Regions:
        run, process = self.run, self.process()
        finished, noted = run.finished(), run.stages  # read once: a look is taken every second
        last = max([run.config.iterations, *(place.iteration for place in finished)])
        rows = ""
        for iteration in range(last + 1):
            cells = ""
            for place in (place for place in order(last) if place.iteration == iteration):
                stage = noted.get(place.path, {})
                timed = self.live and place in finished and "seconds" in stage  # a saved page is the same each time
                seconds = f" <small>{stage['seconds']:.0f} s</small>" if timed else ""
                cells += f"<td>{'✓' if place in finished else '…'} {place.stage}{seconds}</td>"
            rows += f"<tr><th>iteration {iteration}</th>{cells}</tr>"
        working = "<b>At work</b> in a process of its own." if process else "Not at work." if finished else "Not begun."
        buttons = front.button("stop", "Stop") if process else front.button("start", "Go on" if finished else "Start")
        head = f"<div data-every='look'>{escape(run.name)}: {working}</div><div class='controls'>{buttons}</div>"
        stages = f"{head}<table>{rows}</table>"
        return {"state": stages, "cost": self.cost(run), "loss": self.loss(run), "output": self.output()}

    def cost(self, run: Run) -> str:
        if not run.store.is_file():
            return "<small>Nothing was asked yet.</small>"
        bills = ChatClient(run.config.api, run.store, replay=True).bills()
        spent, budget = total([bill.actual for bill in bills]), run.config.api.budget_usd
        limit = f" of a budget of ${budget:,.2f}" if budget else ""
        return f"<div>Asked so far: {escape(str(spent).removesuffix(' (paid)'))}{limit}.</div>"

    def loss(self, run: Run) -> str:
        """The training loss of the last imitation, as a line."""
        done = run.iterations("imitation")
        if not done:
            return ""
        losses = json.loads(files.read_text(run.folder(done[-1], "imitation") / "losses.json"))
        if len(losses) < 2:
            return ""
        top = max(losses)
        across = 600 / (len(losses) - 1)
        points = " ".join(f"{across * n:.1f},{80 - 76 * each / top:.1f}" for n, each in enumerate(losses))
        change = f"from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps"
        label = f"loss of imitation of iteration {done[-1]}: {change}"
        line = f"<polyline points='{points}' fill='none' stroke='currentColor'/>"
        return f"<h4>{label}</h4><svg role='img' aria-label='{label}' viewBox='0 0 600 84'>{line}</svg>"

    def output(self) -> str:
        if not self.log.is_file():
            return ""
        lines = [one_line(line, 300) for line in files.read_text(self.log).splitlines()[-LINES:]]
        return f"<h4>Its last lines (progress every {LOG_SECONDS:.0f} s)</h4>{block(chr(10).join(lines))}"

    def controls(self) -> str:
        """A field for each setting of the plan."""
        config, fields = self.run.config, ""
        for name in SETTINGS:
            now, label = value(config, name), name.rpartition(".")[2].replace("_", " ")
            fields += front.field(name, label, "" if now is None else str(now), "number")
        return f"{fields}{front.button('take', 'Keep these settings')}{front.button('room', 'Plan the memory')}"

    def try_out(self, name: str, text: Any) -> Regions:
        """Plan with another value of a setting; one that cannot be is not kept."""
        number = float(text) if str(text).strip() else None
        if number is not None and number.is_integer():
            number = int(number)
        tried = self.tried | {name: number}
        shown = {"plan": self.planned(apply(self.run.config, tried))}
        self.tried = tried
        return shown

    def planned(self, config: Config) -> str:
        """Calls, tokens and dollars to come with these settings."""
        table = plan.calls(config, self.run.done)
        table["dollars"] = ["no price" if price != price else f"{price:,.2f}" for price in table["dollars"]]
        return f"<h4>Calls to come</h4>{table.to_html(index=False, border=0)}"

    def memory(self, _: Any) -> Regions:
        """The student's memory, part by part: a model is built without storage for it, so it takes a second."""
        config = apply(self.run.config, self.tried)
        table = plan.memory(config.student.model, config)[["part", "GiB"]].to_html(index=False, border=0)
        return {"memory": f"<h4>Memory to train on {plan.here()}</h4>{table}"}

    def take(self, _: Any) -> Regions:
        self.run.change(**self.tried)  # type: ignore[attr-defined]
        self.tried = {}
        return {"controls": self.controls(), "plan": self.planned(self.run.config), **self.state()}
