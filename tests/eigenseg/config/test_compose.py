"""Names, paths and overrides mean the same from Python as on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose as application_compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from eigenseg import Predictor, TokenCut
from eigenseg.config.compose import compose, plain
from eigenseg.config.overrides import quoted


def test_from_config_takes_names_overrides_and_a_device() -> None:
    predictor = Predictor.from_config(
        "tokencut", backbone="color_texture", device="cpu", overrides=["method.tau=0.35", "preprocess.resize=96"]
    )
    assert isinstance(predictor.method, TokenCut)
    assert predictor.method.tau == 0.35
    assert predictor.preprocess.resize == 96


def test_from_config_takes_paths_of_yamls_and_still_applies_overrides(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("_target_: eigenseg.discovery.TokenCut\ntau: 0.4\neps: 0.001\nsolver: ${solver}\n")
    predictor = Predictor.from_config(mine, backbone="color_texture", device="cpu", overrides=["method.eps=0.01"])
    assert isinstance(predictor.method, TokenCut)
    assert (predictor.method.tau, predictor.method.eps) == (0.4, 0.01)


def test_from_config_finds_yamls_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("_target_: eigenseg.discovery.TokenCut\ntau: 0.45\n")
    predictor = Predictor.from_config("mine", backbone="color_texture", device="cpu", config_dir=tmp_path)
    assert isinstance(predictor.method, TokenCut)
    assert predictor.method.tau == 0.45


def test_an_applications_own_hydra_is_untouched(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("answer: 42\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        own = GlobalHydra.instance().hydra
        Predictor.from_config("tokencut", backbone="color_texture", device="cpu")
        assert GlobalHydra.instance().hydra is own
        assert application_compose("app").answer == 42
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "tokenkut"}, "unknown method 'tokenkut'; did you mean tokencut. known: .*tokencut"),
        ({"backbone": "dino"}, "unknown backbone 'dino'; known: color_texture, dino_vitb16"),
        (
            {"overrides": ["method.taux=1"]},
            "unknown setting 'method.taux'; did you mean method.tau. eigenseg extract --help",
        ),
        ({"overrides": ["solver=fast"]}, "unknown solver 'fast'; known: arpack, dense, krylov, lobpcg"),
        ({"overrides": ["runtime.batch_size=many"]}, "runtime.batch_size"),
        ({"overrides": ["outputs.dir=x"]}, "unknown setting 'outputs.dir'; did you mean output. eigenseg extract --help"),
        ({"overrides": ["runtime.batch_size=[1"]}, r"runtime.batch_size=\[1 cannot be read; a list is written"),
        ({"overrides": ["solver=null"]}, "solver must not be null; choose one"),
        ({"overrides": ["hydra.searchpath=[file://x]"]}, "hydra.searchpath is not a setting"),
        (
            {"overrides": ["method=per_frame", "method.base=nope"]},
            "known: class_agnostic_detector, .*deep_spectral, .*maskcut_reference, tokencut$",
        ),
        ({"overrides": {"method.taux": 1}}, "unknown setting 'method.taux'"),
    ],
)
def test_what_is_unknown_is_named_with_what_is_known(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        compose(**{"backbone": "color_texture", **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_a_missing_yaml_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such configuration: .*gone.yaml"):
        compose(tmp_path / "gone.yaml")
    with pytest.raises(FileNotFoundError, match="config_dir: no such folder"):
        compose(config_dir=tmp_path / "gone")


@pytest.mark.parametrize("overrides", ["method.tau=0.3", 3, ["method.tau=0.3", 4], {3: 4}, {"method.tau": object()}])
def test_overrides_of_another_type_are_named(overrides: Any) -> None:
    with pytest.raises(TypeError, match="overrides"):
        compose(backbone="color_texture", overrides=overrides)


VALUES: dict[str, Any] = {
    "method": "found",
    "method.head": Path("h(1) it's, [2].pth"),
    "method.threshold": 0.25,
    "method.weighted": False,
    "postprocess": "bilateral",
    "postprocess.parameters": {"tol": 1e-7, "max_iterations": np.int64(3)},
    "preprocess": {"mode": "pad", "resize": None},
    "runtime": {"batch_size": 3},
    "input": "${x}",
    "allow_targets": ["mine", "my.own"],
    "+backbone.extra": [1, None, "a,b", [True]],
}


def test_overrides_may_be_a_dict_of_plain_values() -> None:
    config = plain(compose(backbone="color_texture", overrides=VALUES))
    assert config["method"]["head"] == "h(1) it's, [2].pth"
    assert (config["method"]["threshold"], config["method"]["weighted"]) == (0.25, False)
    assert {name: config["postprocess"]["parameters"][name] for name in ("tol", "max_iterations")} == {
        "tol": 1e-7,
        "max_iterations": 3,
    }
    assert (config["preprocess"]["mode"], config["runtime"]["batch_size"], config["input"]) == ("pad", 3, "${x}")
    assert config["allow_targets"] == ["mine", "my.own"]
    assert config["backbone"]["extra"] == [1, None, "a,b", [True]]
    assert plain(compose(overrides={"backbone": None, "postprocess": None}))["backbone"] is None


def test_a_dict_and_the_command_line_say_the_same() -> None:
    typed = ["method=per_frame", "method.base=lost", "method.base.k=7", "postprocess=null", "backbone=color_texture"]
    given = {
        "method": "per_frame",
        "method.base": "lost",
        "method.base.k": 7,
        "postprocess": None,
        "backbone": "color_texture",
    }
    assert plain(compose(overrides=typed)) == plain(compose(overrides=given))


@pytest.mark.parametrize(
    "path", ["h(1).pth", "a [1].json", "~/x y.txt", "it's {1}.pth", "a,b=c.pth", "${oc.env:HOME}", "a\\b"]
)
def test_a_path_means_the_same_in_every_way_of_writing_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    expected = path.replace("~", "/home/me")
    for overrides in ([f"method.head={path}"], {"method.head": path}, {"method": {"head": path}}):
        assert plain(compose("found", "color_texture", overrides))["method"]["head"] == expected
    if "$" not in path:  # of other settings an interpolation is one
        assert plain(compose("found", "color_texture", [f"+method.own={path}"]))["method"]["own"] == path


def test_any_string_can_be_quoted() -> None:
    rng, parser = np.random.default_rng(0), OverridesParser.create()
    for _ in range(2000):
        text = "".join(rng.choice(list("\\'\"${}[]():,=~ a"), rng.integers(0, 9)))
        value = parser.parse_override(f"a={quoted(text)}").value()
        assert OmegaConf.create({"a": value}).a == text


def test_a_yaml_of_ones_own_is_used_though_a_shipped_one_has_its_name(tmp_path: Path) -> None:
    (tmp_path / "tokencut.yaml").write_text("_target_: eigenseg.discovery.LOST\nk: 3\n")
    assert compose(tmp_path / "tokencut.yaml", "color_texture").method == {"_target_": "eigenseg.discovery.LOST", "k": 3}
