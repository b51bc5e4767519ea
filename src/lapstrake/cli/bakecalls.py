"""``bake --call`` and ``--check``: an answer for each target."""

from __future__ import annotations

from ..errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from ..bake.resolve import Selection
    from ..bake.schema import Target
    from ..config import Settings
    from ..plan.request import BuildRequest, CallSpec


def show_calls(
    selection: Selection,
    pairs: list[tuple[Target, BuildRequest]],
    call: CallSpec | None,
    settings: Settings,
    out: TextIO,
) -> int:
    """Print the answers by target, as text or as one JSON document; the exit code."""
    from ..engine.call import run_call
    from .calls import show_call

    answers: dict[str, Any] = {}
    code = 0
    as_json = call is not None and call.format == "json"
    first = True
    for target, request in sorted(pairs, key=lambda p: p[0].name):
        if request.call.name == "build":
            continue
        if as_json:
            try:
                answer = run_call(request, settings)
                answers[target.name] = answer.document
                code = code or (0 if request.call.ignore_status else answer.status)
            except BuildError as e:
                answers[target.name] = {"error": e.message}
                code = 1
            continue
        about = target.get("description")
        out.write(("" if first else "\n") + f"{target.name}\n" + (f"{about}\n" if about else "") + "\n")
        first = False
        try:
            code = show_call(request, settings, out) or code
        except BuildError as e:
            out.write(f"error: {e.message}\n")
            code = 1
    if as_json and call is not None:
        _document(selection, answers, call.name, out)
    return code


def _document(selection: Selection, answers: dict[str, Any], name: str, out: TextIO) -> None:
    import json

    from ..bake.resolve import as_document

    document = as_document(selection)
    document["target"] = {
        target: {"build": build, **({name: answers[target]} if target in answers else {})}
        for target, build in document["target"].items()
    }
    out.write(json.dumps(document, indent=2) + "\n")
