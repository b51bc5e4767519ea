"""The registry client of a process: everything this machine, this user and this command say of registries."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config import Settings
    from ..registry.auth import Auth
    from ..registry.client import Client


def open_client(settings: Settings, insecure: str = "", auth: Auth | None = None) -> Client:
    """A client.  ``insecure``: a registry to be lax with; ``auth``: share these credentials and tokens."""
    from ..config import registry_files
    from ..registry.auth import Auth, Credentials
    from ..registry.client import Client
    from ..registry.files import load
    from ..values import replace
    from ..version import VERSION

    files = registry_files(settings)
    config = replace(load(settings.registry, files), user_agent=f"lapstrake/{VERSION}")
    if settings.access.backoff is not None:
        config = replace(config, backoff=settings.access.backoff)
    if insecure:
        config = config.allowing_insecure(insecure)
    if auth is None:
        explicit = {registry: Credentials(user, password) for registry, user, password in files.creds}
        auth = Auth(auth_files=files.auth_files, explicit=explicit, helper_path=files.helper_path or None)
    return Client(config, auth)
