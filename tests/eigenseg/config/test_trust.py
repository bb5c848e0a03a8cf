"""A yaml names classes and functions of the trusted packages, or of those that the user allows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eigenseg import Predictor
from eigenseg.config.build import build_parts
from eigenseg.config.compose import compose


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", r"method._target_=os.system is outside what a yaml may name: .*add allow_targets=\[os.system\]"),
        ("torch.os.system", "torch.os.system is outside"),
        ("eigenseg.data.images.os.remove", "os.remove is outside"),
        ("eigenseg.nothing.Here", "cannot be imported"),
        ("torchvisionary.Thing", "torchvisionary.Thing is outside"),
    ],
)
def test_a_target_outside_the_trusted_packages_is_rejected_by_whatever_name(target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_parts(compose(backbone="color_texture", overrides=[f"method._target_={target}"]))


def test_a_hidden_target_deeper_in_a_yaml_is_rejected_too() -> None:
    config = compose(backbone="color_texture", overrides=["+method.solver.extra=[{_target_:os.system}]"])
    with pytest.raises(ValueError, match=r"method.solver.extra\[0\]._target_=os.system is outside"):
        build_parts(config)


def test_a_class_of_the_user_is_built_when_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cuts.py").write_text(
        "from eigenseg import Preprocess\n"
        "class Mine:\n    preprocess = Preprocess(mode='crop')\n    needs_attention = False\n"
        "    def __call__(self, features, images):\n        return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.yaml").write_text("_target_: my_cuts.Mine\n")
    predictor = Predictor.from_config(
        tmp_path / "mine.yaml", backbone="color_texture", device="cpu", overrides=["allow_targets=[my_cuts]"]
    )
    assert type(predictor.method).__name__ == "Mine"
    sys.modules.pop("my_cuts")
