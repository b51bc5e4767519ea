#!/bin/sh
# Sets up all that is missing, builds examples/3-multi-platform for two platforms and runs the result.
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh
PATH="$PWD/.venv/bin:$PATH"
export PATH

# Without Docker Hub in reach, base images made from Debian's packages are served on a loopback port.
if [ -z "${LAPSTRAKE_CONFIG:-}" ] && ! python scripts/registry.py hub; then
    python scripts/bases.py
    python scripts/registry.py start
    LAPSTRAKE_CONFIG=$(python scripts/registry.py config)
    export LAPSTRAKE_CONFIG
fi

set -x
lapstrake build --platform linux/amd64,linux/arm64 -t myimage examples/3-multi-platform
lapstrake images
lapstrake run myimage
