"""Where no command can run at all: builds of COPY, ADD and metadata still work."""

from __future__ import annotations

from ..errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .spec import Cancel, ExitInfo, ProcessSpec


class NoExecutor:
    """Refuses every run, saying what is missing."""

    name = "none"

    def __init__(self, lack: str, mend: str) -> None:
        self.notes: list[str] = []
        self._lack = lack
        self._mend = mend

    def run(self, spec: ProcessSpec, output: Callable[[int, bytes], None], cancel: Cancel) -> ExitInfo:
        """Raises ``SandboxError``."""
        raise SandboxError(f"no command can run here: {self._lack}", hint=self._mend)

    def close(self) -> None:
        """Nothing to stop."""
