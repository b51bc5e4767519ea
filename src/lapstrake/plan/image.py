"""The image config a stage builds up, and its history (spec dockerfile.md §15)."""

from __future__ import annotations

from ..oci.platform import Platform, host_platform
from ..values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class BaseImage(Value):
    """What the planner must know of a base: pinned reference and its parsed config."""

    ref: str  # full reference with digest
    config: dict[str, Any]
    layers: int = 0


class ImageState:
    """Mutable while one stage is lowered, copied when another stage starts from it."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    @classmethod
    def scratch(cls, platform: Platform) -> ImageState:
        """``FROM scratch``."""
        cfg: dict[str, Any] = {
            "config": {"WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": []},
            "history": [],
        }
        if platform.os != "windows":
            cfg["config"]["Env"] = ["PATH=" + DEFAULT_PATH]
        state = cls(cfg)
        state.set_platform(platform)
        return state

    @classmethod
    def of_base(cls, base: dict[str, Any], platform: Platform) -> ImageState:
        """A copy of a base image's config, ``created`` dropped."""
        cfg = {k: v for k, v in base.items() if k != "created"}
        cfg["config"] = {k: _copy(v) for k, v in (base.get("config") or {}).items() if k != "OnBuild"}
        cfg["history"] = list(base.get("history") or [])
        cfg["rootfs"] = {"type": "layers", "diff_ids": list((base.get("rootfs") or {}).get("diff_ids") or [])}
        state = cls(cfg)
        if platform.os != "windows" and "PATH" not in dict(state.env()):
            cfg["config"].setdefault("Env", []).append("PATH=" + DEFAULT_PATH)
        state.set_platform(platform)
        return state

    def set_platform(self, p: Platform) -> None:
        """Write the platform's members, dropping those that no longer apply."""
        for key, value in (
            ("architecture", p.arch),
            ("os", p.os),
            ("variant", p.variant),
            ("os.version", p.os_version),
        ):
            if value:
                self.config[key] = value
            elif key in ("variant", "os.version"):
                self.config.pop(key, None)

    def copy(self) -> ImageState:
        """An independent copy for a stage that starts from this one."""
        cfg = dict(self.config)
        cfg["config"] = {k: _copy(v) for k, v in self.c.items()}
        cfg["history"] = list(cfg["history"])
        cfg["rootfs"] = {"type": "layers", "diff_ids": list(cfg["rootfs"]["diff_ids"])}
        return ImageState(cfg)

    @property
    def c(self) -> dict[str, Any]:
        """The ``config`` member."""
        return self.config["config"]  # type: ignore[no-any-return]

    @property
    def os(self) -> str:
        """The operating system."""
        return str(self.config.get("os") or host_platform().os)

    def env(self) -> list[tuple[str, str]]:
        """Environment in order."""
        out = []
        for item in self.c.get("Env") or []:
            name, _, value = item.partition("=")
            out.append((name, value))
        return out

    def set_env(self, name: str, value: str) -> None:
        """Replace in place or append."""
        items = self.c.setdefault("Env", [])
        for i, item in enumerate(items):
            if item.partition("=")[0] == name:
                items[i] = f"{name}={value}"
                return
        items.append(f"{name}={value}")

    def shell(self) -> tuple[str, ...]:
        """The shell for shell-form commands."""
        given = self.c.get("Shell")
        if given:
            return tuple(given)
        return ("cmd", "/S", "/C") if self.os == "windows" else ("/bin/sh", "-c")

    def history(self, created_by: str, *, layer: bool = False) -> None:
        """Append one history entry."""
        entry: dict[str, Any] = {"created_by": created_by, "comment": "buildkit.dockerfile.v0"}
        if not layer:
            entry["empty_layer"] = True
        self.config["history"].append(entry)


def _copy(value: object) -> object:
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, list):
        return list(value)
    return value
