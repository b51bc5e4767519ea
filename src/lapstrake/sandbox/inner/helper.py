"""Entry point of the sandbox helper: ``python -I -S helper.py FD KEEP``.

Kept tiny because a main script is compiled anew each time; the real code is in ``serve``,
loaded from its cached bytecode under a package name of its own, so that nothing of the
engine is imported and the helper stays small enough to fork in half a millisecond.
"""

import sys

_package = type(sys)("lapstrake_inner")
_package.__path__ = [__file__.rpartition("/")[0]]
sys.modules["lapstrake_inner"] = _package

from lapstrake_inner import serve  # noqa: E402

serve.main(int(sys.argv[1]), sys.argv[2])
