"""Where output goes: destination checks and files that appear whole or not at all."""

from __future__ import annotations

import os
import stat

from ..errors import ExportError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from .base import ExportEnv


def absolute(dest: str, cwd: str) -> str:
    """``dest`` as seen from the caller's directory."""
    return os.path.normpath(os.path.join(cwd, dest))


def directory_dest(dest: str, cwd: str) -> str:
    """The absolute destination directory; refused when a file is there."""
    path = absolute(dest, cwd)
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise UsageError(f"destination directory {dest} is a file")
    except FileNotFoundError:
        pass
    except OSError as e:
        raise ExportError(f"destination {dest}: {e.strerror}") from e
    return path


class OneFile:
    """A destination file written beside itself and renamed into place, or standard output."""

    def __init__(self, dest: str, kind: str, env: ExportEnv) -> None:
        self._dest = dest
        self._env = env
        self._tmp = ""
        self._path = ""
        self.to_stdout = dest in ("", "-")
        if self.to_stdout:
            if env.stdout_tty or env.stdout is None:
                raise UsageError(f"dest file is required for {kind} exporter. refusing to write to console")
            return
        self._path = absolute(dest, env.cwd)
        if os.path.isdir(self._path):
            raise UsageError(f"destination file {dest} is a directory")

    def open(self) -> BinaryIO:
        """The stream to write to.  Standard output is not to be closed."""
        if self.to_stdout:
            out: BinaryIO = self._env.stdout  # type: ignore[assignment]  # checked in __init__
            return out
        parent, name = os.path.split(self._path)
        try:
            os.makedirs(parent, exist_ok=True)
            for n in range(1000):
                self._tmp = os.path.join(parent, f".{name[:200]}.{os.getpid()}.{n}.tmp")
                try:
                    fd = os.open(
                        self._tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
                    )
                    break
                except FileExistsError:
                    continue
            else:
                raise ExportError(f"cannot make a temporary file beside {self._dest}")
        except OSError as e:
            self._tmp = ""
            raise ExportError(f"cannot write {self._dest}: {e.strerror}") from e
        return os.fdopen(fd, "wb", buffering=1 << 16)

    def fill(self, write: Callable[[BinaryIO], None]) -> None:
        """Write the hidden file with ``write``; nothing is left when that fails."""
        try:
            with self.open() as out:
                write(out)
        except BaseException as e:
            self.abort()
            if isinstance(e, OSError):
                raise ExportError(f"cannot write {self._dest}: {e.strerror or e}") from e
            raise

    def commit(self) -> None:
        """Make the file visible.  A device or fifo destination is written, never replaced."""
        if not self._tmp:
            return
        try:
            kind = os.stat(self._path).st_mode
        except OSError:
            kind = stat.S_IFREG
        try:
            if stat.S_ISREG(kind):
                os.replace(self._tmp, os.path.realpath(self._path))
            else:
                import shutil

                with open(self._tmp, "rb") as src, open(self._path, "wb") as dst:
                    shutil.copyfileobj(src, dst, 1 << 20)
                os.unlink(self._tmp)
        except OSError as e:
            raise ExportError(f"cannot write {self._dest}: {e.strerror}") from e
        self._tmp = ""

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._tmp:
            try:
                os.unlink(self._tmp)
            except OSError:
                pass
            self._tmp = ""
