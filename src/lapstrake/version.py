"""The version, alone, so that ``lapstrake --version`` reads nothing else."""

VERSION = "0.1.0"
