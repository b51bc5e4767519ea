#!/bin/sh
# Sets up what is missing, then runs every check and every test but the soak runs.
# Arguments go to pytest: scripts/test.sh -k reference
set -eu
cd "$(dirname "$0")/.."
scripts/setup.sh test
PATH="$PWD/.venv/bin:$PATH"
export PATH

nox --no-venv --no-error-on-missing-interpreters -s lint types imports
exec python -m pytest -m "not soak" "$@"
