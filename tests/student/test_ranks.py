"""Two processes on the CPU (gloo) train like one: the same rows a step, the same loss, and only one of them writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from lionkit import loop, student
from lionkit.errors import StudentError
from lionkit.run import open_run
from lionkit.student.batches import share

PAIRS = [(f"Say {word}.", word * 2) for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")]
ADAPTER = "adapter_model.safetensors"
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_multi_process as here
from lionkit import student
if sys.argv[4] == "dies":
    here.die_at_a_checkpoint()
with student.lead():
    print(json.dumps(here.trainings(Path(sys.argv[2]), Path(sys.argv[3]))))
"""


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`accelerate launch` with two processes of one thread each, on a free port; all are gone afterwards."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2",
               "--main_process_port=0", *arguments]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2]),
                   "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, start_new_session=True, **options) as process:
        try:
            return subprocess.CompletedProcess(command, process.wait(120), *process.communicate())
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def trainings(folder: Path, out: Path) -> list[list[float]]:
    """Losses and validation losses of two trainings: from nothing, and with accumulation from that adapter on."""
    kept = []
    same: dict[str, Any] = {"rank": 4, "learning_rate": 5e-3, "max_length": 96, "epochs": 3, "progress": False,
                            "validation": PAIRS[:3], "checkpoint_seconds": 0.0}  # fmt: skip
    for name, batch_size, accumulation in (("1", 6, 1), ("2", 2, 4)):  # eight rows: every other step of "1" has two
        model = student.load(folder, dtype="float32", device="cpu", adapter=out / "1" if name == "2" else None)
        options = same | {"batch_size": batch_size, "accumulation": accumulation}
        report = student.train(model, PAIRS, out=out / name, **options)
        kept += [report.losses, [loss for _, loss in report.validation]]
    return kept


def die_at_a_checkpoint() -> None:
    """Has the first process killed in the checkpoint of step 5: weights are there, the state is not."""
    from transformers import TrainerState

    write = TrainerState.save_to_json
    TrainerState.save_to_json = lambda state, path: (  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGKILL) if state.global_step == 5 else write(state, path)
    )


def test_two_processes_train_like_one_and_resume(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    one = trainings(tiny_model, tmp_path / "one")
    command = [str(tmp_path / "script.py"), str(Path(__file__).parents[1]), str(tiny_model), str(tmp_path / "two")]
    died = launch(*command, "dies")
    assert died.returncode != 0
    assert (tmp_path / "two/1/checkpoints/checkpoint-4/rng_state_1.pth").is_file(), died.stderr
    done = launch(*command, "ends")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # only the first process prints
    two = json.loads(line)
    assert [len(part) for part in two] == [6, 3, 3, 3]
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert two[2][0] < 0.99 * two[0][0]  # goes on from the first adapter, in both processes
    for name in ("1", "2"):
        assert sorted(p.name for p in (tmp_path / "two" / name).iterdir()) == ["adapter_config.json", ADAPTER]
        mine, other = (load_file(tmp_path / who / name / ADAPTER) for who in ("two", "one"))
        assert all((mine[key] - other[key]).norm() < 1e-4 * other[key].norm() for key in other)


def test_the_command_line_trains_one_run_with_two_processes(tiny_model: Path) -> None:
    settings = {"model": str(tiny_model), "batch_size": 8, "epochs": 1}
    one, two = (open_run(n, preset="smoke", train_size=20, student=settings) for n in ("one", "two"))
    loop.imitate(one, loop.open_roles(one), 1)
    done = launch("-m", "lionkit", "train", "--run", "two")
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


@pytest.mark.parametrize(
    ("settings", "expected"),
    [((8, 1, 2), (4, 1)), ((4, 8, 4), (4, 2)), ((6, 2, 4), (3, 1)), ((8, 3, 1), (8, 3)), ((1, 2, 2), (1, 1))],
)
def test_processes_share_the_rows_of_a_step(settings: tuple[int, int, int], expected: tuple[int, int]) -> None:
    rows, steps = share(*settings)
    assert (rows, steps) == expected
    assert rows * steps * settings[2] == settings[0] * settings[1]


def test_rows_that_cannot_be_shared_are_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(StudentError, match="3 processes cannot share steps of batch_size 8 x accumulation 1 rows"):
        share(8, 1, 3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StudentError, match="put the work into `with student.lead"):
        student.train(None, PAIRS, out=tmp_path)  # type: ignore[arg-type]
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(StudentError, match="not built in"), student.lead():
        pytest.fail("went on")
