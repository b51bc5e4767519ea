"""Builds of who isn't root: in a user namespace, which a process can enter only as a whole.

The command line enters it itself.  A program that uses the Python API must stay as it is, so its
builds run in a process of their own, whose events and result come back through a pipe.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from ..config import Settings
    from ..events import EventSink

_CODE = "import sys; sys.path[:] = {path!r}; from lapstrake.engine.apart import serve; serve({ask}, {answer})"


def own_namespace(settings: Settings) -> Settings:
    """Not root: go on as root of a user namespace, in which files of all owners can be made and removed."""
    if not needed():
        return settings
    from ..sandbox.userns import enter
    from ..values import replace

    entered = enter(force_single=_made_with_one_id(os.path.join(settings.root, "ids")))
    if entered is None:
        return settings
    return replace(settings, ids_note=entered.note, no_namespace=entered.lack, mend=entered.hint)


def needed() -> bool:
    """Whether this process lacks the rights to build by itself."""
    from ..ids import CAP_SYS_ADMIN, effective

    return not effective() >> CAP_SYS_ADMIN & 1


def _made_with_one_id(path: str) -> bool:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(20).strip() == "one"
    except OSError:
        return False


def call(what: str, asked: object, settings: Settings, emit: EventSink) -> Any:
    """``run_build`` or ``run_jobs``, here if we may, else in a process of its own.  Raises what it raises."""
    if not needed():
        return _functions()[what](asked, settings, emit)
    import pickle
    import subprocess
    import sys

    ask, ours = os.pipe2(os.O_CLOEXEC)
    theirs, answer = os.pipe2(os.O_CLOEXEC)
    try:
        code = _CODE.format(path=sys.path, ask=ask, answer=answer)
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=(ask, answer))
    finally:
        os.close(ask)
        os.close(answer)
    with os.fdopen(ours, "wb") as out, os.fdopen(theirs, "rb") as back:
        try:
            pickle.dump((what, asked, settings), out)
            out.close()
            return _listen(back, emit)
        finally:
            if process.poll() is None:
                back.close()
                process.terminate()  # over already, or given up: it cancels what runs
                process.wait()


def _listen(back: BinaryIO, emit: EventSink) -> Any:
    import pickle

    from ..errors import BuildError

    while True:
        try:
            kind, value = pickle.load(back)
        except EOFError:
            raise BuildError("the process that built ended without a word") from None
        if kind == "event":
            emit(value)
        elif kind == "failed":
            raise value
        else:
            return value


def _functions() -> dict[str, Any]:
    from .build import run_build
    from .joint import run_jobs

    return {"run_build": run_build, "run_jobs": run_jobs}


def serve(ask: int, answer: int) -> None:
    """The other side of ``call``."""
    import pickle
    import signal
    import threading

    from ..sandbox.inner import kernel as k
    from ..solver.cancel import CancelToken

    k.prctl(k.PR_SET_PDEATHSIG, 15)
    with os.fdopen(ask, "rb") as source:
        what, asked, settings = pickle.load(source)
    settings = own_namespace(settings)
    cancel = CancelToken()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: cancel.set())
    lock = threading.Lock()
    out = os.fdopen(answer, "wb")

    def tell(kind: str, value: object) -> None:
        data = pickle.dumps((kind, value))
        with lock:
            try:
                out.write(data)
                out.flush()
            except OSError:
                cancel.set()  # nobody listens any more

    try:
        tell("result", _functions()[what](asked, settings, lambda event: tell("event", event), cancel))
    except BaseException as error:
        tell("failed", error)
