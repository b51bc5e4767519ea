"""Checks that BuildKit does not have (spec lint.md §6).

Their names begin with ``Lapstrake``, so that ``skip`` and ``experimental`` lists mean the same to
BuildKit, which accepts names it does not know.  All but those in ``BY_DEFAULT`` run only when
they are named in ``experimental``, or with the group name ``Lapstrake`` there.
"""

from __future__ import annotations

from . import instructions as ins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PREFIX = "Lapstrake"

#: rule name -> what it means
EXTRA_RULES = {
    "LapstrakeCopyToOneFile": "A destination of several sources should end with a slash",
    "LapstrakeUnpinnedBase": "A base image without a tag, or with the tag latest, changes under the build",
    "LapstrakeAptUpdateAlone": "A package index in a layer of its own is reused when it is out of date",
    "LapstrakeAddForCopy": "COPY says what is meant where nothing is downloaded or unpacked",
    "LapstrakeRootUser": "The image's processes run as root",
    "LapstrakeNoHealthcheck": "The image does not say how its health is checked",
    "LapstrakeUnusedStage": "A stage that the target does not need is not run",
    "LapstrakeUnusedArg": "A build argument that nothing refers to",
    "LapstrakeSudo": "RUN is root already, or has the USER it was given; sudo hides which",
    "LapstrakeSecretFile": "A file that usually holds credentials becomes part of the image",
}
BY_DEFAULT = frozenset(("LapstrakeCopyToOneFile",))

_ARCHIVES = (".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".tzst")
_SECRET_NAMES = frozenset(
    (".env", ".netrc", ".npmrc", ".pypirc", ".pgpass", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
     "credentials", "credentials.json", ".dockerconfigjson", "kubeconfig")
)  # fmt: skip
_SECRET_ENDINGS = (".pem", ".key", ".p12", ".pfx", ".jks", ".keystore")
Finding = tuple[str, str, ins.Instruction]


def check_extra(
    dockerfile: ins.Dockerfile, needed: Collection[int] | None, target: ins.Stage | None = None
) -> Iterator[Finding]:
    """(rule, message, where) of the stages in ``needed`` (None: all).  ``target``: the result stage."""
    final = target or (dockerfile.stages[-1] if dockerfile.stages else None)
    names: set[str] = set()
    for stage in dockerfile.stages:
        if needed is None or stage.index in needed:
            yield from _base(stage, names)
            for at in stage.instructions:
                if isinstance(at, ins.CopyAdd):
                    yield from _copy(at)
                elif isinstance(at, ins.Run):
                    yield from _run(at)
            yield from _unused_args(stage)
        elif stage is not final:
            yield "LapstrakeUnusedStage", f"Stage '{_shown(stage)}' is not needed by the target", stage.base
        names.add(stage.name)
    if final is not None:
        yield from _result(dockerfile, final)


def _shown(stage: ins.Stage) -> str:
    return stage.base.name_raw or f"stage-{stage.index}"


def _base(stage: ins.Stage, earlier: set[str]) -> Iterator[Finding]:
    image = stage.base.image
    last = image.rpartition("/")[2]
    if "$" in image or image == "scratch" or image in earlier or "@" in last:
        return
    if ":" not in last or last.endswith(":latest"):
        yield "LapstrakeUnpinnedBase", f"Base image '{image}' has no tag that says which version", stage.base


def _copy(at: ins.CopyAdd) -> Iterator[Finding]:
    word = at.keyword
    many = len(at.sources) + len(at.heredocs) > 1
    if (
        many
        and not at.parents
        and not at.dest.endswith("/")
        and at.dest.rpartition("/")[2] not in (".", "..")
    ):
        message = f"{word} of several sources to '{at.dest}', which has no slash at its end"
        yield "LapstrakeCopyToOneFile", message, at
    local = [s for s in at.sources if "://" not in s and not s.startswith("git@")]
    if at.add and not at.heredocs and len(local) == len(at.sources) and at.unpack is None:
        plain = not any("$" in s or "*" in s or s.lower().endswith(_ARCHIVES) for s in local)
        if plain:
            yield "LapstrakeAddForCopy", f"{word} of local files should be COPY", at
    if not at.from_:
        for source in local:
            name = source.rstrip("/").rpartition("/")[2].lower()
            if name in _SECRET_NAMES or name.endswith(_SECRET_ENDINGS):
                yield "LapstrakeSecretFile", f"'{source}' usually holds credentials; use a secret mount", at


def _run(at: ins.Run) -> Iterator[Finding]:
    text = " ".join([*at.command.args, *(h.content for h in at.command.heredocs)])
    words = text.replace(";", " ; ").replace("&&", " && ").split()
    if "sudo" in words:
        yield "LapstrakeSudo", "RUN should not use sudo", at
    for tool in ("apt-get", "apt"):
        if tool in words and "update" in words and "install" not in words and "upgrade" not in words:
            yield "LapstrakeAptUpdateAlone", f"'{tool} update' should be in the RUN that installs", at
            return


def _unused_args(stage: ins.Stage) -> Iterator[Finding]:
    """ARGs whose name occurs nowhere after them in the stage (a RUN may read any from its environment)."""
    runs = any(isinstance(i, ins.Run) for i in stage.instructions)
    for n, at in enumerate(stage.instructions):
        if not isinstance(at, ins.Arg):
            continue
        rest = "\n".join(_text(i) for i in stage.instructions[n + 1 :])
        rest += " ".join(p.default or "" for p in at.args)
        for pair in at.args:
            if pair.name not in rest and not (runs and pair.name.isupper()):
                yield "LapstrakeUnusedArg", f"Build argument '{pair.name}' is not used in the stage", at


def _text(at: ins.Instruction) -> str:
    bodies = getattr(at, "heredocs", ()) or getattr(getattr(at, "command", None), "heredocs", ())
    return at.original + "".join(h.content for h in bodies)


def _result(dockerfile: ins.Dockerfile, final: ins.Stage) -> Iterator[Finding]:
    user: str | None = None
    health = False
    stage: ins.Stage | None = final
    while stage is not None:
        for at in reversed(stage.instructions):
            if isinstance(at, ins.User) and user is None:
                user = at.user
            health = health or isinstance(at, ins.Healthcheck)
        earlier = [s for s in dockerfile.stages[: stage.index] if s.name and s.name == stage.base.image]
        stage = earlier[-1] if earlier else None
    if user is None or user.partition(":")[0] in ("root", "0"):
        yield "LapstrakeRootUser", "The last USER should not be root", final.base
    if not health:
        yield "LapstrakeNoHealthcheck", "There is no HEALTHCHECK", final.base
