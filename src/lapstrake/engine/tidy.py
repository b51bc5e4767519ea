"""What every command does last: sweep away what is left of itself and of killed ones.

Nothing of a running build is touched: everything temporary is locked by its owner for as long as that
lives.  A short budget bounds what the user waits for; the rest goes next time.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..store.content import ContentStore
    from ..store.layers import LayerStore

BUDGET_S = 0.3


def tidy(root: str, content: ContentStore, layers: LayerStore, budget: float = BUDGET_S) -> None:
    """Remove leftovers; never raises for a store that can't be written."""
    end = time.monotonic() + budget
    try:
        content.sweep()
        layers.sweep(lambda: time.monotonic() > end)
        layers.locks.sweep()
        sweep_leases(root)
        sweep_probes(root)
    except OSError:
        pass  # read-only or full: the command itself has said so
    except Exception as e:
        from ..errors import BuildError

        if not isinstance(e, BuildError):
            raise


def sweep_leases(root: str) -> None:
    """Remove the leases of killed processes."""
    from ..store.lease import Closed, dead

    if dead(root):
        with Closed(root):
            pass


def probes(root: str) -> list[str]:
    """Directories in which a killed process tried overlayfs."""
    import fcntl

    found = []
    with os.scandir(root) as entries:
        names = [e.path for e in entries if e.name.startswith("probe-")]
    for path in names:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(path)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return found


def sweep_probes(root: str) -> None:
    """Remove them."""
    from ..store.remove import remove_tree

    for path in probes(root):
        remove_tree(path)
