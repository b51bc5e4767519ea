"""What the client of a build owns and the engine only borrows (seams, no behaviour)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object


class Secrets(Protocol):
    """Build secrets by id.  The value never leaves memory except into a tmpfs mount."""

    def get(self, secret_id: str) -> bytes | None: ...


class SshAgents(Protocol):
    """Forwarded agents by id: path of a unix socket, or None."""

    def socket(self, agent_id: str) -> str | None: ...
