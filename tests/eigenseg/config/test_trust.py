"""A yaml names what fits its group; everything else is refused before it is imported, unless the user allows it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from eigenseg import Predictor
from eigenseg.config.build import build, build_dataset, build_metric, build_parts, build_writers
from eigenseg.config.compose import compose
from eigenseg.config.trust import check_targets, find_target
from eigenseg.kinds import PROTOCOLS

HOSTILE = (
    "os.system",
    "builtins.eval",
    "torch.os.system",
    "torch.utils.collect_env.run",
    "torch.hub.load",
    "torch.load",
    "torch.save",
    "torch.nn.init.uniform_",
    "torch.nn.modules.module.torch.hub.load",
    "torchvision.models.resnet18",
    "torchvisionary.Thing",
    "timm.create_model",
    "timm.models.create_model",
    "eigenseg.cli.main",
    "eigenseg.cli.main.main",
    "eigenseg.data.images.os.remove",
    "eigenseg.data.files.write_bytes",
    "eigenseg.discovery.TokenCut.__init__",
    "eigenseg.discovery.TokenCut.__class__",
    "eigenseg.discovery.TokenCut.__call__.__globals__",
    "eigenseg",
    "torch.nn",
)


@pytest.mark.parametrize("target", HOSTILE)
@pytest.mark.parametrize("key", [*PROTOCOLS, "method.solver", "backbone.model_args.x", "output.writers[0]"])
def test_what_is_no_class_that_fits_is_refused_by_whatever_name(target: str, key: str) -> None:
    modules = set(sys.modules)
    with pytest.raises(
        ValueError, match=rf"_target_={target} is outside what a yaml may name: .*allow_targets=\[{target}\]"
    ):
        check_targets({"_target_": target, "x": 1}, (), key)
    assert not {name for name in set(sys.modules) - modules if name.startswith("torch.utils.collect_env")}


@pytest.mark.parametrize(
    ("key", "target", "message"),
    [
        ("method", "eigenseg.discovery.ColorTexture", "ColorTexture is no method: an image method is callable"),
        ("method", "torch.nn.Linear", "Linear is no method"),
        ("method", "eigenseg.data.results.store.ResultStore", "ResultStore is no method"),
        (
            "backbone",
            "eigenseg.discovery.TokenCut",
            "TokenCut is no backbone: it must be callable and have patch_size, mean",
        ),
        ("postprocess", "eigenseg.discovery.ColorTexture", "ColorTexture is no refiner: it must be callable"),
        ("dataset", "eigenseg.discovery.TokenCut", "TokenCut is no dataset: it must have kind, title, classes, items"),
        ("evaluation", "eigenseg.discovery.TokenCut", "TokenCut is no metric: it must have kind, main"),
        ("output.writers[0]", "eigenseg.discovery.TokenCut", "TokenCut is no writer; it must derive from eigenseg"),
        ("method.solver", "eigenseg.data.results.store.ResultStore", "is outside what a yaml may name"),
        ("method", "eigenseg.nothing.Here", "cannot be imported"),
        ("method", "torch nn", "must be a dotted name"),
        ("method", "", "must be a dotted name"),
        ("method", 3, "must be a dotted name"),
    ],
)
def test_what_does_not_fit_its_group_is_named_before_it_is_built(key: str, target: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_targets({"_target_": target}, (), key)


@pytest.mark.parametrize(
    ("key", "target"),
    [
        ("method.base", "eigenseg.segment.maskcut.MaskCut"),
        ("postprocess.parameters", "eigenseg.segment.refine.CRFParameters"),
        ("method.solver", "eigenseg.discovery.spectral.solve_ncut_dense"),
        ("method.head", "torch.nn.Linear"),
        ("trainer.optimizer", "torch.optim.AdamW"),
        ("trainer.schedule", "torch.optim.lr_scheduler.CosineAnnealingLR"),
        ("method.network", "torchvision.models.ResNet"),
        ("method.network", "timm.models.vision_transformer.VisionTransformer"),
    ],
)
def test_arguments_may_be_methods_parameters_solvers_networks_and_optimizers(key: str, target: str) -> None:
    assert callable(find_target(target, (), key))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "eigenseg.discovery.LOST", "_args_": [3]}, "method._args_ is not supported"),
        ({"_target_": "eigenseg.discovery.LOST", "_recursive_": False}, "method._recursive_ is not supported"),
        ({"_target_": "eigenseg.discovery.LOST", 1: 2}, "names of settings are strings, got 1"),
        ({"k": 3}, "method has no _target_"),
        (
            {"_target_": "eigenseg.discovery.LOST", "k": [{"a": {"_target_": "os.system"}}]},
            r"method.k\[0\].a._target_=os.sys",
        ),
    ],
)
def test_a_node_says_only_what_is_checked(node: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_targets(node, (), "method")


@pytest.mark.parametrize("group", ["method", "backbone", "postprocess", "dataset", "evaluation", "output"])
def test_a_command_of_the_shell_runs_in_no_group(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    node = '{_target_: torch.utils.collect_env.run, command: "echo ran > ran.txt"}\n'
    (tmp_path / "conf" / group).mkdir(parents=True)
    text = f"writers: [{node.strip()}]\n" if group == "output" else node
    (tmp_path / "conf" / group / "mine.yaml").write_text(text)
    config = compose(overrides=["backbone=color_texture", f"{group}=mine"], config_dir="conf")
    builders = {"dataset": build_dataset, "evaluation": build_metric, "output": build_writers}
    with pytest.raises(ValueError, match="collect_env.run is outside"):
        builders.get(group, build_parts)(config)  # type: ignore[operator]
    assert not Path("ran.txt").exists()


def test_a_method_yaml_that_is_a_command_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text('_target_: torch.utils.collect_env.run\ncommand: "echo ran > ran.txt"\n')
    with pytest.raises(ValueError, match="method._target_=torch.utils.collect_env.run is outside what a yaml may name"):
        Predictor.from_config("mine.yaml", backbone="color_texture")
    assert not Path("ran.txt").exists()


@pytest.mark.parametrize(
    "solver",
    ["\"${oc.decode:'{_target_: os.getcwd}'}\"", "\"\\\\${oc.decode:'{_target_: os.getcwd}'}\"", "${method.hidden}"],
)
def test_a_target_that_an_interpolation_makes_is_refused_too(solver: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        f"_target_: eigenseg.discovery.TokenCut\nhidden: {{_target_: os.getcwd}}\nsolver: {solver}\n"
    )
    with pytest.raises(ValueError, match="is outside what a yaml may name"):
        build_parts(compose(tmp_path / "mine.yaml", "color_texture"))


def test_an_escaped_interpolation_is_resolved_no_second_time() -> None:
    node = {"_target_": "eigenseg.segment.refine.CRFParameters", "unary": "${oc.decode:'{_target_: os.getcwd}'}"}
    with pytest.raises(ValueError, match="unary"):
        build(node, (), "postprocess.parameters")


MINE = """\
import os
from os import system as renamed

from eigenseg import Preprocess, TokenCut

class Mine:
    preprocess = Preprocess(mode="crop")
    needs_attention = False
    def __call__(self, features, images):
        return []

class Other:
    pass

def make():
    return Mine()

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a yaml of a module of the user's own, and builds it."""
    (tmp_path / "my_cuts.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)

    def built(target: str, *overrides: str) -> Any:
        (tmp_path / "mine.yaml").write_text(f"_target_: {target}\n")
        return build_parts(compose(tmp_path / "mine.yaml", "color_texture", overrides))["method"]

    yield built
    sys.modules.pop("my_cuts", None)


@pytest.mark.parametrize("allowed", ["[my_cuts]", "[my_cuts.Mine]", "['my_cuts']", "my_cuts", "[other,my_cuts]"])
def test_a_class_of_the_user_is_built_when_allowed(mine: Any, allowed: str) -> None:
    assert type(mine("my_cuts.Mine", f"allow_targets={allowed}")).__name__ == "Mine"


def test_a_function_of_the_user_may_make_it_and_what_it_makes_is_looked_at(mine: Any) -> None:
    assert type(mine("my_cuts.make", "allow_targets=[my_cuts]")).__name__ == "Mine"
    with pytest.raises(ValueError, match="Other is no method"):
        mine("my_cuts.Other", "allow_targets=[my_cuts]")


@pytest.mark.parametrize(
    ("target", "allowed", "message"),
    [
        ("my_cuts.Mine", "[]", "my_cuts.Mine is outside what a yaml may name"),
        ("my_cuts.Mine", "[my_cut]", "my_cuts.Mine is outside"),
        ("my_cuts.Mine", "[my_cuts.Other]", "my_cuts.Mine is outside"),
        ("my_cuts.os.system", "[my_cuts]", r"my_cuts.os.system \(defined in (posix|nt)\) is outside"),
        ("my_cuts.renamed", "[my_cuts]", r"my_cuts.renamed \(defined in (posix|nt)\) is outside"),
        ("my_cuts.number", "[my_cuts]", "is no class or function, but a int"),
        ("my_cuts.Gone", "[my_cuts]", "cannot be imported: .*; set PYTHONPATH to the folder that holds it"),
    ],
)
def test_what_is_not_allowed_by_name_or_defined_elsewhere_is_refused(
    mine: Any, target: str, allowed: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mine(target, f"allow_targets={allowed}")


def test_another_class_alone_says_that_its_arguments_differ() -> None:
    overrides = ["method._target_=eigenseg.discovery.LOST"]
    message = "method: LOST takes no tau, eps, nearest, solver, reject_flawed, only k, padding; to use another class choose"
    with pytest.raises(ValueError, match=message):
        build_parts(compose(backbone="color_texture", overrides=overrides))
    with pytest.raises(ValueError, match="method: PerFrame needs base"):
        build({"_target_": "eigenseg.video.PerFrame"})
