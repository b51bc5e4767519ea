"""COPY and ADD as the specification's tables have them, one build for many cases (dockerfile.md §12, §18)."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.e2e.language import Case

pytestmark = pytest.mark.e2e

FILES = {
    "f": ("F", 0o640),
    "d/g": "G",
    "d/s/h": "H",
    "d/s/x.md": "md",
    "e.md": "e",
    ".hid": ".",
    "ln": ("d/g",),
    "dl": ("d",),
    "abs": ("/d/g",),
}
BASE = (
    "FROM busybox AS b\n"
    "RUN mkdir -p /o/etc /o/exist && chmod 711 /o/exist && ln -s /exist /o/ln && chmod 700 /o/etc\n"
    "FROM scratch\nCOPY --from=b /o /\nWORKDIR /w\n"
)


@pytest.fixture
def case(shared_lap, tmp_path):
    return Case(shared_lap, tmp_path)


# (instruction, {path: (mode, uid, gid, content)} that must be there, paths that must not)
TABLE = [
    ("COPY f new", {"w/new": (0o640, 0, 0, "F")}, ["w/new/"]),
    ("COPY f newd/", {"w/newd/": (0o755, 0, 0, ""), "w/newd/f": (0o640, 0, 0, "F")}, []),
    ("COPY f /exist", {"exist/f": (0o640, 0, 0, "F"), "exist/": (0o711, 0, 0, "")}, []),
    ("COPY f /ln/f2", {"exist/f2": (0o640, 0, 0, "F"), "ln": (0o777, 0, 0, "-> /exist")}, []),
    ("COPY d /ln", {"exist/g": (0o644, 0, 0, "G"), "exist/s/h": (0o644, 0, 0, "H")}, []),
    ("COPY d /fresh", {"fresh/": (0o755, 0, 0, ""), "fresh/s/h": (0o644, 0, 0, "H")}, ["fresh/d/"]),
    ("COPY dl /dl2", {"dl2/g": (0o644, 0, 0, "G")}, []),
    ("COPY ln /lnc", {"lnc": (0o644, 0, 0, "G")}, []),
    ("COPY abs /absc", {"absc": (0o644, 0, 0, "G")}, []),
    ("COPY ../../f /t", {"t": (0o640, 0, 0, "F")}, []),
    ("COPY nope* /nn/", {}, ["nn/"]),
    ("COPY --chown=7 f /own", {"own": (0o640, 7, 7, "F")}, []),
    ("COPY --chown=7:8 --chmod=0751 d /ownd", {"ownd/": (0o751, 7, 8, ""), "ownd/g": (0o751, 7, 8, "G")}, []),
    (
        "COPY * /all/",
        {
            "all/f": (0o640, 0, 0, "F"),
            "all/g": (0o644, 0, 0, "G"),
            "all/s/h": (0o644, 0, 0, "H"),
            "all/.hid": (0o644, 0, 0, "."),
            "all/ln": (0o644, 0, 0, "G"),
        },
        ["all/d/"],
    ),
    ("COPY d/* /dd/", {"dd/g": (0o644, 0, 0, "G"), "dd/h": (0o644, 0, 0, "H")}, ["dd/s/"]),
    (
        "COPY --parents d/s/h f /p1/",
        {"p1/d/s/h": (0o644, 0, 0, "H"), "p1/f": (0o640, 0, 0, "F")},
        ["p1/d/g"],
    ),
    ("COPY --parents d/./s/h /p2/", {"p2/s/h": (0o644, 0, 0, "H")}, ["p2/d/"]),
    ("COPY --parents **/h /p3", {"p3/d/s/h": (0o644, 0, 0, "H")}, ["p3/d/g"]),
    ("COPY --parents ./d/s/h /p4/", {"p4/d/s/h": (0o644, 0, 0, "H")}, []),
    ("COPY --exclude=s d /ex/", {"ex/g": (0o644, 0, 0, "G")}, ["ex/s/"]),
    ("COPY --exclude=*.md e* f /ex3/", {"ex3/f": (0o640, 0, 0, "F")}, ["ex3/e.md"]),
    (
        "COPY --exclude=s --exclude=!s/h d /ex4",
        {"ex4/s/h": (0o644, 0, 0, "H"), "ex4/g": (0o644, 0, 0, "G")},
        ["ex4/s/x.md"],
    ),
    (
        "COPY --chmod=u=rwX,go=rX d /sym/",
        {"sym/g": (0o644, 0, 0, "G"), "sym/s/": (0o755, 0, 0, ""), "sym/s/h": (0o644, 0, 0, "H")},
        [],
    ),
    ('COPY ["e.md","f","/js/"]', {"js/e.md": (0o644, 0, 0, "e"), "js/f": (0o640, 0, 0, "F")}, []),
    ("COPY ./d/../f /cl", {"cl": (0o640, 0, 0, "F")}, []),
    ("COPY d/ /ds", {"ds/g": (0o644, 0, 0, "G")}, ["ds/d/"]),
    ("COPY f /deep/er/f", {"deep/": (0o755, 0, 0, ""), "deep/er/f": (0o640, 0, 0, "F")}, []),
    ("COPY --from=b /o/exist /fx", {"fx/": (0o755, 0, 0, "")}, []),
]


def test_the_table_of_copies(case):
    found = case.tree(BASE + "".join(row[0] + "\n" for row in TABLE), files=FILES)
    for instruction, there, absent in TABLE:
        for path, want in there.items():
            assert found.get(path) == want, (instruction, path, found.get(path))
        for path in absent:
            assert path not in found, (instruction, path)


def test_link_replaces_a_symbolic_link_in_the_base(case):
    found = case.tree(BASE + "COPY --link f /ln/\n", files=FILES)
    assert found["ln/"][0] == 0o755
    assert found["ln/f"] == (0o640, 0, 0, "F")
    assert "exist/f" not in found


def test_heredocs_as_sources(case):
    dockerfile = (
        "FROM scratch\nENV Y=y\n"
        "COPY <<EOF /a\nx $Y ${Z:-d} \\$Y \"q\" 's' \\n\nEOF\n"
        'COPY <<"EOF" /b\nx $Y\nEOF\n'
        "COPY <<-EOF /c\n\ttab\n\t\tt2\n\tEOF\n"
        "COPY --chmod=755 --chown=3:4 <<r.sh <<s.sh /d/\n1\nr.sh\n2\ns.sh\n"
        "ADD <<EOF /e\r\nx\r\nEOF\r\n"
        'COPY <<E"O"F /f\n$Y\nEOF\n'
        "COPY <<EOF /dir/\nno\nEOF\n"
        "COPY <<one local /mixed/\n1\none\n"
    )
    found = case.tree(dockerfile, files={"local": "l"})
    assert found["a"] == (0o644, 0, 0, "x y d $Y \"q\" 's' n\n")
    assert found["b"][3] == "x $Y\n"
    assert found["c"][3] == "tab\nt2\n"
    assert found["d/r.sh"] == (0o755, 3, 4, "1\n")
    assert found["d/s.sh"] == (0o755, 3, 4, "2\n")
    assert found["e"][3] == "x\r\n"
    assert found["f"][3] == "$Y\n"
    assert found["dir/EOF"][3] == "no\n"
    assert (found["mixed/one"][3], found["mixed/local"][3]) == ("1\n", "l")


ERRORS = [
    (
        "COPY nope /x",
        'failed to compute cache key: failed to calculate checksum of ref context: "/nope": not found',
    ),
    ("COPY f /d\nCOPY d /d", "cannot copy to non-directory: /d"),
    (
        "COPY --chmod=888 f /",
        "invalid chmod parameter: '888'. it should be octal string and between 0 and 07777",
    ),
    ("COPY --chown=foo f /", "unable to find user foo: no matching entries in passwd file"),
    ("COPY http://x/y /", "source can't be a URL for COPY"),
    ("COPY git@x:y/z /", "source can't be a git ref for COPY"),
    ("ADD --checksum=sha256:x f /", "checksum requires HTTP(S) or Git sources"),
    ("ADD --checksum=sha256:x http://x/y f /", "checksum can't be specified for multiple sources"),
    ("COPY --from=7 f /", "invalid stage index 7"),
    (
        "COPY --from=$X f /",
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
    ),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_of_copies(case, text, message):
    assert case.error("FROM busybox\n" + text + "\n", files=FILES) == message


def test_a_file_over_a_directory(case):
    message = case.error("FROM scratch\nCOPY d /x\nCOPY s /x/\n", files=FILES | {"s": "s"})
    assert message == "cannot replace to directory /x/s with file"


def test_the_cause_of_a_missing_source_is_named(case):
    files = {".dockerignore": "# c\nfoo\nign\n", "ign": "x", "config.yaml": "c", "dangling": ("nowhere",)}
    hidden = case.build("FROM scratch\nCOPY ign /\n", files=files, check=False).stderr
    assert 'hint: /ign exists but .dockerignore:3 "ign" excludes it' in hidden
    close = case.build("FROM scratch\nCOPY confg.yaml /\n", files=files, check=False).stderr
    assert "hint: did you mean config.yaml?" in close
    link = case.build("FROM scratch\nCOPY dangling /\n", files=files, check=False).stderr
    assert "/dangling is a symbolic link to nowhere" in link


def archive(name: str, mode: str = "") -> bytes:
    """A tar with one file, compressed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.gid, info.mtime = 1, 0o4640, 5, 6, 1500000000
        tar.addfile(info, io.BytesIO(b"x"))
    data = out.getvalue()
    if mode == "zstd":
        import zstandard

        return zstandard.ZstdCompressor().compress(data)
    pack = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[mode]
    return pack(data)


def test_archives_are_known_by_their_content(case):
    pytest.importorskip("zstandard")
    files = {
        "a.txt": archive("A", "gzip"),
        "b": archive("B", "xz"),
        "c.zip": archive("sub/C", "bzip2"),
        "d": archive("D", "zstd"),
        "e": archive("E"),
        "no.tar.gz": "text",
        "empty.tar.gz": "",
        "packed-text": gzip.compress(b"not a tar"),
        "link": ("e",),
    }
    found = case.tree(
        "FROM scratch\nADD a.txt b c.zip d e no.tar.gz empty.tar.gz packed-text /x/\n"
        "ADD --unpack=false e /y/\nADD --chown=9:8 e /own/\nADD link /link/\nCOPY e /cp/\n",
        files=files,
    )
    for name in ("A", "B", "sub/C", "D", "E"):
        assert found["x/" + name] == (0o4640, 5, 6, "x"), name
    assert found["x/"][:3] == (0o755, 0, 0)
    assert found["x/no.tar.gz"][3] == "text"
    assert found["x/empty.tar.gz"][3] == ""
    assert "x/packed-text" in found
    assert found["own/E"][:3] == (0o4640, 9, 8)
    assert found["link/E"][3] == "x"
    assert len(found["y/e"][3]) == len(found["cp/e"][3]) == len(files["e"])


@pytest.fixture
def server():
    """A web server; ``server.seen`` holds (method, path, Authorization, If-None-Match)."""
    seen: list[tuple] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def reply(self, status, body=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self):
            seen.append(
                (self.command, self.path, self.headers["Authorization"], self.headers["If-None-Match"])
            )
            if self.path == "/f.txt":
                self.reply(200, b"hello", Last_Modified="Sun, 13 Sep 2020 12:26:40 GMT")
            elif self.path == "/redir":
                self.reply(302, Location="/f.txt")
            elif self.path == "/etag":
                same = self.headers["If-None-Match"] == '"v1"'
                self.reply(304 if same else 200, b"" if same else b"E", ETag='"v1"')
            elif self.path == "/secret":
                self.reply(200 if self.headers["Authorization"] else 401, b"S")
            elif self.path == "/t.tgz":
                self.reply(200, archive("A", "gzip"))
            elif self.path == "/":
                self.reply(200, b"root")
            else:
                self.reply(404)

        do_HEAD = do_GET

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    httpd.seen = seen
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    yield httpd
    httpd.shutdown()
    httpd.server_close()


HELLO = hashlib.sha256(b"hello").hexdigest()


def test_adding_urls(case, server):
    url = server.url
    found = case.tree(
        f"FROM scratch\nADD {url}/f.txt /a/\nADD {url}/redir /b\nADD {url}/ /r/\n"
        f"ADD --chmod=755 --chown=3 {url}/f.txt local {url}/t.tgz /m/\n"
        f"ADD --checksum=sha256:{HELLO} {url}/f.txt /ck\nADD --unpack {url}/t.tgz /un/\n",
        files={"local": "l"},
    )
    assert found["a/f.txt"] == (0o600, 0, 0, "hello")
    assert found["b"] == (0o600, 0, 0, "hello")
    assert found["r/__unnamed__"][3] == "root"
    assert found["m/f.txt"] == (0o755, 3, 3, "hello")
    assert found["m/local"] == (0o755, 3, 3, "l")
    assert "m/t.tgz" in found and "m/A" not in found
    assert found["un/A"] == (0o4640, 5, 6, "x")


def test_one_add_of_many_sources_is_one_layer(case, server):
    config = case.config(f"FROM scratch\nADD {server.url}/f.txt l {server.url}/redir /m/\n", files={"l": "l"})
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == 1


def test_urls_that_fail(case, server):
    url = server.url
    assert case.error(f"FROM scratch\nADD {url}/nope /a\n") == "invalid response status 404"
    wrong = "0" * 64
    assert case.error(f"FROM scratch\nADD --checksum=sha256:{wrong} {url}/f.txt /a\n") == (
        f"digest mismatch for {url}/f.txt: sha256:{HELLO} (expected: sha256:{wrong})"
    )
    assert (
        case.error(f"FROM scratch\nADD --checksum=sha256:12 {url}/f.txt /a\n")
        == "invalid checksum digest length"
    )


def test_urls_are_asked_again_but_not_fetched_again(case, server):
    text = f"FROM scratch\nADD {server.url}/etag /x\n"
    case.tree(text)
    assert [s[0] for s in server.seen] == ["GET"]
    assert case.tree(text)["x"][3] == "E"
    assert [(s[0], s[3]) for s in server.seen[1:]] == [("HEAD", '"v1"')]
    pinned = f"FROM scratch\nADD --checksum=sha256:{HELLO} {server.url}/f.txt /x\n"
    case.tree(pinned)
    before = len(server.seen)
    case.tree(pinned)
    assert len(server.seen) == before


def test_credentials_of_a_host_come_from_secrets(case, server):
    host = server.url.removeprefix("http://")
    found = case.tree(
        f"FROM scratch\nADD {server.url}/secret /s\n",
        "--secret", f"id=HTTP_AUTH_TOKEN_{host},env=TOKEN",
        env={"TOKEN": "tok"},
    )  # fmt: skip
    assert found["s"][3] == "S"
    assert {s[2] for s in server.seen} == {"Bearer tok"}
    assert case.error(f"FROM scratch\nADD {server.url}/secret /s\n", "--no-cache").endswith("status 401")
