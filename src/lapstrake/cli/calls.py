"""``--call``: ask about a Dockerfile instead of building it (spec cli.md §2.8)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from ..config import Settings
    from ..plan.request import BuildRequest

METHODS = (
    ("check", "Check the Dockerfile without building"),
    ("outline", "List build arguments, secrets and ssh agents of a target"),
    ("targets", "List the targets of a Dockerfile"),
    ("subrequests.describe", "List these methods"),
)


def show_call(request: BuildRequest, settings: Settings, out: TextIO) -> int:
    """Print the answer; the exit code."""
    if request.call.name == "subrequests.describe":
        return _describe(request, out)
    from ..engine.call import run_call

    answer = run_call(request, settings)
    if request.call.format == "json":
        import json

        out.write(json.dumps(answer.document, indent=2) + "\n")
    else:
        out.write(answer.text if answer.text.endswith("\n") else answer.text + "\n")
    out.flush()
    if request.metadata_file:
        import json

        from .build import write_atomic

        write_atomic(request.metadata_file, json.dumps({"result.json": answer.document}, indent=2).encode())
    return 0 if request.call.ignore_status else answer.status


def _describe(request: BuildRequest, out: TextIO) -> int:
    if request.call.format == "json":
        import json

        out.write(
            json.dumps(
                [{"name": n, "version": "1.0.0", "type": "rpc", "description": d} for n, d in METHODS],
                indent=2,
            )
            + "\n"
        )
    else:
        from ..dockerfile.outline import table

        out.write(table([("NAME", "VERSION", "DESCRIPTION"), *((n, "1.0.0", d) for n, d in METHODS)]))
    return 0
