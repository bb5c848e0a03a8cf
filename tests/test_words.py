"""Names, messages and texts use the field's words, in American spelling."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = (".py", ".pyi", ".md", ".yaml", ".toml", ".html", ".cff")
# What is written instead of what; inside of identifiers too, so "_" counts as a border of words.
WORDS = {
    r"pictures?": "image",
    r"data[ _]sets?": "dataset",
    r"(?<!ground[ _-])truths?": "ground truth, annotation",
    r"(a|the|this|_) ?shares?|shares? of|share(?= = )": "fraction, ratio",
    r"hits": "true positives, matches",
    r"whole numbers?": "integer",
    r"def describe|\.describe\(": "provenance",
    r"strangers?|doubts?|wishes|insists?|crumbs|mend(ed|s)?": "unmatched, warnings, settings, requires, fragments, fix",
    r"one number a pixel": "label map",
    r"\w*colour\w*": "color",
    r"grey(s|ish|scale)?": "gray",
    r"\w*(centre|neighbour|behaviour|favour)\w*": "center, neighbor, behavior, favor",
    r"licences?|licenced": "license",
    r"(label|cancel|model|travel)l(ed|ing)": "labeled, canceled, modeled, traveled",
    r"\w*(normal|local|initial|recogn|synchron|factor|binar|optim|organ|summar|general|minim|maxim|orthogonal|orthonormal|quant)"
    r"is(e|es|ed|ing|ation)": "the spelling with z",
}
# Keys of files that stay as they are: of metrics.json, and of outputs of published code.
EXCEPTIONS = r"\"hits\"|``hits``|\"colour(_features)?\""


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: the files of the project cannot be listed")
    return [ROOT / name for name in listed.stdout.splitlines() if name.endswith(TEXTS)]


def test_no_text_uses_a_word_that_the_field_does_not() -> None:
    border, end = r"(?<![A-Za-z])", r"(?![A-Za-z])"
    patterns = {re.compile(f"{border}(?:{word}){end}", re.IGNORECASE): better for word, better in WORDS.items()}
    wrong: list[str] = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name in ("CHANGELOG.md", "tests/test_words.py") or not path.is_file():
            continue  # the changelog names what was renamed
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            rest = re.sub(EXCEPTIONS, "", line)
            wrong += [
                f"{name}:{number}: {match[0]!r}, write {better}"
                for pattern, better in patterns.items()
                for match in pattern.finditer(rest)
            ]
    assert not wrong, "\n".join(wrong)
