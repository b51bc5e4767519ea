"""The page of a build: whole, self-contained, and nothing foreign in it is markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapstrake.engine.report import HEAD_LINES, TAIL_LINES, log_view
from lapstrake.engine.steplog import StepLog
from lapstrake.progress.html.page import ImageView, LayerView, page
from lapstrake.progress.html.parts import MAX_NODES, LogView, graph, place

VOID = {"meta", "br", "img", "rect", "path"}
TAGS = set(
    "html head meta title style body main div h1 h2 h3 span p b i small section a svg g text rect path details summary "
    "table thead tbody tr th td pre u code dl dt dd ul li footer".split()
)


class Checker(HTMLParser):
    """Fails on what the page never has: scripts, handlers, links to elsewhere, tags that don't close."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        assert tag in TAGS, tag
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "srcset", "action", "formaction", "data"), (tag, name)
            if name == "href":
                assert value.startswith("#"), value
                self.targets.append(value[1:])
            if name == "id":
                self.ids.append(value)
            if name == "style":
                assert "url(" not in value
                assert "<" not in value
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def check(text):
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert set(checker.targets) <= set(checker.ids)
    assert "default-src 'none'" in text
    assert not any(c in text for c in "\x00\x1b\x07\x9b")
    return "".join(checker.text)


def record(foreign="x", **more):
    steps = [
        {"digest": "i", "name": f"[internal] {foreign}", "state": "done", "started": 1.0, "completed": 1.1},
        {"digest": "a", "name": f"[1/2] FROM {foreign}", "state": "cached", "started": 1.1, "completed": 1.1},
        {
            "digest": "b", "name": f"[2/2] RUN {foreign}", "state": "error", "started": 1.2, "completed": 3.4, "inputs": ["a"],
            "error": foreign, "reason": foreign, "stats": {"cpu": 1.0, "peak_rss": 1e6, "bytes_added": 5},
            "statuses": [{"item": foreign, "current": 5, "total": 9}],
        },
    ]  # fmt: skip
    request = {
        "context": foreign, "tags": [foreign], "platforms": [foreign], "build_args": {foreign: foreign}, "labels": {foreign: foreign},
        "secrets": [foreign], "target": foreign, "dockerfile": foreign, "named_contexts": {foreign: foreign},
    }  # fmt: skip
    error = {
        "message": foreign,
        "hint": foreign,
        "place": {"file": foreign, "first": 1, "last": 1, "from": 1, "lines": [foreign, foreign]},
    }
    return {
        "id": foreign, "name": foreign, "status": foreign, "started": 1.0, "completed": 4.0, "request": request, "steps": steps,
        "error": error, "warnings": [{"short": foreign}], "materials": [{"uri": foreign, "digest": foreign}], "builder": foreign,
        "result": {"digest": foreign, "skipped": [foreign], "image_bytes": 1e6, "stage_bytes": 9e6}, **more,
    }  # fmt: skip


def view(foreign):
    logs = {"b": (LogView(((0.1, 1, foreign), (0.2, 2, foreign)), 100, 50, 1), foreign)}
    layer = LayerView(foreign, foreign, 10, ((foreign, 5),), 1, 5)
    return page(record(foreign), logs, [ImageView(foreign, foreign, (layer, LayerView("d", "", 0)))])


HOSTILE = [
    "<script>alert(1)</script>", "</pre></style><img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "' onmouseover='x", "&lt;b&gt; &amp;",
    "\x1b[31mred\x1b[0m\x00\x07", "\u202etxt.exe", "javascript:alert(1)", "<!--", "]]>", "</title><script>", "a\nb\r\tc", "\ud800", "日本語 e\u0301",
]  # fmt: skip


@pytest.mark.parametrize("foreign", HOSTILE)
def test_hostile_text_is_text(foreign):
    check(view(foreign).encode("utf-8", "replace").decode())


@given(st.text(alphabet=st.sampled_from("<>/\"'&=#;! abco\x1b[m\n\u202e日"), max_size=30))
def test_any_text_is_text(foreign):
    check(view(foreign))


def test_what_is_on_the_page():
    text = check(view("make && test"))
    for words in ("Failure", "Timeline", "Graph", "Steps", "Logs", "Layers", "Warnings", "What was asked"):
        assert words in text
    assert "final image 1.0 MB" in text
    assert "build stages, left out 9.0 MB" in text
    assert text.count("make && test") > 20


def test_a_record_with_little_in_it():
    text = check(
        page({"id": "x", "name": "x", "status": "running", "started": 1, "request": {}, "steps": []}, {}, [])
    )
    assert "Failure" not in text
    assert "Layers" not in text


def test_nodes_do_not_lie_on_each_other():
    steps = [{"digest": f"r{n}", "name": "FROM"} for n in range(3)]
    for n in range(40):
        steps.append(
            {"digest": f"s{n}", "name": "RUN", "inputs": [steps[n % 3]["digest"], steps[-1]["digest"]]}
        )
        steps.append({"digest": f"t{n}", "name": "COPY", "inputs": [steps[n]["digest"], f"s{n}"]})
    at = place(steps)
    assert len(set(at.values())) == len(steps)
    for step in steps:
        assert all(at[i][1] < at[step["digest"]][1] for i in step.get("inputs", ()))


def test_a_huge_graph_is_not_drawn():
    steps = [
        {"digest": str(n), "name": "x", "inputs": [str(n - 1)] if n else []} for n in range(MAX_NODES + 2)
    ]
    assert "too many to draw" in graph(steps, {})


def test_long_logs_are_cut_in_the_middle(tmp_path):
    log = StepLog(str(tmp_path), "01")
    for n in range(10_000):
        log.write(1 + n % 2, b"line %d\n" % n, 10.0 + n)
    log.write(1, b"unfinished", 20_000.0)
    log.close()
    found = log_view(log.path, 10.0)
    assert found.head == HEAD_LINES
    assert len(found.lines) == HEAD_LINES + TAIL_LINES
    assert found.lines[3] == (3.0, 2, "line 3")
    assert found.lines[-1] == (19_990.0, 1, "unfinished")
    assert found.size == log.size + 1
    shown = sum(len(text) + 1 for _, _, text in found.lines)
    assert shown + found.cut == found.size


def test_one_endless_line_is_bounded(tmp_path):
    log = StepLog(str(tmp_path), "01")
    for _ in range(100):
        log.write(1, b"x" * 100_000, 1.0)
    log.close()
    found = log_view(log.path, 1.0)
    assert sum(len(text) for _, _, text in found.lines) < 1 << 21
