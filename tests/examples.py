"""The classes that CONTRIBUTING.md prints, made of its text, so that what is promised of every plug is tested of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


def printed(kind: str, name: str) -> Any:
    """The class of this name in the section of this kind, such as ``printed("image model", "BrightModel")``."""
    section = re.search(rf"^### An? {kind}$(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None
    (code,) = re.findall(r"^```python\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(code, f"CONTRIBUTING.md: a {kind}", "exec"), namespace)
    return namespace[name]
