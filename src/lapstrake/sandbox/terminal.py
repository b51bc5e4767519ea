"""A pseudo-terminal for ``lapstrake run -t`` and debug shells."""

from __future__ import annotations

import os


def open_terminal() -> tuple[int, int]:
    """(master, slave), the slave as wide as the caller's own terminal."""
    master, slave = os.openpty()
    try:
        size = os.get_terminal_size(0)
    except OSError:
        return master, slave
    import fcntl

    rows, columns = size.lines.to_bytes(2, "little"), size.columns.to_bytes(2, "little")
    fcntl.ioctl(slave, 0x5414, rows + columns + bytes(4))  # TIOCSWINSZ
    return master, slave


class raw_terminal:  # noqa: N801  (used like a function)
    """A context: our terminal passes every key on as it is; afterwards it is as it was."""

    def __enter__(self) -> None:
        import termios
        import tty

        self._before = termios.tcgetattr(0)
        tty.setraw(0)

    def __exit__(self, *_exc: object) -> None:
        import termios

        termios.tcsetattr(0, termios.TCSADRAIN, self._before)
