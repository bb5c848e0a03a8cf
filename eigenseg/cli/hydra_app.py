"""A command as a Hydra application: its arguments in the form that Hydra's parser takes, its errors in one sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eigenseg.config.schema import PATHS, nest

# Hydra's options that take a value, and those that do not; everything else is a setting, written without dashes.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
_FLAGS = ("--help", "-h", "--hydra-help", "--info", "-i", "--resolve", "--run", "-r", "--multirun", "-m", "-sc")
_SWEEP = ("--multirun", "-m")


def run_hydra(command: str, task: Callable[[Any], None], arguments: Sequence[str]) -> None:
    """Compose the configuration of a command and call its task, once or, in a sweep, once a job.

    Args:
        command: extract or evaluate; the name of a root yaml.
        task: takes the composed configuration.
        arguments: as typed.

    Raises:
        ValueError: if an argument or the configuration is wrong.
    """
    import hydra

    from eigenseg.config.compose import CONFIG_MODULE, readable_errors

    entry = hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=command)(task)
    # A sweep names its folders by what was set; a path would make a folder name of its own.
    folder_names = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(PATHS)}]"
    saved, sys.argv = sys.argv, [f"eigenseg {command}", *arrange(arguments), folder_names]
    try:
        with _full_error(), readable_errors(command), _log_on_stderr():
            entry()
    finally:
        sys.argv = saved


def arrange(arguments: Sequence[str]) -> list[str]:
    """Options first, then settings, as Hydra's parser wants them; people write them in any order.

    Raises:
        ValueError: if an argument is neither.

    Example:
        >>> arrange(["input=a (1).jpg", "-m", "method.tau=0.1,0.2"])
        ['-m', "input='a (1).jpg'", 'method.tau=0.1,0.2']
    """
    options: list[str] = []
    overrides: list[str] = []
    value_follows = False
    sweep = any(flag in arguments for flag in _SWEEP)
    for argument in arguments:
        if value_follows or argument.startswith("-"):
            if not value_follows and argument.split("=")[0] not in (*_WITH_VALUE, *_FLAGS):
                raise ValueError(f"unknown option {argument}; settings are written without dashes, such as input=photos/")
            options.append(argument)
            value_follows = not value_follows and argument in _WITH_VALUE
        elif "=" in argument or argument.startswith("~"):
            overrides.append(nest(_literal_path(argument, sweep)))
        else:
            raise ValueError(f"{argument!r} is not a setting; write key=value, such as input={argument}")
    return [*options, *overrides]


def _literal_path(override: str, sweep: bool) -> str:
    """Quote a path for Hydra, with ~ expanded; in a sweep a comma separates values, unless a file is called so."""
    key, _, value = override.partition("=")
    if key not in PATHS or value in ("", "null") or value[0] in "'\"":
        return override
    path = os.path.expanduser(value)
    if sweep and "," in value and not os.path.exists(path):
        return override
    escaped = path.replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"{key}='{escaped}'"


@contextlib.contextmanager
def _full_error() -> Iterator[None]:
    """Let exceptions through: by itself Hydra would print a traceback and exit."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Show what the library logs, as long as the command runs."""
    logger, handler = logging.getLogger("eigenseg"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
