"""The how-to of omics, wearables and health records does what it says: its code runs, its output is compared."""

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/bring-omics-and-wearables.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_the_page_runs() -> None:
    """Each block of code prints what the block of text after it shows."""
    names: dict[str, object] = {}
    ran = 0
    for (kind, body), (after, shown) in pairwise(BLOCKS):
        if kind != "python":
            continue
        assert after == "text"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(body, str(PAGE), "exec"), names)  # noqa: S102
        assert printed.getvalue() == shown
        ran += 1
    assert ran == 4
