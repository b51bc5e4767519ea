"""Dockerfiles that buildah and Lapstrake both build (scripts/differential.py, tests/e2e/test_differential.py).

``differs``: the beginning of a difference -> why it is there.
"""

from __future__ import annotations

import io
import tarfile

B = "FROM busybox\n"
FILES = {
    "f": ("F", 0o640), "d/g": "G", "d/s/h": "H", "d/s/x.md": "md", "e.md": "e", ".hid": ".", "run.sh": ("#!/bin/sh\n", 0o755),
    "ln": ("d/g",), "dl": ("d",),
}  # fmt: skip


def _tar(mode: str, name: str = "in/t") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.gid, info.mtime = 1, 0o640, 5, 6, 1500000000
        tar.addfile(info, io.BytesIO(b"x"))
    return out.getvalue()


ARCHIVES = {
    "a.tar": _tar(""),
    "a.tgz": _tar("gz"),
    "a.tbz": _tar("bz2"),
    "a.txz": _tar("xz"),
    "fake.tar.gz": "text",
}

CASES: list[dict[str, object]] = []


def case(name: str, dockerfile: str, files: dict[str, object] | None = None, flags=(), differs=None) -> None:
    """Add one."""
    CASES.append(
        {
            "name": name,
            "dockerfile": dockerfile,
            "files": files or {},
            "flags": flags,
            "differs": differs or {},
        }
    )


# -- RUN ---------------------------------------------------------------------
case("run-shell", B + "RUN echo hi > /x && mkdir -p /a/b && chmod 700 /a\n")
case("run-exec", B + 'RUN ["touch", "/exec form"]\n')
case("run-delete", B + "RUN mkdir /d && touch /d/a /d/b\nRUN rm /d/a\nRUN rm -r /d\n")
case(
    "run-replace-directory", B + "RUN mkdir -p /d/e && touch /d/e/f\nRUN rm -r /d && mkdir /d && touch /d/n\n"
)
case("run-links", B + "RUN touch /a && ln /a /b && ln -s /a /c && ln -s nowhere /d\n")
case(
    "run-modes",
    B + "RUN touch /s && chmod 4755 /s && mkdir /t && chmod 1777 /t && touch /u && chown 12:34 /u\n",
)
case("run-continuation", B + "RUN touch /a && \\\n  # comment\n  touch /b\n")
case("run-env", B + "ENV A=1 B=two\nRUN echo $A $B > /x\n")
case("run-arg", B + "ARG A=1\nARG B\nRUN echo $A-$B > /x\n", flags=("--build-arg", "B=given"))
case(
    "run-user",
    B + "RUN echo 'u:x:7:8::/:/bin/sh' >> /etc/passwd && chmod 777 /srv\nUSER u\nRUN touch /srv/x\n",
)
case("run-user-number", B + "RUN chmod 777 /srv\nUSER 9:10\nRUN touch /srv/x\n")
case("run-workdir", B + "WORKDIR /w\nRUN touch x && pwd > y\n")
case("run-fifo", B + "RUN mkfifo /p\n")
case(
    "run-shell-instruction",
    B + 'SHELL ["/bin/sh","-ec"]\nRUN echo a > /x\nCMD echo hi\n',
    differs={"config.Cmd": "buildah 1.28 does not use SHELL for later commands"},
)
case("run-tmp", B + "RUN touch /tmp/x && stat -c %a /tmp > /y\n")
# -- metadata ----------------------------------------------------------------
case("env-forms", B + 'ENV A=b C="d e" D=f\\ g\nENV old style value\nENV A=new\n')
case("env-expansion", B + "ENV A=1\nENV B=$A C=${A}x D=${X:-d} E=${A:+p} F='$A' G=\"q $A\"\n")
case("env-path", B + "ENV PATH=/opt:$PATH\n")
case("env-same-line", B + "ENV a=1\nENV a=2 b=$a\n")
case("label", B + 'LABEL a=b "c d"="e f" g=$PATH\nLABEL a=c\n')
case("label-flag", B + "LABEL a=b\n", flags=("--label", "a=z", "--label", "q=r"))
case("expose", B + "EXPOSE 80 443/tcp 53/udp\nENV P=99\nEXPOSE $P\n")
case(
    "expose-range",
    B + "EXPOSE 8000-8002\n",
    differs={"config.ExposedPorts": "buildah 1.28 keeps a range as it is written"},
)
case("volume", B + 'VOLUME /a /b\nVOLUME ["/c d"]\n')
case(
    "volume-content",
    B + "RUN mkdir /v && touch /v/a\nVOLUME /v\nRUN touch /v/b\n",
    differs={
        "/v/b": "buildah discards what a RUN does inside a VOLUME, as docker build once did; BuildKit keeps it"
    },
)
case("user", B + "USER a:b\n")
case(
    "workdir",
    B + "WORKDIR /a\nWORKDIR b\nWORKDIR ../c\n",
    differs={"/a": "buildah 1.28 records WORKDIR without making the directory"},
)
case(
    "workdir-variable",
    B + "ENV D=/x/y\nWORKDIR $D/z\n",
    differs={"/x": "buildah 1.28 records WORKDIR without making the directory"},
)
case("workdir-existing", B + "RUN mkdir /x && chmod 700 /x\nWORKDIR /x\n")
case("stopsignal", B + "STOPSIGNAL SIGINT\n")
case("cmd-exec", B + 'CMD ["a", "b c"]\n')
case("cmd-shell", B + "CMD echo hi\n")
case("entrypoint", B + 'ENTRYPOINT ["e"]\nCMD ["c"]\n')
case("entrypoint-clears-cmd", B + 'ENTRYPOINT ["e"]\n')
case("entrypoint-shell", B + "ENTRYPOINT run me\n")
case("cmd-then-entrypoint", B + 'CMD ["c"]\nENTRYPOINT ["e"]\n')
case("healthcheck", B + "HEALTHCHECK --interval=5s --timeout=2s --retries=4 CMD true || false\n")
case("healthcheck-exec", B + 'HEALTHCHECK CMD ["a", "b"]\n')
case("healthcheck-none", B + "HEALTHCHECK NONE\n")
case("onbuild", B + "ONBUILD RUN x\nONBUILD COPY . /y\n")
case("maintainer", B + "MAINTAINER A B <a@b>\n")
case(
    "shell",
    B + 'SHELL ["/bin/ash", "-c"]\nENTRYPOINT x y\n',
    differs={"config.Entrypoint": "buildah 1.28 does not use SHELL for later commands"},
)
# -- COPY and ADD ------------------------------------------------------------
case("copy-file", B + "COPY f /x\nCOPY f /y/\nCOPY f /z/w\n", FILES)
case("copy-directory", B + "COPY d /x\nCOPY d /y/\n", FILES)
case(
    "copy-all",
    "FROM scratch\nCOPY . /\n",
    FILES,
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case("copy-wildcard", B + "COPY *.md /x/\nCOPY d/s/* /y/\nCOPY ? /z/\n", FILES)
case("copy-several", B + "COPY f e.md run.sh /x/\n", FILES)
case("copy-json", B + 'COPY ["f", "e.md", "/a b/"]\n', FILES)
case("copy-existing", B + "RUN mkdir /x && chmod 711 /x && touch /x/g\nCOPY d /x\n", FILES)
case("copy-relative", B + "WORKDIR /w\nCOPY f .\nCOPY f sub/\nCOPY d ./d2\n", FILES)
case("copy-chown", B + "COPY --chown=3:4 d /x\nCOPY --chown=5 f /y\n", FILES)
case("copy-chown-name", B + "COPY --chown=daemon:daemon f /y\n", FILES)
case("copy-chmod", B + "COPY --chmod=600 f /x\n", FILES)
case("copy-variable", B + "ARG S=f\nENV D=/x\nCOPY $S ${D}/y\n", FILES)
case("copy-link-destination", B + "RUN mkdir /real && ln -s /real /ln\nCOPY f /ln/\n", FILES)
case(
    "copy-links-inside",
    "FROM scratch\nCOPY --chown=1:1 . /x/\n",
    {"d/a": "a", "d/l": ("a",), "d/out": ("/etc/passwd",)},
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case(
    "copy-from-stage",
    "FROM busybox AS a\nRUN mkdir /q && echo 1 > /q/x && chown 3:4 /q/x\nFROM scratch\nCOPY --from=a /q /r\n",
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case(
    "copy-from-index",
    "FROM busybox\nRUN echo 1 > /x\nFROM scratch\nCOPY --from=0 /x /y\n",
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case(
    "copy-from-image",
    "FROM scratch\nCOPY --from=busybox /etc/passwd /p\n",
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case("copy-overwrites", B + "COPY f /x\nCOPY e.md /x\nCOPY e.md /etc/passwd\n", FILES)
case(
    "copy-empty-directory",
    "FROM busybox AS a\nRUN mkdir -p /e/f\nFROM scratch\nCOPY --from=a /e /g\n",
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case(
    "copy-dockerignore",
    "FROM scratch\nCOPY . /\n",
    {**FILES, ".dockerignore": "d/s\n*.md\n!e.md\n"},
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case("add-file", B + "ADD f /x/\nADD d /y\n", FILES)
case("add-tar", B + "ADD a.tar /x/\n", ARCHIVES)
case("add-compressed", B + "ADD a.tgz /x/\nADD a.tbz /y/\nADD a.txz /z/\n", ARCHIVES)
case("add-no-archive", B + "ADD fake.tar.gz /x/\nCOPY a.tar /y/\n", ARCHIVES)
case(
    "add-chown",
    B + "ADD --chown=7:8 a.tar /x/\n",
    ARCHIVES,
    differs={"/x": "buildah 1.28 ignores ADD --chown for archives"},
)
# -- stages and files ---------------------------------------------------------
case(
    "stages",
    "FROM busybox AS a\nENV X=1\nRUN touch /a\nFROM a AS b\nRUN touch /b\nFROM b\nRUN echo $X > /c\n",
)
case(
    "stage-target",
    "FROM busybox AS a\nRUN touch /a\nFROM busybox AS b\nRUN touch /b\n",
    flags=("--target", "a"),
)
case("stage-arg", "ARG V=latest\nFROM busybox:$V\nARG V\nLABEL v=$V\n")
case("stage-arg-scope", "ARG V=1\nFROM busybox\nENV X=${V:-unset}\n")
case(
    "stage-debian",
    "FROM debian\nRUN useradd -m bob\nUSER bob\nRUN touch ~/x\nWORKDIR /home/bob/y\n",
    differs={
        "/home/bob/y": "buildah 1.28 records WORKDIR without making the directory",
        "/etc/": "buildah 1.28 with the vfs driver misses a file whose size and time did not change",
    },
)
case(
    "scratch-only",
    'FROM scratch\nENV A=b\nCMD ["/x"]\n',
    differs={
        "config.WorkingDir": "BuildKit and Lapstrake give an image made from nothing the working directory /"
    },
)
case(
    "escape-directive",
    "# escape=`\nFROM busybox\nRUN touch /a && `\n  touch /b\nENV X=C:\\y\n",
    differs={"config.Env": "buildah 1.28 always takes the backslash as the escape character"},
)
case("lower-case", "from busybox\nrun touch /x\ncopy f /y\nenv a=b\n", FILES)
case(
    "onbuild-stage",
    "FROM busybox AS a\nONBUILD RUN touch /triggered\nFROM a\nRUN touch /after\n",
    differs={"/triggered": "buildah 1.28 runs triggers of images only, not of stages"},
)
case("fails-run", B + "RUN exit 3\n")
case("fails-copy", B + "COPY nothing /x\n")
case("fails-unknown", B + "RUNN x\n")
