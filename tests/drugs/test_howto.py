"""The how-to of adding a drug does what it says: its file is read, its code run, its output and errors compared."""

import contextlib
import io
import re
from itertools import pairwise
from pathlib import Path

import pytest

from trialtwin.core.errors import ConfigError
from trialtwin.drugs.drug import parse_drug
from trialtwin.drugs.therapy import prescribe

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/add-a-drug.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
FILE = next(body for kind, body in BLOCKS if kind == "toml")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block of code prints what the block of text after it shows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "testimab.toml").write_text(FILE, encoding="utf-8")
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
    assert ran == 2


def test_the_errors_read_as_shown() -> None:
    shown = [body for kind, body in BLOCKS if kind == "text" and body.startswith(("this does not", "cannot read"))]
    negative = FILE.replace("value = 0.012", "value = -0.012")
    wrong = FILE.replace('"amyloid_clearance"', '"amyloid_clearence"')
    for text, expected in zip((negative, wrong), shown, strict=False):
        with pytest.raises(ConfigError) as caught:
            parse_drug(text)
        first = expected.replace(" (…)\n", "").strip()
        assert str(caught.value).startswith(first), str(caught.value)
    with pytest.raises(ConfigError) as caught:
        prescribe(parse_drug(FILE), "10 mg/kg evry 2 weeks")
    assert str(caught.value).startswith(shown[2].rstrip())
    assert len(shown) == 3
