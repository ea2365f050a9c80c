"""Files that are written whole or not at all, and what a disk or a reader says when that cannot be, in one line."""

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from lionkit.errors import DataError, LionkitError


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed to disk, then renamed."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from None


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and is gone when it does not.

    Raises LionkitError where `path` is there already with something in it, and for what the disk refuses. Several
    processes may be at it: the first to end has its folder stay, the others get the error.
    """
    path = path.resolve()  # also `.` and a link have a name then
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise LionkitError(f"{path} is there already: name a new folder, or remove it first")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")  # a killed process's id comes again
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*.safetensors"):  # its library's own mode is 0600
            file.chmod(temporary.stat().st_mode & 0o666)
        os.replace(temporary, path)
    except Exception as error:
        said = None if isinstance(error, LionkitError) else re.search(r"os error (\d+)", str(error))
        if said:  # safetensors' own way to tell what the disk refused
            error = OSError(int(said[1]), os.strerror(int(said[1])))
        if isinstance(error, OSError):
            raise disk_error(error, path) from None
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` of the text in UTF-8; half a surrogate pair is kept as it is."""
    write_bytes(path, text.encode("utf-8", "surrogatepass"))


def disk_error(error: OSError, path: str | Path) -> LionkitError:
    """The one-line form of what an operating system says when a file cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free some space and run again; what was done is kept"
        return LionkitError(f"the disk is full, {path} was not written: {remedy}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LionkitError(f"no permission to write {path}: choose a folder you own, or mend its permissions")
    return LionkitError(f"cannot write {path}: {error.strerror or error}")


def read_bytes(path: str | Path) -> bytes:
    """A whole file. DataError where there is none or it cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(path, None, "there is no such file: check the name, or run what makes it first") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DataError(path, None, f"cannot be read: {getattr(error, 'strerror', error)}") from None


def read_text(path: str | Path) -> str:
    """A whole file of UTF-8 text; half a surrogate pair is kept. DataError as `read_bytes`, and for other bytes."""
    try:
        return read_bytes(path).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise DataError(path, None, "not UTF-8 text: make the file again") from None
