"""A real ``docker-registry`` on a free loopback port, for tests and benchmarks.

with Registry(htpasswd={"ann": "secret"}) as registry:
    ref = f"{registry.host}/app:1"
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

PROGRAM = "docker-registry"
_START = 20.0  # seconds it may take to listen


def available() -> bool:
    """Whether the registry is installed."""
    return shutil.which(PROGRAM) is not None


def free_port() -> int:
    """A port nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def bcrypt_hash(password: str) -> str:
    """As htpasswd -B writes it, through the system's libcrypt."""
    import ctypes
    import secrets

    lib = ctypes.CDLL("libcrypt.so.1")
    lib.crypt.restype = ctypes.c_char_p
    alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    salt = "".join(secrets.choice(alphabet) for _ in range(21)) + "."
    hashed: bytes | None = lib.crypt(password.encode(), f"$2y$04${salt}".encode())
    if not hashed or not hashed.startswith(b"$2y$"):
        raise RuntimeError("libcrypt has no bcrypt")
    return hashed.decode()


def make_certificate(folder: str, name: str = "server", *hosts: str) -> tuple[str, str]:
    """(certificate, key): self-signed for 127.0.0.1, localhost and ``hosts``, good for two days."""
    cert, key = os.path.join(folder, f"{name}.crt"), os.path.join(folder, f"{name}.key")
    names = ",".join(["DNS:localhost", "IP:127.0.0.1", *(f"DNS:{h}" for h in hosts)])
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}", "-keyout", key, "-out", cert],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return cert, key


class TokenAuth:
    """Token authentication: the service's URL, its name, the issuer, and the certificates it signs with."""

    def __init__(self, realm: str, service: str, issuer: str, bundle: str) -> None:
        self.realm, self.service, self.issuer, self.bundle = realm, service, issuer, bundle


class Registry:
    """Starts on entry, ends on exit.  ``proxy_of``: the URL of a registry this one is a pull-through mirror of.

    ``client_ca``: with TLS, clients must show a certificate it signed.
    """

    def __init__(
        self,
        *,
        htpasswd: Mapping[str, str] | None = None,
        tls: bool = False,
        proxy_of: str = "",
        root: str = "",
        client_ca: str = "",
        token: TokenAuth | None = None,
    ) -> None:
        self._htpasswd = dict(htpasswd or {})
        self._tls = tls
        self._proxy_of = proxy_of
        self._root = root
        self._client_ca = client_ca
        self._token = token
        self._folder = ""
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.ca = ""  # with TLS: the certificate to trust

    @property
    def host(self) -> str:
        """``127.0.0.1:port``, the first part of an image name."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """``http[s]://127.0.0.1:port``."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def data(self) -> str:
        """The directory that holds its blobs."""
        return self._root or os.path.join(self._folder, "data")

    def log(self) -> str:
        """Everything it logged, access log included."""
        with open(os.path.join(self._folder, "log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="lapstrake-registry-")
        try:
            if self._tls:
                self.ca, _ = make_certificate(self._folder)
            for _ in range(5):  # another process may take the port first
                self.port = free_port()
                if self._start():
                    return self
            raise RuntimeError(f"{PROGRAM} did not start:\n{self.log()[-2000:]}")
        except BaseException:
            self._stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _config(self) -> str:
        lines = [
            "version: 0.1",
            "log: {level: info, accesslog: {disabled: false}}",
            "storage:",
            f"  filesystem: {{rootdirectory: {self.data}}}",
        ]
        lines += ["  delete: {enabled: true}", "  maintenance: {uploadpurging: {enabled: false}}"]
        lines += ["http:", f"  addr: {self.host}", "  secret: not-a-secret"]
        if self._tls:
            clients = f", clientcas: [{self._client_ca}]" if self._client_ca else ""
            key = self.ca.removesuffix(".crt") + ".key"
            lines.append(f"  tls: {{certificate: {self.ca}, key: {key}{clients}}}")
        if self._htpasswd:
            path = os.path.join(self._folder, "htpasswd")
            with open(path, "w", encoding="utf-8") as f:
                f.writelines(f"{user}:{bcrypt_hash(password)}\n" for user, password in self._htpasswd.items())
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {path}}}}}")
        if self._token is not None:
            t = self._token
            lines.append(
                f"auth: {{token: {{realm: {t.realm}, service: {t.service}, issuer: {t.issuer}, rootcertbundle: {t.bundle}}}}}"
            )
        if self._proxy_of:
            lines.append(f"proxy: {{remoteurl: {self._proxy_of}}}")
        return "\n".join(lines) + "\n"

    def _start(self) -> bool:
        path = os.path.join(self._folder, "config.yml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(self._config())
        with open(os.path.join(self._folder, "log"), "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self._process.poll() is None
            except OSError:
                time.sleep(0.01)
        self._kill()
        return False

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _stop(self) -> None:
        self._kill()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
