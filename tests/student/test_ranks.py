"""Two processes on the CPU (gloo) train and answer like one: the same rows a step, the same loss, the same texts, and
only one of them writes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import Trainer

from lionkit import loop, student
from lionkit.errors import StudentError
from lionkit.run import open_run
from lionkit.student import ranks

PAIRS = [(f"Say {word}.", word * 2) for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
TEXTS = [text * (n % 3 + 1) for n, (text, _) in enumerate(2 * PAIRS)][1:]
ADAPTER = "adapter_model.safetensors"
SCRIPT = """
import json, sys
import lionkit
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_ranks as here
from lionkit import student
from lionkit.errors import LionkitError
folder, out, how = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
if how == "dies":
    here.die_at_a_checkpoint()
elif how == "leaves":
    here.leave_while_answering()
elif how == "lacks":
    here.find_no_weights()
elif how in ("0", "1"):
    here.run_out_of_memory(how)
try:
    with student.lead():
        shard = len(sys.argv) > 5
        print(json.dumps(
            here.trainings(folder, out, shard) if how in ("dies", "ends")
            else here.answers(student.load(folder, dtype="float32", device="cpu")) if how in ("leaves", "lacks")
            else here.train(folder, out).losses
        ))
except LionkitError as error:
    sys.exit(f"error: {error}")
"""


def launch(*arguments: str, machines: int = 1) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` with two processes of one thread each, on a free port; all are gone afterwards.

    With two `machines`, two launches of one process each meet on this one."""
    port = free_port() if machines == 2 else 0
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = []
    try:
        for rank in range(machines):
            how = ["--multi_gpu", "--num_processes=2", f"--num_machines={machines}", f"--main_process_port={port}"]
            how += [f"--machine_rank={rank}", "--main_process_ip=127.0.0.1"] if machines == 2 else []
            command = [sys.executable, "-m", "accelerate.commands.launch", *how, *arguments]
            started.append(subprocess.Popen(command, env=environment, start_new_session=True, **options))
        told = [process.communicate(timeout=900) for process in started]
        assert [out for out, _ in told[1:]] == [""] * (machines - 1)  # only the first process prints
        errors = "".join(error for _, error in told)
        return subprocess.CompletedProcess(command, max(abs(p.returncode) for p in started), told[0][0], errors)
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trainings(folder: Path, out: Path, shard: bool = False) -> list[list[Any]]:
    """Losses and validation losses of two trainings, from nothing, and then in small pieces from that adapter on; and
    what the student answers after it."""
    kept: list[list[Any]] = []
    same: dict[str, Any] = {
        "rank": 4,
        "learning_rate": 5e-3,
        "max_length": 96,
        "epochs": 3,
        "progress": False,
        "validation": PAIRS[:3],
        "checkpoint_seconds": 0.0,
        "shard": shard,
    }
    for name, batch_size, device_rows in (("1", 6, None), ("2", 8, 1)):  # eight rows: every other step of "1" has two
        model = student.load(folder, dtype="float32", device="cpu", adapter=out / "1" if name == "2" else None)
        options = same | {"batch_size": batch_size, "device_rows": device_rows}
        report = student.train(model, PAIRS, out=out / name, **options)
        kept += [report.losses, [loss for _, loss in report.validation]]
    return [*kept, answers(model)]


def answers(model: student.Student) -> list[Any]:
    """Its answers to fifteen texts, greedy and drawn; each is kept when it is there, and once."""
    told: list[Any] = []
    for temperature in (0.0, 1.0):
        options: dict[str, Any] = {"max_new_tokens": 24, "batch_size": 4, "temperature": temperature, "progress": False}
        kept: dict[int, Any] = {}
        told += student.respond(model, TEXTS, keep=kept.setdefault, **options)
        assert [kept[n] for n in range(len(TEXTS))] == told[-len(TEXTS) :]
    return told


def train(folder: Path, out: Path) -> Any:
    model = student.load(folder, dtype="float32", device="cpu")
    settings = {"rank": 4, "learning_rate": 5e-3, "batch_size": 4, "max_length": 96, "checkpoint_seconds": 0.0}
    return student.train(model, PAIRS, out=out, progress=False, **settings)  # type: ignore[arg-type]


def run_out_of_memory(rank: str) -> None:
    """Has one process, or (`all`) each, run out of memory in step 4, once it has left checkpoints."""
    step = Trainer.training_step

    def training_step(self: Any, *args: Any) -> Any:
        if self.state.global_step == 3 and rank in ("all", os.environ.get("RANK", "0")):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return step(self, *args)

    Trainer.training_step = training_step  # type: ignore[method-assign]


def leave_while_answering() -> None:
    """Has the second process end in the middle of its answers."""
    from lionkit.student.respond import _Batch

    step, turns = _Batch.step, iter(range(30))
    _Batch.step = lambda self: (  # type: ignore[method-assign]
        os._exit(9) if os.environ["RANK"] == "1" and next(turns) == 20 else step(self)
    )


def find_no_weights() -> None:
    """Has the second process, on a machine of its own, not find the model."""

    def load(**how: Any) -> Any:
        raise StudentError(f"there is no model {how['model'].name}")

    ranks.load = load


def die_at_a_checkpoint() -> None:
    """Has the first process killed in the checkpoint of step 5: weights are there, the state is not."""
    from transformers import TrainerState

    write = TrainerState.save_to_json
    TrainerState.save_to_json = lambda state, path: (  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGKILL) if state.global_step == 5 else write(state, path)
    )


@pytest.mark.parametrize("shard", [(), ("shard",)])
def test_two_processes_train_like_one_and_resume(tiny_model: Path, tmp_path: Path, shard: tuple[str, ...]) -> None:
    one = trainings(tiny_model, tmp_path / "one")
    command = script(tmp_path, tiny_model, tmp_path / "two")
    died = launch(*command, "dies", *shard)
    assert died.returncode != 0
    assert (tmp_path / "two/1/checkpoints/checkpoint-4/rng_state_1.pth").is_file(), died.stderr
    done = launch(*command, "ends", *shard)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # only the first process prints
    *two, told = json.loads(line)
    assert [len(part) for part in two] == [6, 3, 3, 3]
    assert told == [list(answer) for answer in one.pop()]  # each process has answered its part
    assert len({text for text, _ in told}) > 12
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert two[2][0] < 0.99 * two[0][0]  # goes on from the first adapter, in both processes
    for name in ("1", "2"):
        assert sorted(p.name for p in (tmp_path / "two" / name).iterdir()) == ["adapter_config.json", ADAPTER]
        mine, other = (load_file(tmp_path / who / name / ADAPTER) for who in ("two", "one"))
        assert all((mine[key] - other[key]).norm() < 1e-4 * other[key].norm() for key in other)


@pytest.mark.parametrize(("machines", "shard"), [(1, False), (2, True)])
def test_the_command_line_trains_one_run_with_two_processes(tiny_model: Path, machines: int, shard: bool) -> None:
    settings = {"model": str(tiny_model), "step_rows": 8, "epochs": 1, "shard": shard, "gradient_checkpointing": shard}
    one, two = (open_run(n, preset="smoke", train_size=20, student=settings) for n in ("one", "two"))
    loop.imitate(one, loop.open_roles(one), 1)
    done = launch("-m", "lionkit", "train", "--run", "two", machines=machines)
    assert done.returncode == 0, done.stderr
    *banner, memory, audit, adapter = done.stdout.splitlines()
    assert banner == two.banner.splitlines()  # said once, like the rest
    assert memory.startswith("Training takes about ")
    assert audit.startswith("20 rows (plain), ")
    assert adapter.startswith("Adapter: ")
    files = [sorted(str(p.relative_to(r.path)) for p in r.path.rglob("*") if p.is_file()) for r in (one, two)]
    assert files[0] == files[1]
    stages = [r.folder(1, "imitation") for r in (one, two)]
    assert (stages[0] / "teacher.jsonl").read_bytes() == (stages[1] / "teacher.jsonl").read_bytes()
    losses = [json.loads((folder / "losses.json").read_text()) for folder in stages]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)  # 4-bit, in bfloat16 where the processor has it
    loop.imitate(two, loop.open_roles(two), 1)  # is done: raises nothing, trains nothing


def script(tmp_path: Path, *arguments: Any) -> list[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    return [str(tmp_path / "script.py"), str(Path(__file__).parent), *map(str, arguments)]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_out_of_memory_in_one_process_is_one_line(tiny_model: Path, tmp_path: Path, rank: str) -> None:
    """The other process was in the middle of a step: it has no traceback of its own to show."""
    died = launch(*script(tmp_path, tiny_model, tmp_path / "out", rank))
    assert died.returncode != 0
    workers = died.stderr.split("torch.distributed.elastic")[0].split("Traceback")[0]  # the launcher's own comes last
    assert died.stderr.count("error: out of memory while training: lower student.device_rows (2;") == 1, died.stderr
    assert "error: out of memory" in workers
    assert died.stderr.count("Traceback") <= 1, died.stderr


def test_processes_that_start_unlike_or_leave_are_one_line(tiny_model: Path, tmp_path: Path) -> None:
    both = [tmp_path / "script.py", Path(__file__).parent, tiny_model, tmp_path / "out"]
    script(tmp_path)
    unlike, left, lacking = [], [], []
    for found, hows in ((unlike, ("0", "1")), (left, ("leaves", "leaves")), (lacking, ("lacks", "lacks"))):
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        shared |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
        for rank, how in enumerate(hows):
            own = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, *map(str, both), how]
            found.append(subprocess.Popen(command, env=own, stdout=-1, stderr=-1, text=True))
    said = [[process.communicate(timeout=300) for process in pair] for pair in (unlike, left, lacking)]
    (out, error), (quiet, nothing) = said[0]
    assert (out, quiet, nothing) == ("", "", "")
    assert error.startswith("error: process 0 and 1 were started unlike: lionkit ")
    assert error.count("\n") == 1
    assert [process.returncode for process in unlike] == [1, 1]
    (out, error), _ = said[1]
    assert (out, error) == ("", "error: another process has ended: its own message says why\n")
    assert [process.returncode for process in left] == [1, 9]
    gone = "error: another process has ended: its own message says why\n"
    assert said[2] == [("", gone), ("", f"error: there is no model {tiny_model.name}\n")]


def test_a_checkpoint_is_resumed_by_another_number_of_processes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = train(tiny_model, tmp_path / "whole")
    two = script(tmp_path, tiny_model, tmp_path / "two", "1")
    assert launch(*two).returncode != 0
    capfd.readouterr()
    resumed = train(tiny_model, tmp_path / "two")  # by this one
    said = capfd.readouterr()
    assert said.out.startswith("The checkpoint has the random states of 2 processes, there are 1 now")
    assert len(said.out.splitlines()) == 1
    assert "do not match" not in said.err
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-4)
    monkeypatch.setattr(Trainer, "training_step", Trainer.training_step)  # put back at the end
    run_out_of_memory("all")
    with pytest.raises(StudentError, match="out of memory"):
        train(tiny_model, tmp_path / "one")
    done = launch(*script(tmp_path, tiny_model, tmp_path / "one", "once"))
    assert done.returncode == 0, done.stderr
    line, losses = done.stdout.splitlines()
    assert line.startswith("The checkpoint has the random states of 1 processes, there are 2 now")
    assert json.loads(losses) == pytest.approx(whole.losses, rel=1e-4)


def test_rows_that_cannot_be_shared_are_one_line(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = student.load(tiny_model, dtype="float32", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(ranks, "processes", lambda: 3)
        with pytest.raises(StudentError, match="make student.step_rows a multiple of 3") as caught:
            student.train(model, PAIRS, out=tmp_path, batch_size=8)
    assert str(caught.value).startswith("3 processes cannot share steps of 8 rows")
    assert caught.value.setting == "student.step_rows"
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StudentError, match="put the work into `with student.lead"):
        student.train(model, PAIRS, out=tmp_path)


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_a_model_split_over_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: str, name: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(StudentError, match=f"{name} is not built in: .*docs/fsdp.md"), student.lead():
        pytest.fail("went on")
    with pytest.raises(StudentError, match=f"{name} is not built in"):
        student.train(None, PAIRS, out=tmp_path)  # type: ignore[arg-type]
