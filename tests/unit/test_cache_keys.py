"""Keys hold everything an executor is given, and only that (docs/dev/cache-keys.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.cachekeys import keys

from lapstrake.graph import ops
from lapstrake.graph.ops import UNKEYED, CopyOp, ExecMount, ExecOp, MkdirOp, SourceOp
from lapstrake.graph.vertex import encode, op_key
from lapstrake.layer.copy import plan_copy
from lapstrake.layer.select import CopySpec, select
from lapstrake.oci.platform import Platform
from lapstrake.snapshot.view import StackView
from lapstrake.source.local import LocalTree
from lapstrake.values import Value, replace

GOLDEN = Path(__file__).parent / "golden" / "cache_keys.json"
AMD64 = Platform("linux", "amd64")

DOCKERFILE = """\
FROM base AS build
ARG USED=1
ARG UNUSED=1
ENV MODE=fast
COPY src /src
RUN --mount=type=bind,source=bound,target=/b make $USED
FROM other
WORKDIR /w
COPY --link top /top
COPY <<EOF /inline
body
EOF
RUN --mount=type=cache,target=/c --mount=type=secret,id=tok --network=none thing
COPY --from=build /src /dst
USER me
WORKDIR /home/me
RUN last
"""
SRC, MAKE, W, TOP, INLINE = (
    "COPY src /src",
    "RUN --mount=type=bind,source=bound,target=/b make $USED",
    "WORKDIR /w",
    "LINK COPY --link top /top",
    "COPY <<EOF /inline",
)
THING = "RUN --mount=type=cache,target=/c --mount=type=secret,id=tok --network=none thing"
DST, HOME, LAST = "COPY --from=build /src /dst", "WORKDIR /home/me", "RUN last"
FIRST, TAIL = (SRC, MAKE), (DST, HOME, LAST)
ALL = (*FIRST, W, TOP, INLINE, THING, *TAIL)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return make_context(tmp_path / "context")


def make_context(root: Path) -> Path:
    for name, data in (
        ("src/a.py", "a"),
        ("src/sub/b", "b"),
        ("bound/x", "x"),
        ("top", "t"),
        ("elsewhere", "e"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(data)
        (root / name).chmod(0o644)
    (root / "src" / "link").symlink_to("a.py")
    for where, dirs, _ in os.walk(root):
        for name in dirs:
            os.chmod(os.path.join(where, name), 0o755)
    return root


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def text(old: str, new: str) -> Any:
    return {"text": DOCKERFILE.replace(old, new)}


# (what is changed, on disk or as arguments of the build, and the steps whose key changes)
CHANGES: list[tuple[str, Any, tuple[str, ...]]] = [
    ("file content", lambda c: (c / "src/a.py").write_text("A"), (*FIRST, *TAIL)),
    ("file mode", lambda c: (c / "src/a.py").chmod(0o755), (*FIRST, *TAIL)),
    ("mode of a directory inside", lambda c: (c / "src/sub").chmod(0o700), (*FIRST, *TAIL)),
    ("link target", lambda c: relink(c / "src/link", "sub/b"), (*FIRST, *TAIL)),
    ("file added", lambda c: (c / "src/new").write_text(""), (*FIRST, *TAIL)),
    ("file removed", lambda c: (c / "src/sub/b").unlink(), (*FIRST, *TAIL)),
    ("file to directory", lambda c: ((c / "src/sub/b").unlink(), (c / "src/sub/b").mkdir()), (*FIRST, *TAIL)),
    ("file renamed", lambda c: (c / "src/sub/b").rename(c / "src/sub/c"), (*FIRST, *TAIL)),
    ("xattr of a context's file: it is not copied either", lambda c: os.setxattr(c / "src/a.py", "user.note", b"x"), ()),
    ("bound file", lambda c: (c / "bound/x").write_text("y"), (MAKE, *TAIL)),
    ("linked file", lambda c: (c / "top").write_text("T"), (TOP, INLINE, THING, *TAIL)),
    ("file nobody takes", lambda c: (c / "elsewhere").write_text("E"), ()),
    ("mtime", lambda c: [os.utime(p, (1, 1)) for p in c.rglob("*") if not p.is_symlink()], ()),
    ("mode of the copied directory itself", lambda c: (c / "src").chmod(0o700), ()),
    ("used ARG", {"build_args": (("USED", "2"),)}, (MAKE, *TAIL)),
    ("ARG in scope though not named", {"build_args": (("UNUSED", "2"),)}, (MAKE, *TAIL)),
    ("ARG nobody declares", {"build_args": (("NOBODY", "2"),)}, ()),
    ("proxy", {"build_args": (("HTTP_PROXY", "http://p"),)}, ()),
    ("ENV", text("MODE=fast", "MODE=slow"), (MAKE, *TAIL)),
    ("base digest of the build stage", {"pinned": {"base": "1" * 64}}, (*FIRST, *TAIL)),
    ("base digest of the last stage", {"pinned": {"other": "1" * 64}}, (W, INLINE, THING, *TAIL)),
    ("another name of the same image", text("FROM other", "FROM docker.io/other"), ()),
    ("platform", {"platform": Platform("linux", "arm64")}, tuple(s for s in ALL if s != TOP)),
    ("heredoc body", text("body\n", "Body\n"), (INLINE, THING, *TAIL)),
    ("secret's id", text("id=tok", "id=key"), (THING.replace("id=tok", "id=key"), *TAIL)),
    ("secret's value", {"secrets": ()}, ()),
    ("target of a cache mount", text("target=/c ", "target=/d "), (THING.replace("target=/c ", "target=/d "), *TAIL)),
    ("network of the step", text("--network=none ", ""), (THING.replace("--network=none ", ""), *TAIL)),
    ("network of the build", {"network": "none"}, (MAKE, DST, HOME, LAST)),
    ("user", text("USER me", "USER you"), (HOME, LAST)),
    ("working directory", text("WORKDIR /w", "WORKDIR /v"), ("WORKDIR /v", INLINE, THING, *TAIL)),
    ("shell", {"text": 'FROM base AS build\nSHELL ["/bin/bash", "-c"]\n' + DOCKERFILE.partition("\n")[2]}, (MAKE, *TAIL)),
    ("a label", {"text": DOCKERFILE + "LABEL a=b\n"}, ()),
    ("labels of the command line", {"labels": (("a", "b"),)}, ()),
    ("an exposed port in the middle", text("USER me", "EXPOSE 80\nUSER me"), ()),
    ("a comment and blanks", text("USER me", "\n# hello\nUSER   me"), ()),
    ("name of a stage", text("build", "compile"), ()),
    ("limits", {"ulimits": (("nofile", 5, 5),)}, (MAKE, THING, *TAIL)),
    ("host name", {"build_args": (("BUILDKIT_SANDBOX_HOSTNAME", "h"),)}, (MAKE, THING, *TAIL)),
    ("extra host's name", {"add_hosts": (("h", "1.1.1.1"),)}, (MAKE, THING, *TAIL)),
    ("parent cgroup", {"cgroup_parent": "g"}, (MAKE, THING, *TAIL)),
    ("size of /dev/shm", {"shm_size": 1 << 20}, (MAKE, THING, *TAIL)),
    ("memory limit", {"resources": (("memory", "1"),)}, ()),
    ("tag", {"tags": ("x:y",)}, ()),
    ("SOURCE_DATE_EPOCH is not a file's content", {"source_date_epoch": 5}, ()),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_exactly_the_keys_that_must_change_do(context: Path, change: Any, expected: tuple[str, ...]) -> None:
    before = keys(DOCKERFILE, context)
    assert set(before) == set(ALL)
    request = change if isinstance(change, dict) else {}
    if not request and change != {}:
        change(context)
    request = dict(request)
    after = keys(request.pop("text", DOCKERFILE), context, **request)

    def same(name: str) -> str:  # steps whose own text the change is
        for now, then in (
            ("id=key", "id=tok"),
            ("target=/d ", "target=/c "),
            ("WORKDIR /v", W),
            ("compile", "build"),
        ):
            name = name.replace(now, then)
        return name if name in before else THING

    changed = {name for name, key in after.items() if key != before[same(name)]}
    assert changed == set(expected)


def test_the_place_the_time_the_user_and_the_umask_do_not_matter(context: Path, tmp_path: Path) -> None:
    here = keys(DOCKERFILE, context)
    other = tmp_path / "somewhere" / "else"
    shutil.copytree(context, other, symlinks=True, copy_function=shutil.copy)
    for path in other.rglob("*"):
        os.chown(path, 1234, 99, follow_symlinks=False)
    script = f"import os, json; os.umask(0o077); from pathlib import Path; from tests.unit.cachekeys import keys; print(json.dumps(keys({DOCKERFILE!r}, Path({str(other)!r}))))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "PYTHONPATH": "src:.", "TZ": "Asia/Tokyo", "LANG": "C", "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert json.loads(done.stdout) == here


def test_a_named_context_counts_by_its_files(context: Path, tmp_path: Path) -> None:
    text = "FROM base\nCOPY --from=lib . /lib\nRUN x\n"
    lib = tmp_path / "lib"
    lib.mkdir()
    (lib / "f").write_text("1")
    before = keys(text, context, named={"lib": lib})
    (context / "top").write_text("changed")
    moved = shutil.copytree(lib, tmp_path / "moved")
    assert keys(text, context, named={"lib": moved}) == before
    (moved / "f").write_text("2")
    assert not set(keys(text, context, named={"lib": moved}).values()) & set(before.values())


# -- no field of an op is forgotten ------------------------------------------------------------

EXEC = ExecOp(("a",), ("E=1",), "/", "", AMD64, (ExecMount("bind", "/m", 1, "s"),))
SAMPLES = [EXEC, CopyOp(("a",), "d/", "/"), MkdirOp("/d"), SourceOp("git", "u")]
FREE = {  # what the recipe leaves out, each with its reason in docs/dev/cache-keys.md
    ("ExecOp", "resources"), ("ExecOp", "proxy_env"), ("ExecOp", "arg_names"),
}  # fmt: skip


def other_value(value: Any) -> Any:
    if isinstance(value, Platform):
        return replace(value, arch="riscv64")
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return (*value, value[0]) if value and isinstance(value[0], Value) else (*value, ("x", "y"))
    if isinstance(value, bytes):
        return value + b"x"
    if isinstance(value, int):
        return value + 1
    return 7 if value is None else value + "x"


@pytest.mark.parametrize(
    ("op", "field"), [(op, f) for op in SAMPLES for f in op.__fields__], ids=lambda x: x if isinstance(x, str) else type(x).__name__
)  # fmt: skip
def test_every_field_of_an_op_is_keyed_or_known_to_be_free(op: Any, field: str) -> None:
    changed = op_key(replace(op, **{field: other_value(getattr(op, field))})) != op_key(op)
    assert changed == ((type(op).__name__, field) not in FREE)
    assert {f for _, f in FREE} == set(UNKEYED)


@pytest.mark.parametrize("field", ExecMount.__fields__)
def test_every_field_of_a_mount_is_keyed(field: str) -> None:
    mount = EXEC.mounts[0]
    other = replace(EXEC, mounts=(replace(mount, **{field: other_value(getattr(mount, field))}),))
    assert op_key(other) != op_key(EXEC)


def test_identity_of_a_cache_mount() -> None:
    def key(**kw: Any) -> str:
        return op_key(replace(EXEC, mounts=(ExecMount("cache", "/c", **kw),)))

    assert key(id="a", sharing="locked") == key(id="b", sharing="shared")
    assert key(id="/c", sharing="locked") != key(id="/c", sharing="shared")


def test_all_kinds_of_op_are_sampled() -> None:
    assert {type(s) for s in SAMPLES} == set(ops.Op.__args__)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


def typed(value: Any) -> Any:
    return [typed(v) for v in value] if isinstance(value, tuple) else (type(value).__name__, value)


@given(VALUES, VALUES)
def test_different_values_have_different_encodings(a: Any, b: Any) -> None:
    assert (encode(a) == encode(b)) == (typed(a) == typed(b))


# -- equal keys mean equal layers -----------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a", "e"])
KINDS = st.tuples(st.sampled_from(["file", "exec", "link", "dir", "hard"]), st.sampled_from(["1", "22"]))
TREES = st.dictionaries(NAMES, KINDS, min_size=1, max_size=5)
SPECS = st.builds(
    CopySpec, st.sampled_from([(".",), ("d",), ("a",), ("*",), ("d/",), ("a", "d")]), st.sampled_from(["/x/", "/x", "."]),
    parents=st.booleans(), exclude=st.sampled_from([(), ("**/a",), ("e",)]),
)  # fmt: skip


def plant(root: Path, tree: dict[str, tuple[str, str]]) -> None:
    root.mkdir()
    for name, (kind, data) in sorted(tree.items()):
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "dir":
                path.mkdir(mode=0o700 if data == "1" else 0o755, exist_ok=True)
            elif kind == "link":
                path.symlink_to(data)
            else:
                path.write_text(data)
                path.chmod(0o755 if kind == "exec" else 0o644)
                if kind == "hard":
                    os.link(path, root / f"hard{data}")
        except (FileExistsError, NotADirectoryError):
            continue


def layer_of(root: Path, spec: CopySpec) -> tuple[str, object]:
    """(key, what would be in the layer, times aside)."""
    from lapstrake.errors import BuildError
    from lapstrake.layer.digest import selection_digest

    with LocalTree(str(root)) as tree:
        try:
            selection = select(tree, spec)
            key = selection_digest(tree, selection)
            entries = plan_copy(tree, StackView([]), spec, now_ns=0, selection=selection)
        except BuildError as e:
            return f"error {e.message}", e.message
        layer = []
        for e in entries:
            data = e.data
            if e.tree is not None:
                with e.tree.open(e.source) as f:
                    data = f.read()
            n = e.node
            layer.append(
                (
                    e.path,
                    n.kind,
                    n.mode if n.kind != "symlink" else 0,
                    n.uid,
                    n.gid,
                    n.linkname,
                    e.whiteout,
                    e.opaque,
                    data,
                )
            )
        return key, layer


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES, TREES, SPECS)
def test_equal_keys_mean_equal_layers(tmp_path: Path, one: Any, two: Any, spec: CopySpec) -> None:
    found = []
    for i, tree in enumerate((one, two)):
        root = tmp_path / str(i)
        shutil.rmtree(root, ignore_errors=True)
        plant(root, tree)
        found.append(layer_of(root, spec))
    (key_a, layer_a), (key_b, layer_b) = found
    if key_a == key_b:
        assert layer_a == layer_b
    if layer_a == layer_b and layer_a and not isinstance(layer_a, str):
        assert key_a == key_b or spec.sources != (".",)  # the same files by other names may differ in key


# -- frozen ----------------------------------------------------------------------------------------

FROZEN = {
    "everything": DOCKERFILE,
    "args": "ARG V=1\nFROM base:$V\nARG V\nARG W=$V-x\nRUN echo $W\nRUN [\"exec\", \"form\"]\n",
    "copy": "FROM scratch\nCOPY --chown=1:2 --chmod=755 src/a.py /a\nCOPY --parents --exclude=*.md src ./d/\nADD top /t\n",
    "heredoc": "FROM base\nRUN <<EOF\necho a\nEOF\nRUN <<EOF\n#!/bin/sh\necho b\nEOF\n",
    "mounts": "FROM base\nRUN --mount=type=tmpfs,target=/t --mount=type=ssh --mount=type=cache,id=x,target=/c,uid=5 \\\n  --mount=type=bind,from=other,source=/etc,target=/e,rw true\n",
    "onto a stage": "FROM base AS a\nRUN one\nFROM a\nRUN two\nCOPY --link --from=a /x /y\n",
}  # fmt: skip


def test_frozen_keys(context: Path) -> None:
    """A change here makes every cache in the world miss: bump the recipe's version and say so."""
    found = {name: keys(text, context) for name, text in FROZEN.items()}
    if os.environ.get("LAPSTRAKE_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(GOLDEN.read_text())


def test_a_new_optional_field_changes_no_key() -> None:
    class Thing(Value):
        name: str

    class Later(Value):
        name: str
        more: tuple[str, ...] = ()

    Later.__name__ = "Thing"
    assert encode(Thing("a")) == encode(Later("a")) != encode(Later("a", ("x",)))
