"""The files of a result folder apart from its records: what runs of any version left, and how it is removed."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from eigenseg.data.files import is_temporary, output_error, replacing
from eigenseg.data.json_files import check_shape, read_json
from eigenseg.data.results.base import Writer
from eigenseg.data.results.clip_writers import clip_writers
from eigenseg.data.results.identity import differences
from eigenseg.data.results.records import SCHEMA, Count, Kind, Record, Status, decode_json
from eigenseg.data.results.writers import image_writers

MANIFEST, RUN = "manifest.jsonl", "run.json"
ASSEMBLED = ("instances.json", "tracks.json")
_BEGUN = (".eigenseg-", ".begun")
# Whatever any run may have written, apart from writers of users.
_SHIPPED: dict[Kind, list[Writer]] = {
    "image": image_writers(masks=True, saliency=True, arrays=True),
    "clip": clip_writers(masks=True, saliency=True, arrays=True),
}
_OLDER_LINE = b'{"image": '  # how lines began in versions 0.1 and 0.2


class _OlderLine(msgspec.Struct):
    image: str
    status: Status
    instances: Count = 0


class _Run(TypedDict, total=False):
    """What is asked of a ``run.json``; older versions wrote no schema."""

    schema: int
    identity: dict[str, Any]
    writers: dict[str, dict[str, Any]]
    parts: dict[str, Any]


def older_records(root: Path) -> list[Record] | None:
    """What version 0.1 or 0.2 finished in a folder, without results; None if neither wrote it.

    Their label maps, overlays, masks and saliency maps had the names that they have today.

    Raises:
        ValueError: if its manifest is damaged.
    """
    manifest = root / MANIFEST
    if not _is_older(manifest):
        return None
    lines = manifest.read_bytes().split(b"\n")[:-1]  # a line that was cut off by a crash has no end
    done: dict[str, Record] = {}
    for number, text in enumerate(lines, start=1):
        try:
            line = decode_json(text, _OlderLine)
            done[line.image] = Record(line.image, "image", line.status, count=line.instances)
        except ValueError:
            raise ValueError(f"{manifest} line {number} is not a record of eigenseg; choose another output.dir") from None
    return [record for record in done.values() if record.done]


def check_schema(root: Path) -> None:
    """Raise if a newer version wrote a folder: nobody knows which files are its own.

    Raises:
        ValueError: saying what to do.
    """
    schema = read_run(root).get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise ValueError(
            f"{root} holds results of a newer version of eigenseg (schema {schema}, this version writes {SCHEMA}), so they "
            "can neither be continued nor replaced; choose another output.dir, or update eigenseg"
        )


def read_run(root: Path) -> dict[str, Any]:
    """Content of ``run.json``, empty if there is none or it is damaged."""
    path = root / RUN
    try:
        content: dict[str, Any] = read_json(path)
        check_shape(content, _Run, str(path), "a run.json of eigenseg")
    except (OSError, ValueError):
        return {}
    return content


def check_identity(root: Path, run: Mapping[str, Any], identity: Any) -> None:
    """Raise if the results of a folder are those of other settings.

    Args:
        root: the folder.
        run: content of its ``run.json``.
        identity: of the run that wants to continue.

    Raises:
        ValueError: naming every difference.
    """
    if "identity" not in run:
        raise ValueError(
            f"{root / RUN} does not contain the settings of the results in {root}; choose another output.dir, "
            "or resume=false to replace its results"
        )
    if run["identity"] != identity:
        raise ValueError(
            f"{root} holds results of another run; choose another output.dir, or resume=false to replace them. "
            f"Different: {', '.join(differences(run['identity'], identity))}"
        )


def sweep(root: Path, writers: Iterable[Writer] = ()) -> None:
    """Remove what killed runs left: temporary files, and folders without a file.

    Only for the holder of the lock of ``exclusive(root)``: files that another run writes at the moment would be lost.

    Args:
        root: folder of the results.
        writers: of users; only their folders and those of the shipped writers are searched.
    """
    sweep_files(root)
    for folder in {writer.name for writer in (*_SHIPPED["image"], *_SHIPPED["clip"], *writers)}:
        for current, _, names in os.walk(root / folder, topdown=False):
            leftovers = [name for name in names if is_temporary(name)]
            remove(Path(current, name) for name in leftovers)
            if len(leftovers) == len(names):
                with contextlib.suppress(OSError):  # it holds folders with files
                    os.rmdir(current)


def begin_record(root: Path, line: bytes) -> Path:
    """Note which record's files are written next, so that they can be removed if the process is killed before it is done.

    Raises:
        OutputError: if it cannot be written.
    """
    path = root / f"{_BEGUN[0]}{secrets.token_hex(8)}{_BEGUN[1]}"
    try:
        path.write_bytes(line + b"\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise output_error(path, error) from error
    return path


def begun_records(root: Path) -> list[tuple[Path, bytes]]:
    """Notes of ``begin_record`` that a killed process left, and their lines, of which the last one may be incomplete."""
    notes = sorted(root.glob(f"{_BEGUN[0]}*{_BEGUN[1]}"))
    return [(path, path.read_bytes().removesuffix(b"\n")) for path in notes]


def sweep_files(folder: Path) -> None:
    """Remove temporary files of killed runs that lie directly in a folder; for the holder of its lock, as ``sweep``."""
    remove(path for path in folder.iterdir() if is_temporary(path.name))


class _UnchangedError(Exception):
    """Leaves a block of ``replacing`` without replacing anything."""


def write_if_changed(path: Path, chunks: Iterable[str]) -> None:
    """Write text piece by piece, atomically; a file that holds the same already is left untouched.

    Raises:
        OutputError: if it cannot be written.
    """
    with contextlib.suppress(_UnchangedError), replacing(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(chunks)
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            raise _UnchangedError


def remove(paths: Iterable[Path]) -> None:
    """Remove files; those that do not exist are skipped.

    Raises:
        OutputError: if one cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # of such a name there is no file
                raise output_error(path, error) from error


def remove_files(
    root: Path, records: Iterable[Record], writers: Collection[Writer] = (), folders: Collection[str] | None = None
) -> set[Path]:
    """Remove all files of records, whatever the settings of the run were.

    Args:
        root: folder of the results.
        records: of images name and count suffice, of clips the whole record is needed.
        writers: of users, whose files are removed beside those of the shipped ones.
        folders: only files in these folders of writers; in all if not given.

    Returns:
        Folders that may be empty now.

    Raises:
        OutputError: if one cannot be removed.
    """
    emptied: set[Path] = set()
    for record in records:
        for writer in (*_SHIPPED[record.kind], *writers):
            if writer.kind == record.kind and (folders is None or writer.name in folders):
                paths = [root / path for path in writer.paths(record)]
                remove(paths)
                emptied |= {path.parent for path in paths}
    return emptied


def remove_emptied(root: Path, folders: Iterable[Path]) -> None:
    """Remove those of these folders below the root that are empty, and their parents that become empty."""
    for folder in sorted(set(folders), reverse=True):
        while folder != root and root in folder.parents:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                break
            folder = folder.parent


def _is_older(manifest: Path) -> bool:
    if not manifest.is_file():
        return False
    with open(manifest, "rb") as stream:
        found = stream.read(len(_OLDER_LINE))
    return len(found) > 2 and _OLDER_LINE.startswith(found)  # today's lines differ in the third byte
