"""A real browser opens the page: no request beyond the page itself, nothing on the console, every word in its place."""

import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from trialtwin.core.dossier import Dossier
from trialtwin.report.html import render

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium, which is not installed"),
]
ELSEWHERE = "http://elsewhere.invalid/tracker.png"
NAUGHTY = f'<!doctype html><title>x</title><img src="{ELSEWHERE}"><img src="/beacon"><script>console.log("x")</script>'


@dataclass(frozen=True)
class Visit:
    """What a browser did with a page."""

    dom: str
    console: list[str]
    served: list[str]
    asked: set[str]


@contextmanager
def serve(page: str, host: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve one page on this machine and note every path that is asked for."""
    served: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer, and note what was asked for."""
            served.append(self.path)
            body = {"/report.html": page, "/host.html": host}.get(self.path, "")
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browse(address: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open an address headless and return the page as the browser holds it; no name is resolved."""
    return subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", *options, "--dump-dom", address,
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


def visit(page: str, folder: Path) -> Visit:
    """Open a page and return what it asked for; the browser's own errands do not count."""
    log = folder / "net.json"
    with serve(page) as (origin, served):
        done = browse(f"{origin}/report.html", folder, f"--log-net-log={log}")
    events = json.loads(log.read_text())["events"]
    starts = [e["params"] for e in events if isinstance(e.get("params"), dict) and "initiator" in e["params"]]
    asked = {p["url"] for p in starts if p["initiator"] in (origin, "null")}
    return Visit(done.stdout, re.findall(r"CONSOLE.*", done.stderr), served, asked)


def test_the_page_asks_for_nothing_and_the_console_is_silent(dossier: Dossier, tmp_path: Path) -> None:
    seen = visit(render(dossier), tmp_path)
    assert "Figure 7." in seen.dom
    assert seen.served == ["/report.html"]
    assert seen.asked == set()
    assert seen.console == []


def test_the_watch_would_have_seen_a_request_and_a_message(tmp_path: Path) -> None:
    seen = visit(NAUGHTY, tmp_path)
    assert "/beacon" in seen.served
    assert ELSEWHERE in seen.asked
    assert seen.console


def test_the_policy_of_the_page_stops_what_someone_might_add(dossier: Dossier, tmp_path: Path) -> None:
    page = render(dossier).replace("</main>", NAUGHTY.split("</title>")[1] + "</main>")
    seen = visit(page, tmp_path)
    assert seen.served == ["/report.html"]
    assert seen.asked == set()
    assert len(seen.console) == 3


MEASURE = """<!doctype html><title>host</title><style>body {{ margin: 0 }}</style>
<iframe id="page" style="border: 0" width="{wide}" height="900" src="/report.html"></iframe><pre id="measured"></pre>
<script>
document.getElementById("page").addEventListener("load", (event) => {{
  const inside = event.target.contentDocument, problems = [];
  const meet = (a, b) => Math.min(Math.min(a.right, b.right) - Math.max(a.left, b.left),
                                  Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  for (const svg of inside.querySelectorAll("svg")) {{
    const edge = svg.getBoundingClientRect();
    // A line's box is as high as the font's tallest letter; half of it is where letters can meet.
    const words = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    words.forEach(([said, box], k) => {{
      if (box.left < edge.left - 1 || box.right > edge.right + 1) problems.push("outside: " + said);
      for (const [other, second] of words.slice(k + 1))
        if (meet(box, second) > Math.min(box.height, box.width, second.height, second.width) * 0.3)
          problems.push(said + " on " + other);
    }});
  }}
  document.getElementById("measured").textContent = JSON.stringify(
    {{ wide: inside.documentElement.scrollWidth, texts: inside.querySelectorAll("svg text").length, problems }});
}});
</script>"""


@pytest.mark.parametrize("wide", [400, 820, 1200])
def test_the_page_fits_its_window_and_no_words_of_a_figure_meet(dossier: Dossier, tmp_path: Path, wide: int) -> None:
    with serve(render(dossier), MEASURE.format(wide=wide)) as (origin, _):
        done = browse(f"{origin}/host.html", tmp_path, "--virtual-time-budget=10000")
    found = re.search(r'<pre id="measured">(.+?)</pre>', done.stdout)
    assert found, "the measurement did not run"
    measured = json.loads(html.unescape(found[1]))
    assert measured["texts"] > 100
    assert measured["problems"] == []
    assert measured["wide"] <= wide
