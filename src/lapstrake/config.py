"""The only reader of environment variables and configuration files.

Everything below gets plain values from the frozen ``Settings`` made here once per process.
"""

from __future__ import annotations

import os

from .errors import UsageError
from .values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .registry.files import RegistryFiles

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_MAX_CONFIG = 1 << 20


class RegistryAccess(Value):
    """What the command line says of registries: ``--authfile --creds --cert-dir --tls-verify``.

    ``creds``: (registry, user, password), for that registry only.  ``backoff``: seconds before each
    repetition, when ``--retry`` or ``--retry-delay`` was given.
    """

    authfile: str = ""
    creds: tuple[tuple[str, str, str], ...] = ()
    cert_dir: str = ""
    tls_verify: bool | None = None
    backoff: tuple[float, ...] | None = None

    def __repr__(self) -> str:
        return f"RegistryAccess(authfile={self.authfile!r})"  # creds are secret


class Settings(Value):
    """What this machine and this user want of every build.

    ``config`` is the TOML file as it is, ``registry`` its ``[registry]`` part (buildkitd.toml's).
    ``environ`` is the client's environment, for build arguments and secrets named after variables.
    """

    root: str
    config: Mapping[str, object] = {}
    config_path: str = ""
    docker_config: str = ""
    builders_dir: str = ""
    platform: str = ""  # DOCKER_DEFAULT_PLATFORM
    source_policy: str = ""  # path of EXPERIMENTAL_BUILDKIT_SOURCE_POLICY
    builder: str = ""
    debug: bool = False
    progress: str = "auto"
    summary: str = "short"
    fold: str = ""  # the CI whose log folds: github, gitlab
    colors: str = ""
    no_color: bool = False
    truncate: bool = False  # PROGRESS_NO_TRUNC=0
    detailed_codes: bool = False  # exit codes that tell denied access, pushes and caches from failed builds
    log_lines: int = 6
    display_rate: float = 0.1
    isolation: str = "auto"
    min_isolation: str = ""
    snapshotter: str = "auto"
    network: str = ""
    jobs: int = 0
    registry: Mapping[str, object] = {}
    proxies: tuple[tuple[str, str], ...] = ()
    tmp: str = "/tmp"
    home: str = ""
    uid: int = 0
    environ: Mapping[str, str] = {}
    access: RegistryAccess = RegistryAccess()
    ids_note: str = ""  # what the user should know about the user namespace we are in
    no_namespace: str = ""  # why there is none, where one was wanted
    mend: str = ""  # what gives us one

    def __repr__(self) -> str:
        return f"Settings(root={self.root!r}, config_path={self.config_path!r})"  # environ may hold secrets


def load(
    root: str | None = None,
    config: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    builder: str = "",
    debug: bool = False,
) -> Settings:
    """Read everything.  Arguments win over variables, variables over the file, the file over defaults."""
    env = dict(os.environ) if environ is None else dict(environ)
    from .oci.platform import set_host

    set_host(os.uname().machine)
    uid = os.geteuid()
    home = env.get("HOME", "") or ("/root" if uid == 0 else "/")
    path = config or env.get("LAPSTRAKE_CONFIG", "")
    table = _read_toml(path, must_exist=True) if path else {}
    if not path:
        path = _default_config(env, home, uid)
        table = _read_toml(path, must_exist=False)
    build = _table(table, "build", path)
    docker = env.get("DOCKER_CONFIG", "") or os.path.join(home, ".docker")
    base = (
        root or env.get("LAPSTRAKE_ROOT", "") or _text(table, "root", path) or _default_root(env, home, uid)
    )
    base = os.path.abspath(os.path.expanduser(base))

    def pick(variable: str, key: str, default: str = "") -> str:
        return env.get(variable, "") or _text(build, key, path) or default

    return Settings(
        root=base,
        config=table,
        config_path=path if table else "",
        docker_config=docker,
        builders_dir=env.get("BUILDX_CONFIG", "") or os.path.join(base, "builders"),
        platform=env.get("DOCKER_DEFAULT_PLATFORM", ""),
        source_policy=env.get("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", ""),
        builder=builder or env.get("BUILDX_BUILDER", ""),
        debug=debug or env.get("LAPSTRAKE_DEBUG", "") not in ("", "0", "false"),
        progress=pick("BUILDKIT_PROGRESS", "progress", "auto"),
        summary=pick("LAPSTRAKE_SUMMARY", "summary", "short"),
        fold=_fold(pick("LAPSTRAKE_FOLD", "fold", "auto"), env),
        colors=env.get("BUILDKIT_COLORS", ""),
        no_color=bool(env.get("NO_COLOR", "")),
        truncate=env.get("PROGRESS_NO_TRUNC", "") == "0",
        detailed_codes=pick("LAPSTRAKE_EXIT_CODES", "exit-codes", "plain") == "detailed",
        log_lines=_whole(env.get("BUILDKIT_TTY_LOG_LINES", ""), 6, 0, 1000),
        display_rate=_whole(env.get("TTY_DISPLAY_RATE", ""), 100, 10, 60_000) / 1000,
        isolation=pick("LAPSTRAKE_ISOLATION", "isolation", "auto"),
        min_isolation=pick("LAPSTRAKE_MIN_ISOLATION", "min-isolation"),
        snapshotter=pick("LAPSTRAKE_SNAPSHOTTER", "snapshotter", "auto"),
        network=pick("LAPSTRAKE_NETWORK", "network"),
        jobs=_whole(pick("LAPSTRAKE_JOBS", "jobs", "0"), 0, 0, 4096),
        registry=_table(table, "registry", path),
        proxies=_proxies(env),
        tmp=env.get("TMPDIR", "") or "/tmp",
        home=home,
        uid=uid,
        environ=env,
    )


def read_registry(path: str) -> Mapping[str, object]:
    """The ``[registry]`` part of a configuration file, as a builder's ``--buildkitd-config`` has it."""
    return _table(_read_toml(path, must_exist=True), "registry", path)


def _default_root(env: Mapping[str, str], home: str, uid: int) -> str:
    if uid == 0 and not env.get("XDG_DATA_HOME"):
        return "/var/lib/lapstrake"
    return os.path.join(env.get("XDG_DATA_HOME") or os.path.join(home, ".local/share"), "lapstrake")


def _default_config(env: Mapping[str, str], home: str, uid: int) -> str:
    if uid == 0 and not env.get("XDG_CONFIG_HOME"):
        return "/etc/lapstrake/config.toml"
    return os.path.join(env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "lapstrake/config.toml")


def _read_toml(path: str, *, must_exist: bool) -> dict[str, object]:
    try:
        with open(path, "rb") as f:
            data = f.read(_MAX_CONFIG + 1)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as e:
        if must_exist:
            raise UsageError(
                f"failed to read configuration {path}: {e.strerror}", hint="see --config and LAPSTRAKE_CONFIG"
            ) from None
        return {}
    except OSError as e:
        raise UsageError(f"failed to read configuration {path}: {e.strerror}") from None
    if len(data) > _MAX_CONFIG:
        raise UsageError(f"configuration {path} is larger than 1 MiB")
    import tomllib

    try:
        return tomllib.loads(data.decode())
    except ValueError as e:  # TOMLDecodeError and UnicodeDecodeError
        raise UsageError(f"failed to read configuration {path}: {e}") from None


def _table(table: Mapping[str, object], key: str, path: str) -> dict[str, object]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"configuration {path}: [{key}] must be a table")
    return value


def _text(table: Mapping[str, object], key: str, path: str) -> str:
    value = table.get(key, "")
    if isinstance(value, (dict, list, bool)):
        raise UsageError(f"configuration {path}: {key} must be a string")
    return str(value)


def _whole(text: str, default: int, low: int, high: int) -> int:
    return min(max(int(text), low), high) if text.isdigit() else default


def _fold(wanted: str, env: Mapping[str, str]) -> str:
    if wanted not in ("auto", "none", "github", "gitlab"):
        raise UsageError(f"invalid fold: {wanted}", hint="use auto, none, github or gitlab")
    if wanted != "auto":
        return "" if wanted == "none" else wanted
    if env.get("GITHUB_ACTIONS") == "true":
        return "github"
    return "gitlab" if env.get("GITLAB_CI") == "true" else ""


def _proxies(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    out = []
    for name in _PROXIES:
        value = env.get(name, "") or env.get(name.lower(), "")
        if value:
            out.append((name, value))
    return tuple(out)


def registry_files(settings: Settings) -> RegistryFiles:
    """Where docker, containers and dockerd keep what they know of registries; for the first network use."""
    from .registry.config import Proxies
    from .registry.files import RegistryFiles

    env, home, access = settings.environ, settings.home, settings.access
    user = os.path.join(env.get("XDG_CONFIG_HOME") or os.path.join(home, ".config"), "containers")
    system = "/etc/containers"
    mine = os.path.join(user, "registries.conf")
    confs: tuple[str, ...] = (
        mine if os.path.exists(mine) else f"{system}/registries.conf",
        f"{system}/registries.conf.d",
        os.path.join(user, "registries.conf.d"),
    )
    if only := env.get("CONTAINERS_REGISTRIES_CONF", ""):
        confs = (only,)
    proxies = dict(settings.proxies)
    everywhere = proxies.get("ALL_PROXY", "")
    containers = _table(settings.config, "containers", settings.config_path)
    return RegistryFiles(
        registries_conf=confs,
        daemon_json=("/etc/docker/daemon.json", os.path.join(os.path.dirname(user), "docker/daemon.json")),
        auth_files=_auth_files(settings, user),
        certs_dirs=(
            "/etc/docker/certs.d", f"{system}/certs.d", os.path.join(user, "certs.d"),
            os.path.join(os.path.dirname(user), "docker/certs.d"),
        ),
        cert_dir=access.cert_dir,
        ca_bundle=env.get("SSL_CERT_FILE", "") or env.get("REQUESTS_CA_BUNDLE", ""),
        proxies=Proxies(
            proxies.get("HTTP_PROXY", everywhere), proxies.get("HTTPS_PROXY", everywhere), proxies.get("NO_PROXY", "")
        ),
        tls_verify=access.tls_verify,
        creds=access.creds,
        short_names=containers.get("short-names") is True,
        helper_path=env.get("PATH", ""),
    )  # fmt: skip


def _auth_files(settings: Settings, user: str) -> tuple[str, ...]:
    """Files of config.json's shape, the most deliberate first; ``--authfile`` alone when it is given."""
    env = settings.environ
    if settings.access.authfile:
        return (settings.access.authfile,)
    runtime = env.get("XDG_RUNTIME_DIR", "") or f"/run/containers/{settings.uid}"
    inside = "containers/auth.json" if env.get("XDG_RUNTIME_DIR") else "auth.json"
    paths = (
        env.get("REGISTRY_AUTH_FILE", ""),
        os.path.join(settings.docker_config, "config.json") if settings.docker_config else "",
        os.path.join(runtime, inside),
        os.path.join(user, "auth.json"),
    )
    return tuple(p for p in paths if p)
