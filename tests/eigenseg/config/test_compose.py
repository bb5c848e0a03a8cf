"""Names, paths and overrides mean the same from Python as on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose as application_compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from eigenseg import Predictor, TokenCut
from eigenseg.config.compose import compose


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
        ({"method": "tokenkut"}, "unknown method 'tokenkut'; known: .*tokencut"),
        ({"backbone": "dino"}, "unknown backbone 'dino'; known: color_texture, dino_vitb16"),
        ({"overrides": ["method.taux=1"]}, "unknown setting 'method.taux'; eigenseg extract --help"),
        ({"overrides": ["solver=fast"]}, "unknown solver 'fast'; known: arpack, dense, krylov, lobpcg"),
        ({"overrides": ["runtime.batch_size=many"]}, "runtime.batch_size"),
        ({"overrides": ["input=[1"]}, "input"),
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
