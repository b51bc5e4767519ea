"""registries.conf, daemon.json and the paths they are found at; token services; registry explain."""

import json
import subprocess
import sys
import tomllib

import pytest

from lapstrake import config as settings_of
from lapstrake.cli.flags import Command
from lapstrake.cli.flags import parse as parse_flags
from lapstrake.cli.main import main
from lapstrake.cli.registry import access_of
from lapstrake.cli.registryflags import access_flags
from lapstrake.errors import ResolveError, UsageError
from lapstrake.oci.reference import parse as ref
from lapstrake.registry.auth import Auth, Credentials
from lapstrake.registry.config import Proxies, RegistryConfig, parse
from lapstrake.registry.dial import Dialer, is_public, literal
from lapstrake.registry.explain import explain
from lapstrake.registry.files import RegistryFiles, load, read_registries_conf
from lapstrake.registry.realms import may_have_credentials, same_domain
from lapstrake.values import replace

CONF = """
unqualified-search-registries = ["docker.io"]
[[registry]]
location = "quay.example"
insecure = true
[[registry]]
prefix = "quay.example/team"
location = "harbor.example/proxy/team"
[[registry.mirror]]
location = "mirror.example:5000/quay/team"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "localhost:5001"
insecure = true
[[registry]]
prefix = "*.evil.example"
blocked = true
[[registry]]
prefix = "docker.io"
location = "docker.io"
mirror-by-digest-only = true
[[registry.mirror]]
location = "hub.example/cache"
[aliases]
"fedora" = "registry.fedora.example/fedora"
"""


def files(tmp_path, conf=CONF, daemon=None, **kw):
    (tmp_path / "registries.conf").write_text(conf)
    (tmp_path / "daemon.json").write_text(json.dumps(daemon or {}))
    return RegistryFiles(
        registries_conf=(str(tmp_path / "registries.conf"), str(tmp_path / "registries.conf.d")),
        daemon_json=(str(tmp_path / "daemon.json"), str(tmp_path / "none.json")),
        **kw,
    )


def places(config, name, **kw):
    r = ref(name)
    return [
        (h.address, h.repository(r.repository), h.verify)
        for h in config.hosts_for(r.registry, r.repository, **kw)
    ]


def test_registries_conf(tmp_path):
    config = load({}, files(tmp_path))
    origin = ("registry-1.docker.io", "library/a", True)
    assert places(config, "quay.example/other/app") == [("quay.example", "other/app", False)]
    team = places(config, "quay.example/team/app", by_digest=True)
    assert team == [
        ("mirror.example:5000", "quay/team/app", True),
        ("localhost:5001", "app", False),
        ("harbor.example", "proxy/team/app", True),
    ]
    assert [p[0] for p in places(config, "quay.example/team/app")] == ["localhost:5001", "harbor.example"]
    # a push goes where the name says, never to mirrors or rewritten locations
    assert places(config, "quay.example/team/app", push=True) == [("quay.example", "team/app", True)]
    assert places(config, "quay.example/teams/app") == [("quay.example", "teams/app", False)]
    assert places(config, "a") == [origin]
    assert places(config, "a", by_digest=True) == [("hub.example", "cache/library/a", True), origin]
    for push in (False, True):
        with pytest.raises(ResolveError, match=r"registry \*.evil.example is blocked in .*registries.conf"):
            config.hosts_for("x.evil.example", "a", push=push)
    # a Dockerfile's `FROM fedora` is Docker Hub's, unless short names are wanted
    assert places(config, "fedora")[-1][0] == "registry-1.docker.io"
    short = load({}, files(tmp_path, short_names=True))
    assert places(short, "fedora") == [("registry.fedora.example", "fedora", True)]
    assert places(short, "fedora", push=True) == [("registry-1.docker.io", "library/fedora", True)]


def test_own_tables_win_over_other_programs_files(tmp_path):
    daemon = {"registry-mirrors": ["https://hub-mirror.example/"], "insecure-registries": ["10.0.0.0/8", "lax.example"]}  # fmt: skip
    config = load({"docker.io": {"mirrors": ["mine.example"]}}, files(tmp_path, "", daemon))
    assert [h.address for h in config.hosts_for("docker.io")] == ["mine.example", "registry-1.docker.io"]
    config = load({}, files(tmp_path, "", daemon))
    first = config.hosts_for("docker.io")[0]
    assert (first.address, first.namespace, first.why) == (
        "hub-mirror.example",
        "docker.io",
        "registry-mirrors of daemon.json",
    )
    assert [
        config.hosts_for(r)[0].verify for r in ("10.1.2.3:5000", "lax.example", "11.1.2.3", "x.example")
    ] == [False, False, True, True]
    assert load({"lax.example": {"insecure": False}}, files(tmp_path, "", daemon)).hosts_for("lax.example")[0].verify  # fmt: skip
    strict = load({"lax.example": {"insecure": True}}, files(tmp_path, "", daemon, tls_verify=True))
    assert strict.hosts_for("lax.example")[0].schemes == ("https",)


def test_drop_in_files_replace_rules_of_the_same_prefix(tmp_path):
    given = files(tmp_path)
    folder = tmp_path / "registries.conf.d"
    folder.mkdir()
    (folder / "b.conf").write_text('[[registry]]\nlocation = "quay.example"\n')
    (folder / "c.conf").write_text('[[registry]]\nlocation = "quay.example"\nblocked = true\n')
    (folder / "d.txt").write_text("nonsense")
    with pytest.raises(ResolveError, match="blocked in .*c.conf"):
        load({}, given).hosts_for("quay.example", "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[registry]]\n", "neither prefix nor location"),
        ("registry = [1]", "must be a table"),
        ('[[registry]]\nlocation = "a"\nblocked = 1', "blocked must be true or false"),
        ("[[registry]]\nlocation = 1", "location must be a string"),
        ('[[registry]]\nprefix = "*.a"\nlocation = "b"', "wildcard"),
        (
            '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "u:p@b"',
            "invalid mirror location",
        ),
        (
            '[[registry]]\nlocation = "a"\n[[registry.mirror]]\nlocation = "b"\npull-from-mirror = "x"',
            "pull-from-mirror",
        ),
    ],
)
def test_damaged_registries_conf(text, message):
    with pytest.raises(UsageError, match=message):
        read_registries_conf(tomllib.loads(text), "f")


def test_damaged_files(tmp_path):
    assert read_registries_conf({"registry": {"insecure": {}}}, "version 1") == ([], {})
    with pytest.raises(UsageError, match="failed to read .*registries.conf"):
        load({}, files(tmp_path, "["))
    for daemon in ([1], {"registry-mirrors": 1}):
        given = files(tmp_path, "")
        (tmp_path / "daemon.json").write_text(json.dumps(daemon))
        with pytest.raises(UsageError, match="daemon.json"):
            load({}, given)


def test_where_files_are_looked_for(tmp_path):
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run/user/7", "REGISTRY_AUTH_FILE": "/a.json", "ALL_PROXY": "http://all:1",
           "https_proxy": "http://s:1", "SSL_CERT_FILE": "/ca.pem", "PATH": "/bin"}  # fmt: skip
    settings = settings_of.load(str(tmp_path), None, env)
    found = settings_of.registry_files(settings)
    assert found.auth_files == (
        "/a.json", f"{tmp_path}/.docker/config.json", "/run/user/7/containers/auth.json", f"{tmp_path}/.config/containers/auth.json"
    )  # fmt: skip
    assert found.registries_conf[0] == "/etc/containers/registries.conf"
    assert found.proxies == Proxies("http://all:1", "http://s:1", "")
    assert found.ca_bundle == "/ca.pem"
    assert f"{tmp_path}/.config/containers/certs.d" in found.certs_dirs
    own = tmp_path / ".config/containers/registries.conf"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert settings_of.registry_files(settings).registries_conf[0] == str(own)
    env["CONTAINERS_REGISTRIES_CONF"] = "/dev/null"
    access = settings_of.RegistryAccess("/only.json", (("r.example", "u", "secret"),), "/certs", False)
    settings = replace(settings_of.load(str(tmp_path), None, env), access=access)
    found = settings_of.registry_files(settings)
    assert (found.registries_conf, found.auth_files) == (("/dev/null",), ("/only.json",))
    assert "secret" not in repr(found) + repr(settings) + repr(access)


@pytest.mark.parametrize(
    ("registry", "realm", "allowed"),
    [
        ("docker.io", "https://auth.docker.io/token", True),
        ("docker.io", "https://auth.docker.io.evil.example/token", False),
        ("docker.io", "https://evil.example/token", False),
        ("registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("ghcr.io", "https://ghcr.io/token", True),
        ("registry.corp.example.com", "https://auth.example.com/token", True),
        ("registry.digitalocean.com", "https://api.digitalocean.com/v2/registry/auth", True),
        ("team.azurecr.io", "https://evil.azurecr.io/oauth2/token", False),
        ("team.jfrog.io", "https://evil.jfrog.io/token", False),
        ("a.github.io", "https://b.github.io/token", False),
        ("a.co.uk", "https://b.co.uk/token", False),
        ("registry.corp", "https://auth.corp/token", False),  # nobody knows who owns that
        ("10.0.0.1", "https://10.0.0.2/token", False),
        ("10.0.0.1:5000", "https://10.0.0.1:5001/token", True),
        ("localhost:5000", "http://127.0.0.1:5001/token", True),
        ("registry.example.com", "https://evil.example.com.", True),
        ("trusting.example", "https://auth.elsewhere/token", True),
    ],
)
def test_which_token_service_may_be_told(registry, realm, allowed):
    config = parse({"trusting.example": {"realms": ["auth.elsewhere"]}})
    assert may_have_credentials(config.hosts_for(registry)[-1], realm) is allowed


def test_domains():
    assert same_domain("a.example.com", "b.c.example.com")
    assert not same_domain("localhost", "localhost")
    assert not same_domain("1.2.3.4", "9.2.3.4")


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("10.1.1.1", False), ("169.254.169.254", False), ("127.0.0.1", False), ("::1", False),
     ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:10.0.0.1", False), ("::ffff:8.8.8.8", True), ("64:ff9b::7f00:1", False),
     ("2002:7f00:1::", False), ("100.64.0.1", False), ("224.0.0.1", False), ("0.0.0.0", False)],
)  # fmt: skip
def test_public_addresses(address, public):
    assert is_public(address) is public


def test_odd_spellings_of_addresses():
    assert [literal(n) for n in ("2130706433", "0x7f.1", "017700000001", "::1", "a.example", "8.8.8.8")] == [
        "127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "", "8.8.8.8"
    ]  # fmt: skip
    dialer = Dialer({})
    for name in ("2852039166", "localhost", "::1", "192.168.1.1"):
        with pytest.raises(ResolveError, match="private network"):
            dialer.check_name(name)
    dialer.check_name("a.example")


def test_a_public_name_does_not_become_private():
    answers = iter([[(2, 1, 6, "", ("192.0.2.1", 9))], [(2, 1, 6, "", ("127.0.0.1", 9))]])
    dialer = Dialer({}, lambda name, port: next(answers))
    dialer._private["a.example"] = False  # as after a connection to a public address
    with pytest.raises(ResolveError, match="private network"):
        dialer.connect("a.example", 9, 1, public_only=False)
    with pytest.raises(ResolveError, match="private network"):
        dialer.connect("b.example", 9, 1, public_only=True)


def test_explain(tmp_path):
    certs = tmp_path / "certs.d" / "mirror.example:5000"
    certs.mkdir(parents=True)
    for name in ("ca.crt", "client.cert", "client.key", "README"):
        (certs / name).write_text("")
    (tmp_path / "config.json").write_text(
        json.dumps({"auths": {"mirror.example:5000": {"auth": "YW5uOnB3"}}})
    )
    config = RegistryConfig(
        entries=parse({"docker.io": {"mirrors": ["mirror.example:5000/hub"]}}).entries,
        certs_dirs=(str(tmp_path / "certs.d"),),
        proxies=Proxies("", "http://me:pw@proxy.example:3128", "registry-1.docker.io"),
    )
    auth = Auth(docker_config=str(tmp_path), explicit={"docker.io": Credentials(identity_token="secret")})
    mirror, origin = explain(config, auth, ref("alpine"))
    assert mirror.lines() == [
        'mirror.example:5000  (mirror of [registry."docker.io"])',
        "     repository:  hub/library/alpine",
        "     scheme:      https",
        f"     CA:          {certs}/ca.crt",
        f"     client cert: {certs}/client.cert",
        f"     credentials: user ann (auths of mirror.example:5000 in {tmp_path}/config.json)",
        "     proxy:       http://proxy.example:3128",
    ]
    assert origin.lines()[-1] == "     credentials: an identity token (the command line)"
    assert "secret" not in json.dumps(origin.to_json()) and "pw" not in json.dumps(mirror.to_json())


def test_explain_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", "/dev/null")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("LAPSTRAKE_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("LAPSTRAKE_CONFIG", raising=False)
    words = ["registry", "explain", "ghcr.io/a/b", "--creds", "ann:p=w:x", "--tls-verify=false"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "1. ghcr.io  (the registry itself)" in out and "user ann (the command line)" in out
    assert "https, then http (certificates are not verified)" in out and "p=w" not in out
    assert main([*words, "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["push"][0]["address"] == "ghcr.io"
    assert main(["registry", "explain", "ghcr.io/a", "--creds", "other.example=u:p"]) == 0
    assert "none (anonymous)" in capsys.readouterr().out
    for bad in (["--creds", "u"], ["--authfile", "/none"], ["--cert-dir", "/none"]):
        assert main(["registry", "explain", "a", *bad]) == 2
    assert main(["build", "--creds", "u:p", str(tmp_path)]) == 2
    assert "--creds REGISTRY=USER:PASSWORD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--retry=0"], ()),
        (["--retry=3"], (0.25, 0.5, 1.0)),
        (["--retry=9"], (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)),
        (["--retry", "2", "--retry-delay", "1500ms"], (1.5, 1.5)),
        (["--retry-delay=2s"], (2.0,) * 7),
    ],
)
def test_retries_on_the_command_line(words, expected):
    args = parse_flags(Command("x", flags=access_flags()), words)
    assert access_of(args, ()).backoff == expected


@pytest.mark.parametrize(
    "words", [["--retry=-1"], ["--retry=101"], ["--retry-delay=x"], ["--retry-delay=1h"]]
)
def test_odd_retries(words):
    with pytest.raises(UsageError, match="--retry"):
        access_of(parse_flags(Command("x", flags=access_flags()), words), ())


def test_a_build_that_asks_nobody_imports_no_network():
    code = "import lapstrake.cli.build, lapstrake.engine.engine, sys; print([m for m in sys.modules if 'registry.' in m or m in ('http.client', 'ssl', 'publicsuffixlist')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
