"""The tutorial's blocks run as they stand."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "tutorials" / "treat-virtual-patients.md"


def test_the_tutorial_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102 - our own page
    assert "routes" in names
