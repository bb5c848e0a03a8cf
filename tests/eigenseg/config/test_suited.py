"""The user's setting stands over the backbone's, the backbone's over the method's published value."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from eigenseg.config.build import build_parts
from eigenseg.config.compose import compose
from eigenseg.config.suited import suited_settings

CONFIGS = Path(__file__).parents[3] / "configs"
BACKBONE = "_target_: eigenseg.discovery.ColorTexture\nsuited:\n  tokencut: {tau: 0.35}\n  maskcut: {tau: 0.45}\n"


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A backbone with a table of its own."""
    path = tmp_path / "mine.yaml"
    path.write_text(BACKBONE)
    return path


@pytest.mark.parametrize(
    ("method", "overrides", "tau"),
    [
        ("tokencut", [], 0.35),
        ("tokencut", ["method.tau=0.2"], 0.2),
        ("maskcut", [], 0.45),
        ("maskcut_reference", [], 0.15),
    ],
)
def test_the_users_setting_precedes_the_backbones(backbone: Path, method: str, overrides: list[str], tau: float) -> None:
    assert build_parts(compose(method, backbone, overrides))["method"].tau == tau


@pytest.mark.parametrize(
    ("method", "overrides", "name"),
    [
        ("per_frame", [], "method.base.tau"),
        ("per_frame", ["method.base=maskcut"], "method.base.tau"),
        ("maskcut_parts", [], "method.base.tau"),
    ],
)
def test_a_method_within_a_method_asks_the_backbone_too(
    backbone: Path, method: str, overrides: list[str], name: str
) -> None:
    config = compose(method, backbone, overrides)
    tau = 0.35 if method == "per_frame" and not overrides else 0.45
    assert suited_settings(config) == {name: tau}
    assert build_parts(config)["method"].base.tau == tau


def test_only_what_the_backbone_decides_is_told(backbone: Path) -> None:
    assert suited_settings(compose("tokencut", backbone)) == {"method.tau": 0.35}
    assert suited_settings(compose("tokencut", backbone, ["method.tau=0.3"])) == {}
    assert suited_settings(compose("maskcut_reference", backbone)) == {}
    assert suited_settings(compose("tokencut", "color_texture")) == {"method.reject_flawed": True}
    assert suited_settings(compose("tokencut", "dino_vits16")) == {}


def published() -> list[tuple[str, str]]:
    """Every setting of a shipped method that asks the backbone, and the value it takes without an answer."""
    return [
        (path.stem, line.strip())
        for path in sorted((CONFIGS / "method").glob("*.yaml"))
        for line in path.read_text().splitlines()
        if "backbone.suited" in line
    ]


@pytest.mark.parametrize(("method", "line"), published())
def test_without_an_answer_the_published_value_of_the_constructor_holds(method: str, line: str) -> None:
    name = line.partition(":")[0]
    node: Any = compose(method, "color_texture", ["~backbone"]).method
    node = node.base if "base" in node else node
    entry = re.escape(f".{name},")
    (table,) = re.findall(rf"^{name}: \$\{{oc\.select:backbone\.suited\.(\w+){entry}", line)
    assert table.replace("_", "") == get_class(node._target_).__name__.lower()
    assert node[name] == inspect.signature(get_class(node._target_)).parameters[name].default


@pytest.mark.parametrize("path", sorted((CONFIGS / "backbone").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_table_names_settings_that_ask_for_it(path: Path) -> None:
    table: Any = OmegaConf.load(path).get("suited", {})
    for method, settings in table.items():
        asked = suited_settings(compose(method, path.stem))
        assert asked == {f"method.{name}": value for name, value in settings.items()}
