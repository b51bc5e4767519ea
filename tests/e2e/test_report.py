"""``report`` of real builds, in a real browser: nothing hostile runs, nothing overflows, both colour schemes."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.e2e

DOCKERFILE = r"""FROM debian AS deps
RUN echo '<script>parent.hit=1</script></pre><img src=x onerror=parent.hit=1>'; head -c 3000000 /dev/zero > /usr/lib/big.bin
RUN mkdir -p '/x/<b>bold' && head -c 5000 /dev/zero > '/x/<b>bold/<img src=x onerror=parent.hit=1>.txt'
FROM deps AS docs
RUN echo "a very long line without any space: $(head -c 3000 /dev/zero | tr '\0' x)"
FROM busybox
LABEL evil="</style><script>parent.hit=1</script>"
COPY --from=deps /x /x
COPY --from=docs /etc/passwd /d
"""
HARNESS = """<!DOCTYPE html><body><iframe id=f style="border:0" width={width} height=900 srcdoc="{page}"></iframe><script>
onload=()=>{{const d=f.contentDocument,o=[...d.querySelectorAll('body *')].filter(x=>!x.closest('.scroll,pre,svg')&&x.getBoundingClientRect().right>{width}+1);
document.title=JSON.stringify({{hit:typeof hit,scroll:d.documentElement.scrollWidth,over:o.slice(0,5).map(x=>x.tagName+'.'+x.className),
sections:[...d.querySelectorAll('h2')].map(x=>x.firstChild.textContent),dark:matchMedia('(prefers-color-scheme: dark)').matches,
background:getComputedStyle(d.body).backgroundColor,bars:[...d.querySelectorAll('.track i')].filter(x=>x.getBoundingClientRect().width>=1).length,
nodes:d.querySelectorAll('svg g').length,scripts:d.querySelectorAll('script,img').length}})}}</script>"""


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def look(browser, page, width, tmp_path, *, dark=False, policy=True):
    """What the browser makes of the page in a window ``width`` wide."""
    if not policy:  # escaping alone must be enough
        page = re.sub(r"<meta http-equiv[^>]*>", "", page)
    target = tmp_path / f"harness-{width}.html"
    target.write_text(HARNESS.format(width=width, page=html.escape(page)))
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=4000",
        f"--user-data-dir={tmp_path}/profile",
    ]
    flags.append(f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    done = subprocess.run(
        [browser, *flags, "--window-size=1400,1000", "--dump-dom", f"file://{target}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr[-2000:]
    return json.loads(html.unescape(title[1]))


def test_the_page_in_a_browser(lap, context, browser, tmp_path):
    path = context({"Dockerfile": DOCKERFILE})
    lap("build", "--build-arg", "X=<svg onload=parent.hit=1>", "-t", "evil:1", path)
    lap("report", "-o", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for width in (1200, 360):
        for policy in (True, False):
            seen = look(browser, page, width, tmp_path, policy=policy)
            assert seen["hit"] == "undefined"
            assert seen["scripts"] == 0
            assert seen["scroll"] <= width, seen["over"]
            assert seen["over"] == []
            assert seen["sections"] == [
                "What is in the image",
                "Timeline",
                "Graph",
                "Steps",
                "Logs",
                "Layers",
                "What was asked",
            ]
            assert seen["bars"] >= 10
            assert seen["nodes"] == 7
    dark = look(browser, page, 1200, tmp_path, dark=True)
    assert dark["dark"]
    assert dark["background"] != seen["background"]
    assert "big.bin" not in page.split("Layers")[1]  # it is in no layer of the image
    assert "&lt;img src=x onerror=parent.hit=1&gt;.txt" in page


def test_the_page_of_a_failure(lap, context, browser, tmp_path):
    path = context(
        {
            "Dockerfile": "FROM busybox\nRUN echo '<script>parent.hit=1</script>'; cat '/missing<img src=x onerror=parent.hit=1>'\n"
        }
    )
    assert lap("build", path, check=False).returncode == 1
    page = lap("report", "-o", "-").stdout
    seen = look(browser, page, 360, tmp_path, policy=False)
    assert seen["hit"] == "undefined"
    assert seen["scroll"] <= 360, seen["over"]
    assert seen["sections"][0] == "Failure"
    assert lap("history", "open").stdout.endswith(".html\n")
