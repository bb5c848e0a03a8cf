"""A command as a Hydra application: its arguments in the form that Hydra's parser takes, its errors in one sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eigenseg.config.overrides import allowed_targets, as_overrides, quoted
from eigenseg.config.schema import PATHS
from eigenseg.config.source import search_path
from eigenseg.config.spelling import did_you_mean

# Hydra's options that take a value, and those that do not; everything else is a setting, written without dashes. Its
# options for another root (--config-path, --config-name) are left out: the root is the command's.
_FOLDER = ("--config-dir", "-cd")
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", *_FOLDER)
_FLAGS = ("--help", "-h", "--hydra-help", "--info", "-i", "--resolve", "--run", "-r", "--multirun", "-m", "-sc")
_SWEEP = ("--multirun", "-m")


def run_hydra(command: str, task: Callable[[Any, Sequence[str]], None], arguments: Sequence[str]) -> None:
    """Compose the configuration of a command and call its task, once or, in a sweep, once a job.

    Args:
        command: extract or evaluate; the name of a root yaml.
        task: takes the composed configuration, and the settings of the command line.
        arguments: as typed.

    Raises:
        ValueError: if an argument or the configuration is wrong.
    """
    import hydra

    from eigenseg.config.compose import CONFIG_MODULE, readable_errors

    arranged = arrange(arguments)
    allowed_targets(arranged)  # a sweep cannot vary it, and says so before its first job

    def job(config: Any) -> None:
        task(config, arranged)

    entry = hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name=command)(job)
    # A sweep names its folders by what was set; a path would make a folder name of its own.
    folder_names = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(PATHS)}]"
    saved, sys.argv = sys.argv, [f"eigenseg {command}", *arranged, folder_names]
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
    folders: list[str] = []
    sweep = any(flag in arguments for flag in _SWEEP)
    left = iter(arguments)
    for argument in left:
        if argument.startswith("-"):
            option, equals, value = argument.partition("=")
            if option not in (*_WITH_VALUE, *_FLAGS):
                raise ValueError(
                    f"unknown option {argument}; {'' if equals else did_you_mean(option, (*_WITH_VALUE, *_FLAGS))}"
                    "settings are written without dashes, such as input=photos/"
                )
            if option in _WITH_VALUE and not equals:
                value = next(left, "")
                if not value:
                    raise ValueError(f"{option} needs a value")
            if option in _FOLDER:
                folders.append(value)
            else:
                options += [option, value] if option in _WITH_VALUE else [argument]
        elif "=" in argument or argument.startswith("~"):
            overrides.append(argument)
        else:
            raise ValueError(f"{argument!r} is not a setting; write key=value, such as input={argument}")
    return [*options, *_search(folders), *as_overrides(overrides, sweep)]


def _search(folders: Sequence[str]) -> list[str]:
    """The folders of the user's own yamls; Hydra's option for them would read them unchecked."""
    for folder in folders:
        if not os.path.isdir(os.path.expanduser(folder)):
            raise FileNotFoundError(f"--config-dir: no such folder {folder}")
    paths = [quoted(search_path(os.path.expanduser(folder))) for folder in folders]
    return [f"hydra.searchpath=[{','.join(paths)}]"] if paths else []


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
