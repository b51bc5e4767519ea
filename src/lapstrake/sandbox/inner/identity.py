"""User and group ids as a run believes to have them, where the kernel knows a single one only."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .owners import Call

_ANYONE = 0xFFFFFFFF
_LIMIT = 65536


class Identity:
    """What one thread is.  ``uids`` and ``gids``: real, effective, saved, file system."""

    def __init__(self, uids: list[int], gids: list[int], groups: list[int], program: tuple[int, int]) -> None:
        self.uids = uids
        self.gids = gids
        self.groups = groups
        self.program = program

    def copy(self) -> Identity:
        return Identity(list(self.uids), list(self.gids), list(self.groups), self.program)


class Identities:
    """The table.  A thread that is not in it has its parent's ids (as they are when it first asks)."""

    def __init__(self, uid: int, gid: int, groups: list[int]) -> None:
        self.first = Identity([uid] * 4, [gid] * 4, groups, (0, 0))
        self.known: dict[int, Identity] = {}

    def handle(self, name: str, call: Call) -> int:
        """Answer a call of the ``setuid`` and ``getuid`` families; raises OSError as the kernel would."""
        me = self._of(call.pid)
        if name.startswith("get"):
            return self._get(name, call, me)
        if name == "setgroups":
            return self._set_groups(call, me)
        ids = me.uids if "uid" in name else me.gids
        kind = name.replace("gid", "uid")
        if kind == "setfsuid":
            before, ids[3] = ids[3], call.word(0) if call.word(0) != _ANYONE else ids[3]
            return before
        wanted = self._wanted(kind, call, ids, privileged=me.uids[1] == 0)
        if me.uids[1] != 0 and any(w not in (*ids[:3], _ANYONE) for w in wanted):
            raise OSError(1, "not permitted")
        for index, value in enumerate(wanted):
            if value != _ANYONE:
                ids[index] = value
        ids[3] = ids[1]
        return 0

    def _wanted(self, kind: str, call: Call, ids: list[int], *, privileged: bool) -> list[int]:
        """The new (real, effective, saved) ids, ``_ANYONE`` where nothing changes."""
        if kind == "setuid":
            new = call.word(0)
            return [new] * 3 if privileged else [_ANYONE, new, _ANYONE]
        if kind == "setreuid":
            real, effective = call.word(0), call.word(1)
            moved = real != _ANYONE or effective not in (_ANYONE, ids[0])
            return [real, effective, (ids[1] if effective == _ANYONE else effective) if moved else _ANYONE]
        return [call.word(n) for n in range(3)]

    def _get(self, name: str, call: Call, me: Identity) -> int:
        if name == "getgroups":
            size, count = call.integer(0), len(me.groups)
            if size:
                if size < count:
                    raise OSError(22, "too small")
                call.write(call.args[1], b"".join(g.to_bytes(4, "little") for g in me.groups))
            return count
        ids = me.uids if "uid" in name else me.gids
        if name.startswith("getres"):
            for at, value in zip(call.args[:3], ids, strict=False):
                call.write(at, value.to_bytes(4, "little"))
            return 0
        return ids[1 if name.startswith("gete") else 0]

    def _set_groups(self, call: Call, me: Identity) -> int:
        if me.uids[1] != 0:
            raise OSError(1, "not permitted")
        count = call.word(0)
        if count > _LIMIT:
            raise OSError(22, "too many")
        raw = call.read(call.args[1], 4 * count) if count else b""
        me.groups = [int.from_bytes(raw[i : i + 4], "little") for i in range(0, len(raw), 4)]
        return 0

    def _of(self, pid: int) -> Identity:
        found = self.known.get(pid)
        if found is None:
            if len(self.known) > 4096:
                self.known = {p: i for p, i in self.known.items() if os.path.exists(str(p))}
            found = self.known[pid] = self._inherited(pid)
        if found.uids[1]:
            self._set_id_program(pid, found)
        return found

    def _inherited(self, pid: int) -> Identity:
        at = pid
        for _ in range(64):
            group, parent = _relatives(at)
            at = group if group != at else parent
            if not at:
                break
            found = self.known.get(at)
            if found is not None:
                return found.copy()
        return self.first.copy()

    def _set_id_program(self, pid: int, me: Identity) -> None:
        """A set-user-id program was started meanwhile: it has its owner's rights, and that is root here."""
        try:
            state = os.stat(f"{pid}/exe")
        except OSError:
            return
        if (state.st_dev, state.st_ino) != me.program:
            me.program = (state.st_dev, state.st_ino)
            if state.st_mode & 0o4000:
                me.uids[1:] = [0, 0, 0]


def _relatives(pid: int) -> tuple[int, int]:
    """(thread group, parent) of a thread; zeros if it is gone."""
    group = parent = 0
    try:
        with open(f"{pid}/status", "rb") as file:  # no codec can be loaded after setns
            for line in file:
                if line.startswith(b"Tgid:"):
                    group = int(line.split()[1])
                elif line.startswith(b"PPid:"):
                    parent = int(line.split()[1])
                    break
    except OSError:
        return 0, 0
    return group, parent
