#!/bin/sh
# Installs all that is missing to build, test and try Lapstrake on Debian 12 or newer: system packages
# (as root or through sudo) and .venv with the project in it. Run it as often as you like.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="
    buildah busybox-static ca-certificates crun docker-registry file fuse-overlayfs gcc git iproute2
    libc6-dev libseccomp2 mmdebstrap openssh-client openssh-server passt podman python3-venv
    qemu-user-static runc
    skopeo uidmap umoci xz-utils zstd
"

# A browser is only needed by the tests of `report`.
[ "${1:-}" != test ] || PACKAGES="$PACKAGES chromium fonts-dejavu-core"

missing_packages() {
    for package in $PACKAGES; do
        # shellcheck disable=SC2016
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || printf '%s ' "$package"
    done
}

missing=$(missing_packages)
if [ -n "$missing" ]; then
    as_root=
    if [ "$(id -u)" != 0 ]; then as_root="sudo -n"; fi
    if [ -n "$as_root" ] && ! sudo -n true 2>/dev/null; then
        echo "setup: not root, and sudo asks for a password. Install these, the tests that need them are skipped otherwise:" >&2
        echo "    apt-get install --no-install-recommends $missing" >&2
    else
        echo "setup: installing $missing"
        $as_root apt-get update -qq
        # No service may start by itself: the registry of the tests is started by scripts/registry.py.
        # shellcheck disable=SC2086
        $as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -y -qq --no-install-recommends $missing >/dev/null
    fi
fi

for python in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi
    python=
done
[ -n "$python" ] || { echo "setup: Python 3.11 or newer is needed (apt-get install python3-venv)" >&2; exit 1; }

want=$(sha256sum pyproject.toml | cut -d' ' -f1)
if [ ! -x .venv/bin/lapstrake ] || [ "$(cat .venv/.lapstrake-setup 2>/dev/null)" != "$want" ]; then
    echo "setup: making .venv"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
    echo "$want" > .venv/.lapstrake-setup
fi

# What `pip install` does for an ordinary installation: start-up without compiling.
.venv/bin/python -m compileall -q src
