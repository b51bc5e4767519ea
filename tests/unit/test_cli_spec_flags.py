"""docs/compatibility.md says which flags there are; the parser agrees, for every one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lapstrake.cli.flags import Command, HelpWanted
from lapstrake.cli.main import COMMANDS, Globals

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"

# every flag of buildx (spec cli.md §2.2, §3 to §6) and of `buildah build` (§8)
BUILD = """add-host allow annotation attest build-arg build-context builder cache-from cache-to call check cgroup-parent file
iidfile label load metadata-file network no-cache no-cache-filter output platform policy progress provenance pull push quiet
resource sbom secret shm-size ssh tag target ulimit compress rm force-rm isolation security-opt squash memory memory-swap
cpu-shares cpu-period cpu-quota cpuset-cpus cpuset-mems debug"""
BUILDAH = """all-platforms arch os variant os-version os-feature authfile creds cert-dir tls-verify build-arg-file cache-ttl
cap-add cap-drop cgroupns ipc pid uts userns userns-uid-map userns-gid-map userns-uid-map-user userns-gid-map-group
compat-volumes compression-format compression-level force-compression disable-compression cpp-flag created-annotation
inherit-annotations inherit-labels unsetannotation unsetlabel unsetenv env cw decryption-key sign-by device volume mount dns
dns-option dns-search no-hosts no-hostname http-proxy group-add hooks-dir format from identity-label ignorefile iidfile-raw
jobs layers layer-label save-stages stage-labels logfile logsplit manifest omit-history retry retry-delay rewrite-timestamp
source-date-epoch timestamp runtime runtime-flag sbom-scanner-image sbom-scanner-command sbom-merge-strategy sbom-output
sbom-purl-output sbom-image-output sbom-image-purl-output skip-unused-stages stdin source-policy-file"""
OTHERS = {
    "bake": "allow builder call check file list load metadata-file no-cache policy print progress provenance pull push sbom set var",
    "create": "append bootstrap buildkitd-config buildkitd-flags driver driver-opt leave name node platform timeout use",
    "use": "builder default global",
    "ls": "format no-trunc timeout",
    "inspect": "bootstrap builder timeout",
    "rm": "all-inactive force keep-daemon keep-state timeout",
    "stop": "builder",
    "du": "filter format verbose timeout",
    "prune": "all filter force max-used-space min-free-space reserved-space verbose",
    "dial-stdio": "platform progress",
    "imagetools create": "annotation append dry-run file metadata-file platform prefer-index progress tag",
    "imagetools inspect": "format raw",
    "history ls": "filter format local no-trunc",
    "history inspect": "format",
    "history inspect attachment": "type platform",
    "history logs": "progress",
    "history rm": "all",
    "history trace": "addr compare",
    "history export": "output all finalize",
    "history import": "file",
}


def rows():
    """(command, flag, yes | different | no) of the page's tables."""
    section = PAGE.read_text().split("## The command line\n")[1].split("\n## ")[0]
    for part in section.split("\n### ")[1:]:
        title = part.split("\n", 1)[0]
        for line in part.splitlines():
            cells = [c.strip() for c in line.strip("|").split("|")]
            if not line.startswith("| ") or cells[0] in ("Flag", "Command", "---", "Variable"):
                continue
            own = title.startswith("Other")
            command, flags, state = cells[:3] if own else ("build", *cells[:2])
            for flag in re.findall(r"`--([a-z-]+)`", flags):
                yield command, flag, state


ROWS = list(rows())


def parser(path: str) -> Command:
    """The description of a command, as it parses with it."""
    module, function, _ = COMMANDS[path.split(maxsplit=1)[0]]
    call = getattr(__import__(f"lapstrake.cli.{module}", fromlist=[function]), function)
    with pytest.raises(HelpWanted) as found:
        call([*path.split()[1:], "--help"], Globals())
    return found.value.command


@pytest.mark.parametrize("path", sorted({c for c, _, _ in ROWS}))
def test_the_parser_agrees_with_the_page(path):
    known = {f.name for f in parser(path).flags}
    for command, flag, state in ROWS:
        if command == path:
            assert state in ("yes", "different", "no")
            assert (flag in known) is (state != "no"), f"{path} --{flag} is said to be {state}"


def test_no_flag_of_buildx_or_buildah_is_missing_from_the_page():
    told = {(c, f) for c, f, _ in ROWS}
    wanted = {("build", f) for f in (BUILD + " " + BUILDAH).split()}
    wanted |= {(c, f) for c, flags in OTHERS.items() for f in flags.split()}
    assert sorted(wanted - told) == []
    assert len(ROWS) == len(told), "a flag is told twice"


def test_every_flag_of_kanikos_executor_is_taken():
    from lapstrake.cli.kaniko import _spec

    wanted = """build-arg cache cache-dir cache-repo cache-copy-layers cache-run-layers cache-ttl cleanup compressed-caching context
    context-sub-path custom-platform destination digest-file dockerfile force git ignore-path ignore-var-run image-download-retry
    image-fs-extract-retry image-name-with-digest-file image-name-tag-with-digest-file insecure insecure-pull insecure-registry
    label log-format log-timestamp no-push no-push-cache oci-layout-path push-ignore-immutable-tag-errors push-retry
    registry-certificate registry-client-cert registry-map registry-mirror reproducible single-snapshot
    skip-default-registry-fallback skip-push-permission-check skip-tls-verify skip-tls-verify-pull skip-tls-verify-registry
    skip-unused-stages snapshot-mode tar-path target use-new-run verbosity"""
    assert set(wanted.split()) - {f.name for f in _spec().flags} == set()
