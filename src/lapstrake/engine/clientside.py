"""What the client owns: secrets and ssh agents, looked up only when a step asks."""

from __future__ import annotations

import os

from ..errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..plan.request import SecretSpec, SshSpec

MAX_SECRET = 500 << 10


class RequestSecrets:
    """Secrets of a request, by id.  ``environ`` is the client's environment."""

    def __init__(self, specs: tuple[SecretSpec, ...], environ: Mapping[str, str]) -> None:
        self.specs = {s.id: s for s in specs}
        self.environ = environ

    def check(self) -> None:
        """Raise for a file that is not there or too big: before anything is built, as buildx does."""
        for spec in self.specs.values():
            if spec.type != "file":
                continue
            try:
                size = os.stat(spec.source).st_size
            except OSError as exc:
                raise _unreadable(spec, exc) from exc
            if size > MAX_SECRET:
                raise BuildError(f"secret {spec.id} too big. max size 500kB")

    def get(self, secret_id: str) -> bytes | None:
        """The value, or None where none was given."""
        spec = self.specs.get(secret_id)
        if spec is None:
            return None
        if spec.type == "env":
            value = self.environ.get(spec.source)
            return None if value is None else value.encode("utf-8", "surrogateescape")
        try:
            with open(spec.source, "rb") as f:
                data = f.read(MAX_SECRET + 1)
        except OSError as exc:
            raise _unreadable(spec, exc) from exc
        if len(data) > MAX_SECRET:
            raise BuildError(f"secret {spec.id} too big. max size 500kB")
        return data


def _unreadable(spec: SecretSpec, exc: OSError) -> BuildError:
    reason = (exc.strerror or str(exc)).lower()
    return BuildError(
        f"failed to stat {spec.source}: stat {spec.source}: {reason}",
        hint=f"secret {spec.id} is read from that file",
    )


class RequestAgents:
    """Forwarded ssh agents.  Private keys get an agent of their own for the length of the build."""

    def __init__(self, specs: tuple[SshSpec, ...], environ: Mapping[str, str], scratch: str) -> None:
        self.specs = {s.id: s for s in specs}
        self.environ = environ
        self.scratch = scratch
        self.started: dict[str, tuple[str, int]] = {}

    def socket(self, agent_id: str) -> str | None:
        """Path of the agent's socket."""
        spec = self.specs.get(agent_id)
        if spec is None:
            return None
        if not spec.paths:
            return self.environ.get("SSH_AUTH_SOCK")
        import stat

        if len(spec.paths) == 1 and stat.S_ISSOCK(os.stat(spec.paths[0]).st_mode):
            return spec.paths[0]
        return self._agent(spec)

    def _agent(self, spec: SshSpec) -> str:
        import subprocess

        if spec.id in self.started:
            return self.started[spec.id][0]
        path = os.path.join(self.scratch, f"agent-{len(self.started)}.sock")
        agent = subprocess.Popen(
            ["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self.started[spec.id] = (path, agent.pid)
        self._processes = [*getattr(self, "_processes", []), agent]
        for _ in range(200):
            if os.path.exists(path):
                break
            import time

            time.sleep(0.01)
        env = {**self.environ, "SSH_AUTH_SOCK": path}
        done = subprocess.run(
            ["ssh-add", "-q", *spec.paths],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BuildError(f"ssh key of {spec.id} can't be loaded: {done.stderr.strip()}")
        return path

    def close(self) -> None:
        """End the agents we started."""
        for process in getattr(self, "_processes", []):
            process.terminate()
            process.wait()
