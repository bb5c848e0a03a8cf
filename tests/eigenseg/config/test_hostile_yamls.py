"""Random hostile yamls: each is built or refused in one sentence, soon, and no code of theirs runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

COUNT, SEED = 30, 0
CODE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
TARGETS = (
    "os.system",
    "subprocess.check_call",
    "builtins.exec",
    "torch.utils.collect_env.run",
    "torch.hub.load",
    "torch.load",
    "torch.save",
    "torch.nn.modules.module.torch.save",
    "timm.create_model",
    "pickle.load",
    "shutil.rmtree",
    "eigenseg.cli.main.main",
    "eigenseg.data.files.write_bytes",
    "eigenseg.data.results.store.ResultStore",
    "eigenseg.discovery.TokenCut",
    "eigenseg.discovery.ColorTexture",
    "eigenseg.segment.refine.CRFParameters",
    "torch.nn.Linear",
)
GROUPS = ("method", "backbone", "postprocess", "dataset", "evaluation", "solver", "output", "hydra/job_logging")
PACKAGES = ("_global_", "hydra.callbacks", "hydra", "_group_", "method.solver")
DEFAULTS = (
    "/solver@_global_.hydra.callbacks.x: dense",
    "override /hydra/launcher@_global_.hydra.launcher: basic",
    "override /backbone@_global_.backbone: null",
    "/method@base: lost",
    "../../../../etc/passwd",
    "/x@_global_",
)
JUNK = (
    "${oc.env:HOME}",
    "${method}",
    "!!python/name:os.system",
    "&a [*a]",
    "\\${x}",
    "[[[[",
    "\0",
    ".nan",
    "9" * 400,
    "{1: 2}",
)

# Runs in a process of its own: an audit hook cannot be taken off again.
RUNNER = """
import json, os, sys, time
from pathlib import Path
from eigenseg.config.build import build_dataset, build_metric, build_parts, build_writers
from eigenseg.config.compose import compose
from eigenseg.config.trust import find_target

BAD = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "shutil.rmtree",
       "socket.connect")
events, outcomes = [], []
build_parts(compose("tokencut", "color_texture"))  # what importing does on its own
find_target("timm.models.vision_transformer.VisionTransformer", (), "method.x")
sys.addaudithook(lambda event, arguments: events.append([event, str(arguments)]) if event in BAD else None)
for folder in sorted(Path("yamls").iterdir()):
    (path,) = folder.rglob("*.yaml")
    group, start = path.parent.relative_to(folder).as_posix(), time.monotonic()
    overrides = [] if group == "backbone" else ["backbone=color_texture"]
    try:
        config = compose(overrides=[*overrides, f"{group}=mine"], config_dir=folder)
        {"dataset": build_dataset, "evaluation": build_metric, "output": build_writers}.get(group, build_parts)(config)
        said = None
    except (ValueError, TypeError, OSError) as error:
        said = str(error)
    outcomes.append([said, time.monotonic() - start])
json.dump([events, outcomes, os.listdir()], sys.stdout)
"""


def hostile(rng: np.random.Generator) -> tuple[str, bytes]:
    """A group and a yaml."""

    def node(depth: int) -> str:
        pairs = [f"_target_: {rng.choice(TARGETS)}"] if rng.random() < 0.7 else []
        for key in rng.choice(
            ["command", "f", "solver", "args", "x", "_partial_", "_args_", "tau", "base"], 2, replace=False
        ):
            value = (
                node(depth + 1) if rng.random() < 0.4 and depth < 3 else rng.choice([*JUNK, '"echo ran > ran.txt"', "true"])
            )
            pairs.append(f"{key}: {value}")
        return "{" + ", ".join(pairs) + "}"

    group = str(rng.choice(GROUPS))
    lines = [f"# @package {rng.choice(PACKAGES)}"] if rng.random() < 0.3 else []
    if rng.random() < 0.3:
        lines.append(f"defaults: [{rng.choice(DEFAULTS)}]")
    if rng.random() < 0.3:
        lines.append(f"allow_targets: [{rng.choice(TARGETS).split('.')[0]}]")
    if group == "output":
        lines.append(f"writers: [{node(0)}]")
    else:
        lines += [f"_target_: {rng.choice(TARGETS)}", f"command: {node(0)}"]
    content = bytearray("\n".join(lines).encode())
    if rng.random() < 0.2:  # a byte that says something else
        content[rng.integers(len(content))] = rng.integers(256)
    return group, bytes(content)


@pytest.mark.slow
def test_hostile_yamls_run_nothing_and_are_refused_in_a_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    for i in range(COUNT):
        group, content = hostile(rng)
        path = tmp_path / "yamls" / f"{i:03d}" / group / "mine.yaml"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    command = [sys.executable, "-c", RUNNER]
    done = subprocess.run(command, cwd=tmp_path, env=CODE, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    events, outcomes, files = json.loads(done.stdout)
    assert events == []
    assert files == ["yamls"]
    assert len(outcomes) == COUNT
    assert all(seconds < 5 for _, seconds in outcomes)
    assert all("\n" not in said and said for said, _ in outcomes if said is not None)
    assert sum(said is not None for said, _ in outcomes) > COUNT // 2
