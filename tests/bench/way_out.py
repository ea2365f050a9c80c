"""The ways out, walked: `python tests/bench/student.py out --llama PYTHON --llama-cpp FOLDER --lm-eval PYTHON`.

A student is trained on real rows and exported. Its greedy answers to other real rows are held beside those of: the
merged folder in plain transformers, base and adapter in plain peft, and llama.cpp's server on the GGUF, asked through
`student_url`. The merged folder in the harness's own command is held against `evaluate.harness` on a task made here.
`--llama` is an interpreter with llama-cpp-python[server], `--llama-cpp` the folder with convert_hf_to_gguf.py (which
needs gguf and sentencepiece here), `--lm-eval` an interpreter with lm-eval beside the pinned libraries; what is not
named is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from lionkit import student
from lionkit.config import Config, StudentConfig
from lionkit.records import Instruction
from lionkit.sandbox import weights
from lionkit.student import served
from lionkit.student.encode import messages

Pairs = list[tuple[str, str]]
NEW, COUNT = 64, 20
"""Tokens of an answer, and answers."""
HARNESS = """
import sys
from lm_eval.tasks import TaskManager
from lionkit import evaluate
table = evaluate.harness(sys.argv[1], ["which"], task_manager=TaskManager(include_path=sys.argv[2]), device="cpu")
print("value", table.set_index("metric").loc["acc", "value"])
"""


def measure(options: argparse.Namespace, folder: Path, pairs: Pairs, settings: dict[str, Any]) -> None:
    model = student.load(weights.NAME)
    student.train(model, pairs[:96], out=folder / "adapter", progress=False, **settings | {"epochs": 2})
    texts = [text for text, _ in pairs[96 : 96 + COUNT]]
    how: dict[str, Any] = {"max_new_tokens": NEW, "progress": False}
    four_bits = [a.text for a in student.respond(model, texts, **how)]
    made = student.export_student(weights.NAME, folder / "adapter", folder / "merged", gguf=options.llama_cpp or None)
    print(f"out: {made}", flush=True)
    own = student.load(made.folder, quantize="none", dtype="float32")
    here = [a.text for a in student.respond(own, texts, **how)]
    compare("merged, here, float32, against the 4-bit student", here, four_bits)
    tokenizer = AutoTokenizer.from_pretrained(made.folder)
    plain = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32)
    compare("merged in plain transformers against here", by_generate(plain, tokenizer, texts), here, limit=COUNT)
    base = AutoModelForCausalLM.from_pretrained(weights.fetch(), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(made.folder / "adapter"))
    compare("base and adapter in plain peft against merged", by_generate(adapted, tokenizer, texts), here)
    if options.llama and made.gguf:
        with llama_server(options.llama, made.gguf) as url:
            config = Config(student_url=url, student=StudentConfig(response_batch=1))
            client = served.connect(config, folder / "student.sqlite")
            found = served.respond(
                client, [Instruction(text) for text in texts], model="iteration-01", weights="", max_tokens=NEW
            )
        compare("GGUF in llama.cpp's server, by student_url, against merged here", [r.text for r in found], here)
    if options.lm_eval:
        harness(options.lm_eval, folder, made.folder, pairs)


def compare(what: str, some: Sequence[str], others: Sequence[str], limit: int = 0) -> None:
    """How many texts are the same, and where the first of the others part."""
    same = sum(a.strip() == b.strip() for a, b in zip(some, others, strict=True))
    held = f" (all {limit})" if limit else ""
    print(f"out: {what}: {same} of {len(some)} the same{held}", flush=True)
    for a, b in zip(some, others, strict=True):
        if a.strip() != b.strip():
            start = len(os.path.commonprefix([a, b]))
            print(f"out:   part after {start} characters: {a[start : start + 40]!r} and {b[start : start + 40]!r}")


def by_generate(model: Any, tokenizer: Any, texts: list[str]) -> list[str]:
    """As anybody would ask the exported folder: its own chat template, one at a time."""
    found = []
    for text in texts:
        ids = tokenizer.apply_chat_template(messages(text), add_generation_prompt=True, return_tensors="pt")[
            "input_ids"
        ]
        with torch.no_grad():
            out = model.generate(input_ids=ids, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
        new = takewhile(lambda token: token != tokenizer.eos_token_id, out[0, ids.shape[1] :].tolist())
        found.append(tokenizer.decode(list(new), skip_special_tokens=True).strip())
    return found


@contextmanager
def llama_server(python: str, gguf: Path) -> Iterator[str]:
    """llama-cpp-python's OpenAI-compatible server on this file, on this machine alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [python, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "iteration-01"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--n_threads", "2"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(120):
            time.sleep(1)
            try:
                urllib.request.urlopen(f"{url}/models", timeout=2).close()
                break
            except OSError:
                if server.poll() is not None:
                    raise RuntimeError(f"{python} has no llama_cpp.server that starts") from None
        yield url
    finally:
        server.terminate()
        server.wait()


def harness(python: str, folder: Path, merged: Path, pairs: Pairs) -> None:
    """A task of two choices, the row's own response and the next one's: the harness's command, and `evaluate`."""
    tasks = folder / "tasks"
    tasks.mkdir()
    rows = [
        {"query": text, "choices": [own[:200], other[:200]]}
        for (text, own), (_, other) in zip(pairs[96:136], pairs[97:137], strict=True)
    ]
    (tasks / "rows.json").write_text(json.dumps(rows))
    (tasks / "which.yaml").write_text(
        "task: which\ndataset_path: json\noutput_type: multiple_choice\ntest_split: test\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tasks / 'rows.json'}\n"
        'doc_to_text: "{{query}}\\n"\ndoc_to_choice: choices\ndoc_to_target: 0\nmetric_list:\n  - metric: acc\n'
    )
    shared = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={merged}", "--tasks", "which"]
    command += [
        "--include_path",
        str(tasks),
        "--device",
        "cpu",
        "--batch_size",
        "8",
        "--output_path",
        str(folder / "o"),
    ]
    subprocess.run(command, env=shared, check=True, capture_output=True)
    [written] = (folder / "o").rglob("results*.json")
    theirs = json.loads(written.read_text())["results"]["which"]["acc,none"]
    done = subprocess.run(
        [python, "-c", HARNESS, str(merged), str(tasks)], env=shared, check=True, capture_output=True, text=True
    )
    ours = float(done.stdout.split("value")[-1])
    print(f"out: {len(rows)} rows in lm_eval's own command {theirs:.4f}, by evaluate.harness {ours:.4f} (equal)")


if __name__ == "__main__":
    sys.exit("run tests/bench/student.py out")
