"""A yaml of the user's own sets its group and nothing else, whatever it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run, check_one_error

from eigenseg.config.compose import compose

CUT = "_target_: eigenseg.discovery.TokenCut\n"
CALL = "{_target_: subprocess.check_call, args: 'echo ran > ran.txt', shell: true}"
PLACE = "a yaml sets its own group, method, alone"
SITE = "of Hydra's own groups, a yaml may set hydra/launcher and hydra/sweeper"
LOGGING = "version: 1\nhandlers: {x: {'()': os.system, command: echo ran > ran.txt}}\nroot: {handlers: [x]}\n"
BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE = {
    "allows itself": ({"method/x.yaml": "# @package _global_\nallow_targets: [subprocess]\n"}, PLACE),
    "blank line and spaces": ({"method/x.yaml": "\n  #  @package  _global_\nallow_targets: [subprocess]\n"}, PLACE),
    "Windows' ends of lines": ({"method/x.yaml": "# @package _global_\r\nallow_targets: [subprocess]\r\n"}, PLACE),
    "callback by header": ({"method/x.yaml": f"# @package hydra.callbacks\nx: {CALL}\n"}, PLACE),
    "callback by defaults": (
        {"method/x.yaml": f"defaults: [/foo@_global_.hydra.callbacks: y]\n{CUT}", "foo/y.yaml": f"x: {CALL}\n"},
        PLACE,
    ),
    "callback by a name": (
        {"method/x.yaml": f"defaults: [/foo/y@_global_]\n{CUT}", "foo/y.yaml": f"hydra: {{callbacks: {{x: {CALL}}}}}\n"},
        PLACE,
    ),
    "logging": (
        {
            "method/x.yaml": f"defaults: [override /hydra/job_logging@_global_.hydra.job_logging: y]\n{CUT}",
            "hydra/job_logging/y.yaml": LOGGING,
        },
        PLACE,
    ),
    "another place": ({"method/x.yaml": f"defaults: [override /solver@_global_.method: dense]\n{CUT}"}, PLACE),
    "beside a group": ({"method/x.yaml": f"defaults: [/y]\n{CUT}", "y.yaml": "a: 1\n"}, "y.yaml is in no group"),
    "command of Python": (
        {"method/x.yaml": "_target_: !!python/object/apply:os.system [ls]\n"},
        "is no yaml of plain values",
    ),
    "aliases": ({"method/x.yaml": BOMB}, "has more than 10000 values"),
    "itself": ({"method/x.yaml": "a: &a\n  b: *a\n"}, "is nested more than 40 deep"),
    "deep": ({"method/x.yaml": f"a: {'[' * 20000}{']' * 20000}\n"}, "is nested more than 40 deep"),
    "long": ({"method/x.yaml": f"{CUT}a: {'x' * 70000}\n"}, "has more than 65536 bytes"),
    "twice": ({"method/x.yaml": CUT + CUT}, "found duplicate key"),
    "list": ({"method/x.yaml": "- 1\n"}, "must hold settings, key: value, got a list"),
    "no text": ({"method/x.yaml": "\0"}, "is no yaml of plain values"),
    "loop": (
        {"method/x.yaml": f"{CUT}tau: ${{method.eps}}\neps: ${{method.tau}}\n"},
        "method.tau: Recursive interpolation",
    ),
    "nowhere": ({"method/x.yaml": f"{CUT}tau: ${{a.b}}\n"}, "method.tau: Interpolation key 'a.b' not found"),
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


@pytest.mark.parametrize("name", HOSTILE)
def test_a_yaml_that_reaches_beyond_its_group_is_refused_and_runs_nothing(name: str, run: Run, tmp_path: Path) -> None:
    files, message = HOSTILE[name]
    write(tmp_path / "conf", files)
    arguments = ["input=.", "backbone=color_texture", "method=x"]
    for sweep in ([], ["-m", "runtime.threads=1"]):
        check_one_error(*run("extract", "--config-dir", "conf", *arguments, *sweep), message)
    with pytest.raises(ValueError, match="conf|method.tau") as refused:
        compose("x", "color_texture", config_dir=tmp_path / "conf")
    assert message in str(refused.value)
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize(
    ("name", "text", "setting"),
    [
        ("hydra/job_logging/y.yaml", LOGGING, "hydra/job_logging=y"),
        ("hydra/callbacks/y.yaml", f"x: {CALL}\n", "+hydra/callbacks=y"),
        ("hydra/launcher/y.yaml", "_target_: os.system\n", "hydra/launcher=y"),
        ("hydra/launcher/y.yaml", "x: \"${oc.decode:'{_t: 1}'}\"\n", "hydra/launcher=y"),
    ],
)
def test_groups_of_hydra_that_call_their_targets_unchecked_are_not_the_users(
    name: str, text: str, setting: str, run: Run, tmp_path: Path
) -> None:
    write(tmp_path / "conf", {name: text})
    check_one_error(*run("extract", "--config-dir=conf", "input=.", "-m", setting), SITE)
    assert not (tmp_path / "ran.txt").exists()


def test_a_cluster_of_ones_own_may_be_set_by_plain_values(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "conf", {"hydra/launcher/y.yaml": "defaults: [basic, _self_]\n"})
    check_one_error(
        *run("extract", "--config-dir", "conf", "input=gone", "-m", "hydra/launcher=y"), "no such file or folder"
    )


def test_a_yaml_given_by_its_path_is_named_by_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# @package _global_\nallow_targets: [os]\n")
    with pytest.raises(ValueError, match=f"^{path} must not have the header '@package _global_'"):
        compose(path, "color_texture")


@pytest.mark.parametrize("option", ["--config-name", "--config-path=conf", "-cn", "hydra.searchpath=[file://conf]"])
def test_no_other_root_is_taken(option: str, run: Run) -> None:
    code, _, err = run(
        "extract", "input=.", option, *(["evil"] if option[:2] in ("--", "-c") and "=" not in option else [])
    )
    assert code == 2
    assert "unknown option" in err or "is not a setting; a folder of your own yamls is --config-dir" in err


def test_a_folder_that_is_not_there_is_named(run: Run) -> None:
    check_one_error(*run("extract", "--config-dir", "gone", "input=."), "--config-dir: no such folder gone")
    check_one_error(*run("extract", "input=.", "--config-dir"), "--config-dir needs a value")


def test_a_yaml_may_choose_another_groups_yaml_and_fill_what_is_below_it(tmp_path: Path) -> None:
    text = "defaults:\n  - /method@base: lost\n  - override /backbone@_global_.backbone: null\n  - _self_\nmin_iou: 0.4\n"
    write(tmp_path, {"method/x.yaml": text.replace("  - _self_\n", "").replace("  - override", "  - _self_\n  - override")})
    config = compose("x", config_dir=tmp_path)
    assert (config.backbone, config.method.base.k, config.method.min_iou) == (None, 100, 0.4)


def test_allow_targets_does_not_count_as_a_single_entry(run: Run) -> None:
    code, _, err = run("extract", "input=.", "allow_targets=[a],[b]", "-m")
    assert (code, "allow_targets takes a list of names" in err) == (2, True)
