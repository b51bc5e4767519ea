"""Git references as sources: parsing every form of §12.6, resolving, checking out.

A reference is hostile input: git never sees it as an option, no shell is involved, and neither
the user's nor the system's configuration, hooks, prompts or local transports are used.
"""

from __future__ import annotations

import os

from ..errors import BuildError, ResolveError
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_QUERIES = (
    "ref",
    "tag",
    "branch",
    "subdir",
    "checksum",
    "commit",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
)
_BOOLS = ("keep-git-dir", "submodules", "fetch-by-commit")
_SCHEMES = ("http", "https", "ssh", "git")
_TIMEOUT = 1800.0


class GitRef(Value):
    """A parsed reference.  ``ref`` empty: the remote's HEAD; ``checksum``: a commit or its beginning."""

    remote: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True
    mtime: str = "checkout"  # or "commit"
    fetch_by_commit: bool = False


class Access(Value):
    """What the client lends: an ``Authorization`` value for the remote's host, an ssh agent, known hosts.

    ``env``: further variables for git (proxies).  ``allow_file``: ``file://`` remotes, for tests only.
    """

    authorization: str = ""
    ssh_auth_sock: str = ""
    known_hosts: str = ""
    env: tuple[tuple[str, str], ...] = ()
    allow_file: bool = False
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    timeout: float = _TIMEOUT


def is_git(text: str) -> bool:
    """Whether a source or context names a git repository rather than a URL or a path."""
    scheme, sep, rest = text.partition("://")
    if sep:
        path = rest.split("#", 1)[0].split("?", 1)[0]
        return scheme in ("git", "ssh") or (scheme in ("http", "https") and path.endswith(".git"))
    if text.startswith(("github.com/", "git@")):
        return True
    host, colon, path = text.split("#", 1)[0].partition(":")
    return bool(colon and path and "@" in host and "/" not in host and not host.startswith("-"))


def parse(text: str) -> GitRef:
    """The reference in ``text``; raises BuildError with BuildKit's messages for conflicts."""
    whole, _, fragment = text.partition("#")
    scheme, sep, _ = whole.partition("://")
    if sep and scheme not in (*_SCHEMES, "file"):
        raise BuildError(f"invalid git reference {text!r}: unknown protocol {scheme}")
    if not sep and whole.startswith("github.com/"):
        whole = "https://" + whole
        sep = "://"
    if not sep and not is_git(text):
        raise BuildError(f"invalid git reference {text!r}")
    remote, _, query = whole.partition("?") if sep else (whole, "", "")
    ref, _, subdir = fragment.partition(":")
    fields = _query(query)
    ref = _named_ref(ref, fields)
    subdir = _subdir(_agree("subdir", subdir, fields.get("subdir", "")))
    checksum = _agree("checksum", fields.get("checksum", ""), fields.get("commit", ""))
    mtime = fields.get("mtime", "checkout")
    if mtime not in ("checkout", "commit"):
        raise BuildError(f'invalid mtime value: "{mtime}" (must be "checkout" or "commit")')
    keep = _bool("keep-git-dir", fields["keep-git-dir"]) if "keep-git-dir" in fields else None
    submodules = _bool("submodules", fields.get("submodules", "true"))
    by_commit = _bool("fetch-by-commit", fields.get("fetch-by-commit", "false"))
    found = GitRef(remote, ref, subdir, checksum, keep, submodules, mtime, by_commit)
    _check(found)
    return found


def with_flags(found: GitRef, *, checksum: str = "", keep_git_dir: bool | None = None) -> GitRef:
    """The reference joined with ADD's ``--checksum`` and ``--keep-git-dir``."""
    from ..values import replace

    if checksum and found.checksum and not _same_commit(checksum, found.checksum):
        raise BuildError(f'checksum mismatch "{checksum}" != "{found.checksum}"')
    if keep_git_dir is not None and found.keep_git_dir is not None and keep_git_dir != found.keep_git_dir:
        raise BuildError("inconsistent keep-git-dir configuration")
    new = replace(
        found,
        checksum=max(checksum, found.checksum, key=len),
        keep_git_dir=found.keep_git_dir if keep_git_dir is None else keep_git_dir,
    )
    _check(new)
    return new


def _query(query: str) -> dict[str, str]:
    if not query:
        return {}
    from urllib.parse import parse_qsl

    fields: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _QUERIES:
            raise BuildError(f'unexpected query "{key}"')
        if key in fields:
            raise BuildError(f'query "{key}" has multiple values')
        if not value and key not in _BOOLS:
            raise BuildError(f'query "{key}" has no value')
        fields[key] = value or "true"
    return fields


def _named_ref(ref: str, fields: dict[str, str]) -> str:
    ref = _agree("ref", ref, fields.get("ref", ""))
    tag, branch = fields.get("tag", ""), fields.get("branch", "")
    if tag and branch:
        raise BuildError("branch conflicts with tag")
    if tag:
        return _agree("ref", ref if ref != tag else "", "refs/tags/" + tag.removeprefix("refs/tags/"))
    if branch:
        return _agree("ref", ref if ref != branch else "", "refs/heads/" + branch.removeprefix("refs/heads/"))
    return ref


def _agree(what: str, a: str, b: str) -> str:
    if a and b and a != b:
        raise BuildError(f'{what} conflicts: "{a}" vs "{b}"')
    return a or b


def _bool(key: str, value: str) -> bool:
    from ..dockerfile.numbers import parse_bool

    try:
        return parse_bool(value)
    except ValueError:
        raise BuildError(f'invalid {key} value: "{value}"') from None


def _subdir(path: str) -> str:
    from ..layer.select import clean

    return clean(path)


def _same_commit(a: str, b: str) -> bool:
    return a.startswith(b) or b.startswith(a)


def _is_hex(text: str) -> bool:
    return bool(text) and all(c in "0123456789abcdef" for c in text)


def _is_commit(text: str) -> bool:
    return len(text) in (40, 64) and _is_hex(text)


def _check(found: GitRef) -> None:
    """Refuse what git could take for an option, a helper or more than one argument."""
    for what, text in (("reference", found.ref), ("remote", found.remote), ("subdirectory", found.subdir)):
        if text.startswith("-") or any(c < " " or c == "\x7f" for c in text):
            raise BuildError(f"invalid git {what} {text!r}")
    ref = found.ref
    bad = (
        any(c in ref for c in " ~^:?*[\\") or ".." in ref or "@{" in ref or ref.endswith((".lock", "/", "."))
    )
    if bad:
        raise BuildError(f"invalid git reference {ref!r}")
    scheme, sep, rest = found.remote.partition("://")
    host = rest.partition("/")[0] if sep else found.remote.partition(":")[0]
    host = host.rpartition("@")[2]
    # Spaces would pass as they are: git calls ssh with the host as one argument.
    if (
        (not host and scheme != "file")
        or host.startswith("-")
        or " " in host
        or "::" in found.remote.partition("/")[0]
    ):
        raise BuildError(f"invalid git remote {redacted(found.remote)!r}")
    if sep and host.rpartition("@")[0].startswith("-"):
        raise BuildError(f"invalid git remote {redacted(found.remote)!r}")
    if found.checksum and not (_is_hex(found.checksum) and 7 <= len(found.checksum) <= 64):
        raise BuildError(
            f'invalid checksum "{found.checksum}", expected a commit id of at least 7 hexadecimal digits'
        )


def redacted(remote: str) -> str:
    """A remote for messages, without its password."""
    scheme, sep, rest = remote.partition("://")
    if not sep or "@" not in rest.partition("/")[0]:
        return remote
    user, _, host = rest.partition("@")
    return f"{scheme}://{'xxxxx' if ':' in user or scheme.startswith('http') else user}@{host}"


def resolve(found: GitRef, access: Access | None = None) -> str:
    """The commit a reference names now, verified against its checksum."""
    if _is_commit(found.ref):
        commit = found.ref
    else:
        ref = found.ref or "HEAD"
        out = _git(["ls-remote", "--end-of-options", found.remote, ref, ref + "^{}"], found, access)
        commit = _pick(out, ref)
        if not commit:
            raise ResolveError(
                f"repository {redacted(found.remote)} does not contain ref {ref}",
                hint="check the branch, tag or commit after #",
            )
    if found.checksum and not commit.startswith(found.checksum):
        raise ResolveError(f"expected checksum to match {found.checksum}, got {commit}")
    return commit


def _pick(listing: str, ref: str) -> str:
    """As git checkout does: a branch before a tag, an annotated tag's commit before the tag."""
    refs: dict[str, str] = {}
    for line in listing.splitlines():
        commit, _, name = line.partition("\t")
        if _is_commit(commit):
            refs.setdefault(name, commit)
    short = ref.removeprefix("refs/")
    tag = f"refs/tags/{ref}"
    for name in (f"refs/heads/{ref}", tag + "^{}", tag, f"refs/{short}^{{}}", f"refs/{short}", ref):
        if name in refs:
            return refs[name]
    return ""


def checkout(
    found: GitRef,
    target: str,
    *,
    keep_git_dir: bool | None = None,
    commit: str = "",
    access: Access | None = None,
) -> str:
    """Put a reference's tree into the empty directory ``target``; the commit.

    ``commit``: as resolved before.  ``.git`` stays only when kept and no subdirectory is asked for.
    """
    import shutil
    import tempfile

    keep = bool(keep_git_dir if keep_git_dir is not None else found.keep_git_dir) and not found.subdir
    commit = commit or resolve(found, access)
    scratch = tempfile.mkdtemp(prefix=".git-", dir=os.path.dirname(os.path.abspath(target)))
    try:
        work = os.path.join(scratch, "work")
        os.mkdir(work)
        repo = _Repo(found, access, os.path.join(work, ".git"), work)
        repo.run("init", "-q", "--end-of-options", work)
        _fetch(repo, found, commit)
        repo.run("checkout", "-q", "-f", "--detach", commit)
        if found.submodules and os.path.lexists(os.path.join(work, ".gitmodules")):
            repo.run("submodule", "update", "-q", "--init", "--recursive", "--depth=1", submodule=True)
        seconds = int(repo.run("show", "-s", "--format=%ct", commit).strip() or 0)
        _tidy(work, keep)
        if found.mtime == "commit":
            _set_times(work, seconds)
        _move(work, found, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return commit


def commit_time(found: GitRef, scratch: str, access: Access | None = None) -> int:
    """When the commit was made that a reference names now, in seconds; ``scratch``: an empty directory."""
    commit = resolve(found, access)
    work = os.path.join(scratch, "time")
    os.mkdir(work)
    repo = _Repo(found, access, os.path.join(work, ".git"), work)
    repo.run("init", "-q", "--end-of-options", work)
    _fetch(repo, found, commit)
    return int(repo.run("show", "-s", "--format=%ct", commit).strip() or 0)


class _Repo(Value):
    found: GitRef
    access: Access | None
    git_dir: str
    work: str

    def run(self, *args: str, submodule: bool = False) -> str:
        return _git(args, self.found, self.access, self, submodule=submodule)


def _fetch(repo: _Repo, found: GitRef, commit: str) -> None:
    fetch = (
        "fetch",
        "-q",
        "--depth=1",
        "--no-tags",
        "--no-recurse-submodules",
        "--end-of-options",
        found.remote,
    )
    full = tuple(a for a in fetch if a != "--depth=1")
    everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    try:
        repo.run(*fetch, commit)
        return
    except ResolveError as e:
        if found.fetch_by_commit:
            raise
        shallow = "shallow" not in e.message  # plain files behind HTTP know no parts of a history
    # A server that gives no bare commits: the name, and whole history if the commit is older.
    if shallow and found.ref and not _is_commit(found.ref):
        repo.run(*fetch, found.ref)
    else:
        repo.run(*full, *everything)
    try:
        repo.run("cat-file", "-e", commit + "^{commit}")
    except ResolveError as e:
        raise ResolveError(f"{redacted(found.remote)} no longer gives commit {commit}", temporary=True) from e


def _tidy(work: str, keep: bool) -> None:
    """No traces of this machine: without ``.git``, or with one that holds the history only."""
    import shutil

    if keep:
        for name in ("FETCH_HEAD", "ORIG_HEAD", "logs", "hooks", "description"):
            path = os.path.join(work, ".git", name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)
        return
    shutil.rmtree(os.path.join(work, ".git"))
    for where, dirs, names in os.walk(work):
        if ".git" in names and where != work:  # a submodule's pointer to the repository now gone
            os.unlink(os.path.join(where, ".git"))
        if ".git" in dirs:
            dirs.remove(".git")


def _set_times(work: str, seconds: int) -> None:
    for where, dirs, names in os.walk(work, topdown=False):
        for name in dirs + names:
            os.utime(os.path.join(where, name), (seconds, seconds), follow_symlinks=False)


def _move(work: str, found: GitRef, target: str) -> None:
    """The (sub)directory's contents to ``target``; links in the subdirectory's path stay inside."""
    from ..layer.select import resolve as follow
    from .local import LocalTree

    with LocalTree(work) as tree:
        path = follow(tree.lstat, found.subdir)
        node = tree.lstat(path)
        if node is None or node.kind != "dir":
            raise ResolveError(f"subdirectory {found.subdir} of {redacted(found.remote)}: no such directory")
    source = os.path.join(work, path) if path else work
    for name in os.listdir(source):
        os.rename(os.path.join(source, name), os.path.join(target, name))


def _git(
    args: Sequence[str],
    found: GitRef,
    access: Access | None,
    repo: _Repo | None = None,
    *,
    submodule: bool = False,
) -> str:
    import subprocess

    access = access or Access()
    where = ["--git-dir", repo.git_dir, "--work-tree", repo.work] if repo is not None else []
    env = _environment(found, access, submodule=submodule)
    try:
        done = subprocess.run(
            ["git", *where, *args],
            env=env,
            cwd=repo.work if repo is not None else "/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=access.timeout,
            umask=0o022,
            check=False,
        )
    except FileNotFoundError as e:
        raise ResolveError("git is not installed", hint="apt-get install git") from e
    except subprocess.TimeoutExpired as e:
        raise ResolveError(
            f"git {args[0]} of {redacted(found.remote)} took more than {access.timeout:.0f} s", temporary=True
        ) from e
    if done.returncode:
        lines = (
            done.stderr.decode("utf-8", "replace")
            .replace(found.remote, redacted(found.remote))
            .strip()
            .splitlines()
        )
        raise ResolveError(f"git {args[0]} of {redacted(found.remote)} failed: {'; '.join(lines[-3:])}")
    return done.stdout.decode("utf-8", "replace")


def _environment(found: GitRef, access: Access, *, submodule: bool) -> dict[str, str]:
    protocols = "http:https:ssh:git"
    if access.allow_file and not submodule:
        protocols += ":file"
    known = access.known_hosts or "/dev/null"
    check = "yes" if access.known_hosts else "accept-new"
    config = [
        ("core.hooksPath", "/dev/null"),
        ("core.attributesFile", "/dev/null"),
        ("core.fsmonitor", "false"),
        ("core.symlinks", "true"),
        ("core.autocrlf", "false"),
        ("credential.helper", ""),
        ("advice.detachedHead", "false"),
        ("init.defaultBranch", "main"),
        ("init.templateDir", ""),
        ("gc.auto", "0"),
        ("protocol.version", "2"),
        ("protocol.ext.allow", "never"),
        ("protocol.file.allow", "always" if access.allow_file and not submodule else "never"),
    ]
    scheme, sep, rest = found.remote.partition("://")
    if access.authorization and sep and scheme in ("http", "https"):
        # Through the environment: other users can read a command line.  Only for this host.
        host = rest.partition("/")[0].rpartition("@")[2]
        config.append((f"http.{scheme}://{host}/.extraHeader", f"Authorization: {access.authorization}"))
    env = {
        **dict(access.env),
        "PATH": access.path,
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_SSH_COMMAND": f"ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking={check} -o UserKnownHostsFile={_quote(known)}",
        "GIT_CONFIG_COUNT": str(len(config)),
    }
    for i, (key, value) in enumerate(config):
        env[f"GIT_CONFIG_KEY_{i}"] = key
        env[f"GIT_CONFIG_VALUE_{i}"] = value
    if access.ssh_auth_sock:
        env["SSH_AUTH_SOCK"] = access.ssh_auth_sock
    return env


def _quote(text: str) -> str:
    import shlex

    return shlex.quote(text)
