"""From bytes to typed instructions (spec §0-§10).  Pure; raises nothing but DockerfileError."""

from __future__ import annotations

from ..errors import DockerfileError, Span
from .instructions import Arg, Dockerfile, From, Instruction, Stage
from .lexer import Line, NotStrings, logical_lines, split_first, split_flags
from .numbers import SPACE
from .source import check_lines, decode, read_directives
from .statements import STATEMENTS, Words, forbid_trigger
from .suggest import hint

MAX_INSTRUCTIONS = 50_000  # of a generated file; each becomes a step, and takes a kilobyte
_MAX_ERRORS = 50


def parse(text: bytes, filename: str) -> Dockerfile:
    """Parse a whole file; the error raised is the first one, ``others`` holds the rest."""
    source = decode(text)
    if not text:
        raise DockerfileError("the Dockerfile cannot be empty", span=Span(filename, 1, 1, source))
    check_lines(text, filename, source)
    lines = source.split("\n")
    directives = read_directives(lines, filename, source)
    if lines[-1] == "":
        lines.pop()
    builder = _Builder()
    errors: list[DockerfileError] = []
    for line in logical_lines(lines, directives.escape, directives.after):
        span = Span(filename, line.first, line.last, source)
        try:
            builder.add(_instruction(line, span, directives.escape))
        except DockerfileError as e:
            builder.failed(line)
            errors.append(
                DockerfileError(
                    f"dockerfile parse error on line {line.first}: {e.message}", span=span, hint=e.hint
                )
            )
            if len(errors) >= _MAX_ERRORS or builder.count > MAX_INSTRUCTIONS:
                break
    whole = Span(filename, 1, max(len(lines), 1), source)
    if not errors and not builder.any:
        errors.append(DockerfileError("file with no instructions", span=whole))
    elif not errors and not builder.stages:
        errors.append(DockerfileError("dockerfile contains no stages to build", span=whole))
    found = Dockerfile(
        filename,
        source,
        directives.escape,
        tuple(directives.found),
        tuple(builder.global_args),
        builder.finish(),
    )
    if errors:
        errors[0].others = tuple(errors[1:])
        errors[0].partial = found
        raise errors[0]
    return found


class _Builder:
    """Sorts instructions into global ARGs and stages."""

    def __init__(self) -> None:
        self.any = False
        self.count = 0
        self.global_args: list[Arg] = []
        self.stages: list[tuple[From, list[Instruction]]] = []
        self.lost = False  # a FROM was wrong: don't complain about what follows it

    def add(self, instruction: Instruction) -> None:
        self.any = True
        self.count += 1
        if self.count > MAX_INSTRUCTIONS:
            raise DockerfileError(f"there are more than {MAX_INSTRUCTIONS} instructions")
        if isinstance(instruction, From):
            self.lost = False
            self.stages.append((instruction, []))
        elif self.lost:
            return
        elif self.stages:
            self.stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            self.global_args.append(instruction)
        else:
            self.lost = True
            raise DockerfileError("no build stage in current context")

    def failed(self, line: Line) -> None:
        self.any = True
        if split_first(line.text)[0].lower() == "from":
            self.lost = True

    def finish(self) -> tuple[Stage, ...]:
        return tuple(Stage(i, base, tuple(rest)) for i, (base, rest) in enumerate(self.stages))


def parse_onbuild(expression: str, span: Span, escape: str = "\\") -> Instruction:
    """Parse one trigger; the result and any error point at ``span`` (the FROM line)."""
    lines = expression.split("\n")
    try:
        found = list(logical_lines(lines, escape))
        if len(found) != 1:
            raise DockerfileError("onbuild trigger should be a single expression")
        keyword = split_first(found[0].text)[0].upper()
        forbid_trigger(keyword)
        return _instruction(found[0], span, escape)
    except DockerfileError as e:
        raise DockerfileError(e.message, span=span, hint=e.hint) from None


def _instruction(line: Line, span: Span, escape: str) -> Instruction:
    if line.error:
        raise DockerfileError(line.error)
    keyword, rest = split_first(line.text)
    make = STATEMENTS.get(keyword.lower())
    if make is None:
        names = [name.upper() for name in STATEMENTS]
        raise DockerfileError(f"unknown instruction: {keyword}{hint(keyword, names, case_sensitive=False)}")
    flags: list[str] = []
    if rest.startswith("--"):
        rest, flags = split_flags(rest, escape)
        rest = rest.strip(SPACE)
    try:
        return make(Words(keyword, rest, flags, line, span, escape))
    except NotStrings as e:
        raise DockerfileError(str(e)) from None
