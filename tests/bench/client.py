"""Measurements of the teacher client against the test server under uvicorn, in a process of its own. Run by hand:

    python tests/bench/client.py [faults] [kills] [speed] [cached] [pace] [budget] [--distilabel PYTHON]

Without names, all of them (about ten minutes). `--distilabel` names an interpreter that has distilabel[openai]; it is
kept apart because its pins differ. Each prints one line a figure, with the limit it is held to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai

from lionkit.client import ChatClient, ChatRequest, Usage
from lionkit.client.calls import bound
from lionkit.config import ApiConfig
from lionkit.errors import StageStopped
from lionkit.sandbox.app import TRANSIENT

SERVER = """
import json, sys
sys.path.insert(0, sys.argv[2])
from lionkit.sandbox.app import Faults
from server import create_app, serve
options = json.loads(sys.argv[1])
if "faults" in options:
    options["faults"] = Faults(**options["faults"])
reply = options.pop("reply", "")
with serve(create_app(lambda messages, **_: reply or messages[-1]["content"][::-1], **options)) as url:
    print(url, flush=True)
    sys.stdin.read()
"""

STAGE = """
import sys
from lionkit import records, teacher
from lionkit.client import ChatClient
from lionkit.config import ApiConfig
url, store, rows, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
asked = [records.Instruction(f"call {n}") for n in range(rows)]
client = ChatClient(ApiConfig(base_url=url, model="m", concurrency=64), store)
answers = teacher.respond(client, asked, temperature=0.7, max_tokens=50)
records.write_jsonl(out, answers)
"""

DISTILABEL = """
import sys, time
from distilabel.models import OpenAILLM
llm = OpenAILLM(model="m", base_url=sys.argv[1], api_key="x", generation_kwargs={"max_new_tokens": 50})
llm.load()
inputs = [[{"role": "user", "content": f"call {i}"}] for i in range(1000)]
llm.generate_outputs(inputs=inputs[:1])
started = time.perf_counter()
for start in range(0, 1000, 50):
    llm.generate_outputs(inputs=inputs[start : start + 50])
print("batches of 50", time.perf_counter() - started)
started = time.perf_counter()
llm.generate_outputs(inputs=inputs)
print("one batch", time.perf_counter() - started)
"""


def ask(count: int, words: int = 0) -> list[ChatRequest]:
    filler = " word" * words
    return [ChatRequest([{"role": "user", "content": f"call {i}{filler}"}], max_tokens=50) for i in range(count)]


@contextlib.contextmanager
def server(**options: Any) -> Iterator[str]:
    command = [sys.executable, "-c", SERVER, json.dumps(options), str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


def accounts(url: str) -> dict[str, Any]:
    return httpx2.get(url.removesuffix("v1") + "accounts", timeout=60).json()


def say(name: str, figure: str, limit: str = "") -> None:
    print(f"{name:<46} {figure:<34} {limit}", flush=True)


def measure_faults(folder: Path) -> None:
    rows = 10_000
    with server(faults={"rate": 0.2, "slow": 0.3, "retry_after": 0.05}) as url:
        client = ChatClient(ApiConfig(base_url=url, model="m", concurrency=64, max_attempts=12), folder / "f.sqlite")
        started = time.perf_counter()
        out = client.map(ask(rows), progress="faults")
        took, books = time.perf_counter() - started, accounts(url)
    right = sum(c.text == r.messages[0]["content"][::-1] for c, r in zip(out, ask(rows)))
    say("20 % faults of 7 kinds: rows, right texts", f"{len(out):,}, {right:,}", f"{rows:,}, {rows:,}")
    say(
        "  answered by the server, most for one row",
        f"{books['answered']:,}, {max(books['answers'].values())}",
        "= rows, 1",
    )
    say("  requests sent, seconds", f"{books['requests']:,}, {took:.0f}")
    say("  faults met", " ".join(f"{kind}:{books['faults'][kind]}" for kind in TRANSIENT))


def measure_kills(folder: Path) -> None:
    rows, kills, path, rng = 2000, 50, folder / "k.sqlite", random.Random(0)
    lost, alive = [0], 0
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def stage(store: Path, out: str) -> list[str]:
        return [sys.executable, "-c", STAGE, url, str(store), str(rows), str(folder / out)]

    with server(latency=0.2) as url:
        for _ in range(kills):
            answered, process = accounts(url)["answered"], subprocess.Popen(stage(path, "killed.jsonl"), **quiet)
            while accounts(url)["answered"] == answered and process.poll() is None:
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.3))
            alive += process.poll() is None
            process.kill()
            process.wait()
            time.sleep(0.3)  # until the server has answered what was in flight
            with contextlib.closing(sqlite3.connect(path)) as db:
                stored = db.execute("SELECT COUNT(*) FROM calls").fetchone()[0]
            lost.append(accounts(url)["answered"] - stored)
        subprocess.run(stage(path, "killed.jsonl"), check=True, **quiet)
        books = accounts(url)
        subprocess.run(stage(folder / "k2.sqlite", "whole.jsonl"), check=True, **quiet)
    each = [after - before for before, after in zip(lost, lost[1:])]
    same = (folder / "killed.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    say(f"kill -9, {alive} times in {rows:,} calls: lost", f"{max(each)} at most, {sum(each)} in all", "<= 64 a kill")
    say("  answered by the server in all", f"{books['answered']:,}", f"= {rows} + lost")
    say("  stored before the last resume", f"{stored:,}")
    say("  file byte-identical to an undisturbed run's", str(same), "True")


async def bare(url: str, count: int, concurrency: int) -> float:
    """The loop everyone writes first: gather behind a semaphore, nothing kept."""
    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    http = openai.DefaultAsyncHttpx2Client(limits=limits)
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0, http_client=http) as client:
        seats = asyncio.Semaphore(concurrency)

        async def one(request: ChatRequest) -> str:
            async with seats:
                messages: Any = request.messages
                reply = await client.chat.completions.create(model="m", messages=messages, max_tokens=50)
                return reply.choices[0].message.content or ""

        started = time.perf_counter()
        await asyncio.gather(*(one(request) for request in ask(count)))
        return time.perf_counter() - started


def measure_speed(folder: Path, distilabel: str | None) -> None:
    ideal, theirs, ours = 3.125, [], []
    with server(latency=0.2) as url:
        for number in range(3):  # in turns, so that a busy machine disturbs both
            theirs.append(asyncio.run(bare(url, 1000, 64)))
            client = ChatClient(ApiConfig(base_url=url, model="m", concurrency=64), folder / f"s{number}.sqlite")
            started = time.perf_counter()
            client.map(ask(1000), progress=False)
            ours.append(time.perf_counter() - started)
        say("1,000 calls, 64 at once, 0.2 s: bare gather", " ".join(f"{t:.2f}" for t in theirs) + " s")
        say("  this client, store and head start of one call", " ".join(f"{t:.2f}" for t in ours) + " s")
        say("  ratio of the best", f"{min(ours) / min(theirs):.3f}", "<= 1.05")
        say("  to the ideal of 3.125 s", f"{min(ours) / ideal:.3f} (bare: {min(theirs) / ideal:.3f})")
        if distilabel is None:
            say("  distilabel", "not measured (--distilabel PYTHON)")
            return
        done = subprocess.run([distilabel, "-c", DISTILABEL, url], capture_output=True, text=True)
        for line in done.stdout.splitlines()[-2:] or [done.stderr[-200:]]:
            how, _, seconds = line.rpartition(" ")
            say(
                f"  distilabel OpenAILLM, {how}",
                f"{float(seconds):.2f} s, {float(seconds) / min(ours):.2f} x",
                ">= 1.5 x",
            )


def measure_cached(folder: Path) -> None:
    with server() as url:
        client = ChatClient(ApiConfig(base_url=url, model="m", concurrency=64), folder / "c.sqlite")
        requests = ask(50_000, words=60)
        started = time.perf_counter()
        client.map(requests, progress="filling the store")
        filled = time.perf_counter() - started
        started = time.perf_counter()
        out = client.map(requests)
        took = time.perf_counter() - started
    assert all(c.cached for c in out)
    size = (folder / "c.sqlite").stat().st_size / 1e6
    say("50,000 calls of 0.3 kB without latency", f"{filled:.0f} s, {50_000 / filled:.0f}/s, {size:.0f} MB")
    say("  fully cached rerun", f"{took:.2f} s, {took / 50_000 * 1e3:.4f} ms a call", "<= 0.1 ms")


def measure_pace(folder: Path) -> None:
    for told in (False, True):
        with server(requests_per_minute=600, rate_headers=told) as url:
            rpm = None if told else 600
            config = ApiConfig(base_url=url, model="m", concurrency=64, requests_per_minute=rpm)
            started = time.perf_counter()
            ChatClient(config, folder / f"p{told}.sqlite").map(ask(600), progress=False)
            took, books = time.perf_counter() - started, accounts(url)
        share, refused = 600 / took * 60 / 600, books["requests"] - 600
        say(f"600 a minute, {'told by headers' if told else 'configured'}: of the limit", f"{share:.1%}", ">= 95 %")
        say("  requests that met a 429", f"{refused} ({refused / books['requests']:.2%})", "< 1 %")


def measure_budget(folder: Path) -> None:
    price = (15.0, 60.0)
    for fault in (0.0, 0.2):
        faults = {"rate": fault, "kinds": ["null", "500", "429", "drop", "malformed", "slow"], "slow": 0.2}
        with server(latency=0.05, reply="word " * 30, faults=faults) as url:
            config = ApiConfig(
                **{"base_url": url, "model": "m", "concurrency": 64, "max_attempts": 10},
                **{"budget_usd": 1.0, "price_per_million": price},
            )
            client = ChatClient(config, folder / f"b{fault}.sqlite")
            with contextlib.suppress(StageStopped):
                client.map(ask(1000, words=20), progress=False)
            books = accounts(url)
        billed = Usage(books["prompt_tokens"], books["completion_tokens"]).dollars(price)
        entered, most = client.spent().dollars(price), bound(ask(1, words=20)[0]).dollars(price)
        say(
            f"$1.00, 64 in flight, {fault:.0%} faults: server's bill",
            f"${billed:.4f} (ours ${entered:.4f})",
            "<= $1.00",
        )
        say("  a call costs at most", f"${most:.4f}; {books['answered']} answered")


def main() -> None:
    names = ("faults", "kills", "speed", "cached", "pace", "budget")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=" ".join(names))
    parser.add_argument("--distilabel", metavar="PYTHON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names or names:
            extra = (options.distilabel,) if name == "speed" else ()
            globals()[f"measure_{name}"](Path(folder), *extra)


if __name__ == "__main__":
    main()
