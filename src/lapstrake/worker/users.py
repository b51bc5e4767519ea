"""USER resolution from the image's own /etc/passwd and /etc/group (spec dockerfile.md §10)."""

from __future__ import annotations

from ..errors import BuildError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..tree import Tree

LIMIT = 10 << 20


class Account(Value):
    """A numeric user with its groups and home."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def _rows(tree: Tree, path: str) -> list[list[str]]:
    from ..snapshot.view import resolve

    real = resolve(tree, path)
    node = tree.lstat(real)
    if node is None or node.kind != "file":
        return []
    if node.size > LIMIT:
        raise BuildError(f"/{path} is larger than 10 MiB")
    with tree.open(real) as f:
        text = f.read(LIMIT).decode("utf-8", "surrogateescape")
    return [line.split(":") for line in text.splitlines() if ":" in line and not line.startswith("#")]


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() and int(text) < 1 << 31 else None


def lookup(tree: Tree, spec: str) -> Account:
    """``user[:group]`` to numbers.  Raises BuildError for unknown names."""
    user, sep, group = spec.partition(":")
    user = user or "0"
    passwd = _rows(tree, "etc/passwd")
    uid = _number(user)
    row = next((r for r in passwd if len(r) >= 4 and (r[0] == user if uid is None else r[2] == user)), None)
    if uid is None:
        if row is None:
            raise BuildError(
                f"unable to find user {user}: no matching entries in passwd file",
                hint="create it in an earlier RUN, or use a number",
            )
        uid = _number(row[2]) or 0
    home = row[5] if row is not None and len(row) > 5 and row[5] else "/"
    if sep:
        return Account(uid, _group(tree, group), (), home)
    gid = (_number(row[3]) or 0) if row is not None else 0
    groups: list[int] = []
    if row is not None:
        for r in _rows(tree, "etc/group"):
            if len(r) >= 4 and row[0] in r[3].split(","):
                n = _number(r[2])
                if n is not None:
                    groups.append(n)
    return Account(uid, gid, tuple(groups), home)


def _group(tree: Tree, group: str) -> int:
    gid = _number(group)
    if gid is not None:
        return gid
    for r in _rows(tree, "etc/group"):
        if len(r) >= 3 and r[0] == group:
            return _number(r[2]) or 0
    raise BuildError(
        f"unable to find group {group}: no matching entries in group file",
        hint="create it in an earlier RUN, or use a number",
    )


def chown_ids(tree: Tree, spec: str) -> tuple[int, int]:
    """``--chown``: a lone number is both, a lone name its primary group (spec §12)."""
    user, sep, _ = spec.partition(":")
    if not sep and user.isdigit():
        return int(user), int(user)
    account = lookup(tree, spec)
    return account.uid, account.gid
