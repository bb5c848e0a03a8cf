"""Damaged json of every kind is read or refused in one sentence with its name, within seconds, by every reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 300


@pytest.mark.slow
def test_every_reader_reads_or_refuses_damaged_files_in_one_sentence(tmp_path: Path) -> None:
    here = Path(__file__).parent
    arguments = [sys.executable, here / "fuzz_json.py", "0", str(COUNT), tmp_path / "files"]
    environment = {**os.environ, "PYTHONPATH": str(here.parent)}
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes["read"] + outcomes["refused"] == COUNT
    assert min(outcomes.values()) > COUNT // 10  # damage that matters, and damage that does not
