"""Nothing that reads a file can be made to run what the file says: not the readers, and not a yaml that is shipped."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from eigenseg.config.trust import check_targets
from eigenseg.kinds import PROTOCOLS

ROOT = Path(__file__).parents[1]
FOLDERS = ("data", "discovery", "segment", "video", "eigenseg")
# What runs code that it is given, or calls what a file names.
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"import_module", "get_object", "get_class", "get_method", "instantiate", "system", "popen", "Popen"}
CALLS |= {"check_call", "check_output", "unsafe_load", "full_load", "find_class", "Unpickler", *BUILTINS}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "subprocess", "runpy", "code"}
# The only places that import by name: what a yaml names, after the check; the command that was typed.
IMPORTS_BY_NAME = {"eigenseg/config/trust.py", "eigenseg/cli/main.py"}
# Interpolations that the shipped yamls need; others read the environment or decode text into nodes.
RESOLVERS = ("${oc.select:", "${solver}", "${hydra.job.num}", "${hydra.job.override_dirname}")


def modules() -> list[Path]:
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in paths if path == path.resolve() or not path.is_relative_to(ROOT / "eigenseg"))


def suspicious(tree: ast.AST) -> Iterator[str]:
    """Calls and imports of a module that could run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            # Of pickle its error alone, which torch.load raises.
            names = {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute) and _name(one.value) == "pickle"}
            harmless = {"pickle"} if names == {"UnpicklingError"} else set()
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES - harmless)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield str(node.module)
            yield from (alias.name for alias in node.names if alias.name in CALLS)
        elif isinstance(node, ast.Call):
            yield from _call(node)


def _call(node: ast.Call) -> Iterator[str]:
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    module = _name(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    name = _name(node.func) or getattr(node.func, "attr", "")
    fixed = name == "import_module" and isinstance(node.args[0], ast.Constant)
    own = isinstance(node.func, ast.Attribute) and name in BUILTINS and module != "builtins"  # model.eval(), re.compile()
    if name in CALLS and not fixed and not own:
        yield f"{module}.{name}"
    if (module, name) == ("torch", "load") and not _is_constant(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if _is_constant(keywords.get("allow_pickle"), True) or _is_constant(keywords.get("shell"), True):
        yield f"{name} with allow_pickle or shell"
    if (module, name) == ("yaml", "load"):
        yield "yaml.load"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _is_constant(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_runs_what_it_reads(path: Path) -> None:
    found = set(suspicious(ast.parse(path.read_text())))
    if path.relative_to(ROOT).as_posix() in IMPORTS_BY_NAME:
        found.discard("importlib.import_module")
    assert not found


def test_the_search_finds_what_it_looks_for() -> None:
    text = (
        "import pickle\npickle.loads(x)\nfrom os import system\neval(x)\ntorch.load(f)\ntorch.load(f, weights_only=False)\n"
        "np.load(f, allow_pickle=True)\nimportlib.import_module(x)\nhydra.utils.instantiate(x)\nyaml.load(f)\n"
    )
    assert len(list(suspicious(ast.parse(text)))) == 9
    text = "import pickle\nexcept_ = pickle.UnpicklingError\nimportlib.import_module('av')\nmodel.eval()\n"
    text += "torch.load(f, weights_only=True)\nre.compile(x)\nyaml.safe_load(f)\n"
    assert not list(suspicious(ast.parse(text)))
    assert len(modules()) > 150


def walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    yield key, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from walk(child, f"{key}.{name}")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.relative_to(ROOT / "configs").as_posix()
)
def test_no_shipped_yaml_names_anything_that_is_not_trusted_without_asking(path: Path) -> None:
    group, node = path.parent.name, OmegaConf.to_container(OmegaConf.load(path))
    for key, value in walk(node, group):
        if isinstance(value, dict) and "_target_" in value:
            # The node of a group must fit it; what is inside of it, and a solver, is an argument.
            check_targets({"_target_": value["_target_"]}, (), key if key in PROTOCOLS else f"{key}.argument")
        if isinstance(value, str) and "hydra.help.template" not in key:
            assert all(f"${{{rest}".startswith(RESOLVERS) for rest in value.split("${")[1:]), key
    if group in PROTOCOLS:
        assert isinstance(node, dict)
        assert "_target_" in node
