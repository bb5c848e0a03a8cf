"""Examples in docstrings give what they say, and what people call first has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import eigenseg

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(eigenseg.__path__, "eigenseg.")
    if not module.ispkg and not module.name.endswith("__main__")
)
WITH_EXAMPLE = ("Predictor", "tokencut", "maskcut", "solve_ncut", "build_affinity", "Instances", "Geometry", "Preprocess")


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert results.failed == 0


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_what_is_called_first_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(eigenseg, name).__doc__ or "")
