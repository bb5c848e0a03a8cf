"""A folder of results that can be interrupted at any moment and resumed.

::

    instances.json   all masks of images, COCO format, assembled at the end from the records
    tracks.json      all masks of clips, YouTube-VIS format, likewise
    manifest.jsonl   one record per image or clip, written after all other files of it
    run.json         schema, identity, settings of the writers, and whatever else is said of the run

What else lies here is up to the writers, see ``eigenseg.data.results.writers`` and ``clip_writers``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from eigenseg.data.files import make_folder, write_json
from eigenseg.data.results.arrays import read_arrays
from eigenseg.data.results.base import Writer
from eigenseg.data.results.coco import coco_chunks
from eigenseg.data.results.folder import (
    ASSEMBLED,
    MANIFEST,
    RUN,
    begin_record,
    begun_records,
    check_identity,
    check_schema,
    older_records,
    read_run,
    remove,
    remove_emptied,
    remove_files,
    sweep,
    write_if_changed,
)
from eigenseg.data.results.record_log import LogEntry, RecordLog
from eigenseg.data.results.records import SCHEMA, Kind, Record, Stamp
from eigenseg.data.results.ytvis import ytvis_dataset


class Source(Protocol):
    """An image or clip to process: ``ImageSource`` or ``ClipSource``."""

    @property
    def name(self) -> str:
        """Its path below the input."""
        ...

    def stamp(self) -> Stamp:
        """Size and time, to recognize an edited file; None if it is gone."""
        ...


class ResultStore:
    """Writes results and keeps track of what is finished.

    One process writes at a time: hold ``exclusive(root)`` of ``eigenseg.data.files`` from before the construction to the
    end. Within the process ``add``, ``fail`` and ``fill`` may be called from several threads at once, for different names.

    Args:
        root: the folder; created if absent.
        identity: everything that decides the results, as json values, see ``resolve_identity``; only a run with an equal
            identity may resume.
        writers: of one kind, image or clip. They are no part of the identity: what a new writer lacks is filled in.
        run: what else ``run.json`` says of the run that began the folder.
        resume: resume if the folder holds results of the same identity; otherwise the files of all records are removed
            and the run starts from scratch.
        kind: of the records, if there is no writer to tell.

    Raises:
        OutputError: if the folder cannot be written.
        ValueError: if it holds results of another identity or an older version and ``resume`` is set, or results of a
            newer version, or writers of both kinds are given.
    """

    def __init__(
        self,
        root: Path,
        identity: Mapping[str, Any],
        writers: Sequence[Writer] = (),
        run: Mapping[str, Any] | None = None,
        *,
        resume: bool = True,
        kind: Kind | None = None,
    ) -> None:
        self.root, self.writers = root, tuple(writers)
        kinds = {writer.kind for writer in self.writers} | ({kind} if kind else set())
        if len(kinds) > 1:
            raise ValueError("writers must be of one kind, those of image_writers or those of clip_writers")
        self.kind: Kind = kinds.pop() if kinds else "image"
        self._emptied: set[Path] = set()
        self._needs_content = any(writer.needs_content for writer in self.writers)
        # Only json values, to compare with those of a file.
        identity = json.loads(json.dumps(identity))
        settings = {writer.name: dict(writer.settings) for writer in self.writers}
        make_folder(root)
        check_schema(root)
        older = older_records(root)
        if older and resume:
            raise ValueError(
                f"{root} holds results of an older version of eigenseg, which evaluate, export and collect still read but "
                "no run can continue; choose another output.dir, or resume=false to replace them"
            )
        if older is not None:
            self._remove(older)
            remove([root / MANIFEST])
        self.log = RecordLog(root / MANIFEST)
        self._remove_begun()
        if resume and any(entry.done for entry in self.log.entries.values()):
            self._continue(identity, settings)
        else:
            self._remove(self._written())
            remove(root / name for name in ASSEMBLED)
            self.log.clear()
            content = {"schema": SCHEMA, "identity": identity, "writers": settings, **(run or {})}
            write_json(root / RUN, json.loads(json.dumps(content)))
        self._remove_emptied()
        sweep(root, self.writers)

    def update_run(self, **values: Any) -> None:
        """Add values to ``run.json``, such as the times of the stages; older values of these names are replaced."""
        write_json(self.root / RUN, {**read_run(self.root), **json.loads(json.dumps(values))})

    def holds(self, source: Source) -> bool:
        """Whether this image or clip is finished, all its files exist, and it has not changed since."""
        entry = self._fresh(source)
        return entry is not None and not self._lacking(self._sketch(source.name, entry))

    def unwritten(self, source: Source) -> bool:
        """Whether it is finished and has not changed since, files are missing, and ``fill`` can write them."""
        entry = self._fresh(source)
        if entry is None or not (lacking := self._lacking(self._sketch(source.name, entry))):
            return False
        record = self.log.read(source.name)
        needed = {name for writer in lacking for name in writer.needs_arrays(record)}
        try:
            return not needed or needed <= set(read_arrays(self.root, source.name))
        except ValueError:  # damaged arrays are computed again
            return False

    def lacks_arrays(self, source: Source) -> bool:
        """Whether it is finished and has not changed since, but must be computed again, for lack of its large arrays."""
        return self._fresh(source) is not None and not self.holds(source) and not self.unwritten(source)

    def needs_pixels(self, source: Source) -> bool:
        """Whether ``fill`` needs the image or clip itself."""
        entry = self.log.entries[source.name]
        return any(writer.needs_pixels for writer in self._lacking(self._sketch(source.name, entry)))

    def fill(self, source: Source, pixels: Any = None) -> None:
        """Write the missing files of something ``unwritten`` from its record.

        Args:
            source: the image or clip.
            pixels: it as (H, W, 3) uint8 RGB or ``Clip``; may be None unless ``needs_pixels``.

        Raises:
            ValueError: if there is no such record, or a file cannot be written from it.
            OutputError: if it cannot be written.
        """
        record = self.record(source.name)
        if record is None or not record.done:
            raise ValueError(f"{source.name} has no result to write files from")
        for writer in self._lacking(record):
            writer.write(self.root, record, pixels)

    def record(self, name: str) -> Record | None:
        """The record of a name with the large arrays that were written, None if there is none.

        Raises:
            ValueError: if its arrays are damaged.
        """
        if name not in self.log.entries:
            return None
        record = self.log.read(name)
        return record.with_arrays(read_arrays(self.root, name)) if record.done else record

    def records(self, names: Iterable[str] | None = None) -> Iterator[Record]:
        """Records of these names, of all if none are given, one at a time and without large arrays."""
        return self.log.read_all(names)

    def add(self, record: Record, pixels: Any = None) -> None:
        """Write all files of a result, then its record. Files of an earlier record of the name are removed.

        Args:
            record: of ``Record.of``, with its arrays.
            pixels: the image, (H, W, 3) uint8 RGB, or the ``Clip``.

        Raises:
            ValueError: if the result has no file form; none of its files is left.
            OutputError: if something cannot be written.
        """
        if record.kind != self.kind:
            raise ValueError(f"{record.name} is a record of kind {record.kind}, this store holds the kind {self.kind}")
        line = record.to_line()
        self._remove_earlier(record.name)
        begun = begin_record(self.root, line)
        try:
            for writer in self.writers:
                writer.write(self.root, record, pixels)
        except ValueError:
            self._remove([record])
            remove([begun])
            raise
        self.log.append(record, line)
        remove([begun])

    def fail(self, record: Record) -> None:
        """Record that something could not be processed; a later run tries again. Its older results are removed."""
        line = record.to_line()
        self._remove_earlier(record.name)
        self.log.append(record, line)

    def failures(self, sources: Iterable[Source]) -> list[Record]:
        """Records of those among these sources that could not be processed."""
        entries = ((source.name, self.log.entries.get(source.name)) for source in sources)
        return list(self.records([name for name, entry in entries if entry is not None and not entry.done]))

    def incomplete(self, sources: Iterable[Source]) -> list[Record]:
        """Records of those among these clips that are done and have frames that are missing or could not be read."""
        entries = ((source.name, self.log.entries.get(source.name)) for source in sources)
        return list(self.records([name for name, entry in entries if entry is not None and not entry.complete]))

    def finish(self, sources: Iterable[Source]) -> Path:
        """Assemble ``instances.json`` or ``tracks.json`` from the records of these sources, sorted by name, ids from 1.

        The file is left untouched if nothing changed. Folders that became empty are removed.
        """
        names = {source.name for source in sources}
        done = {name: e for name in sorted(names) if (e := self.log.entries.get(name)) is not None and e.done}
        records = self.records(done)
        if self.kind == "image":
            images = ((name, entry.image_size) for name, entry in done.items() if entry.image_size is not None)
            path, chunks = self.root / "instances.json", coco_chunks(images, records)
        else:
            content = ytvis_dataset((record.name, record.tracks()) for record in records)
            path, chunks = self.root / "tracks.json", iter([json.dumps(content, allow_nan=False), "\n"])
        write_if_changed(path, chunks)
        self._remove_emptied()
        return path

    def _continue(self, identity: Any, settings: dict[str, Any]) -> None:
        """Check that this run may go on, and drop files of writers whose settings changed."""
        run = read_run(self.root)
        check_identity(self.root, run, identity)
        before = run.get("writers", {})
        changed = {name for name, values in settings.items() if name in before and before[name] != values}
        if changed:
            self._remove(self._written(), changed)
        if any(before.get(name) != values for name, values in settings.items()):
            write_json(self.root / RUN, {**run, "writers": {**before, **settings}})

    def _fresh(self, source: Source) -> LogEntry | None:
        """The entry of something that is done and has not changed since."""
        entry = self.log.entries.get(source.name)
        if entry is None or not entry.done or entry.stamp is None or entry.stamp != source.stamp():
            return None
        return entry

    def _sketch(self, name: str, entry: LogEntry) -> Record:
        """As much of a record as tells its files: those of a clip depend on its frames and tracks."""
        return entry.outline(name) if entry.kind == "image" and not self._needs_content else self.log.read(name)

    def _lacking(self, record: Record) -> list[Writer]:
        """Writers whose files do not all exist."""
        return [writer for writer in self.writers if not all((self.root / path).exists() for path in writer.paths(record))]

    def _written(self) -> Iterator[Record]:
        return (self._sketch(name, entry) for name, entry in self.log.entries.items() if entry.done)

    def _remove_begun(self) -> None:
        """Remove the files of records that a killed run was writing; of those that it finished, the note alone."""
        for note, line in begun_records(self.root):
            with contextlib.suppress(ValueError):  # an incomplete note: no file was written yet
                record = Record.from_line(line)
                if not self.log.ends_with(record.name, line):
                    self._remove([record])
            remove([note])

    def _remove_earlier(self, name: str) -> None:
        entry = self.log.entries.get(name)
        if entry is not None and entry.done:
            self._remove([self._sketch(name, entry)])

    def _remove(self, records: Iterable[Record], folders: Collection[str] | None = None) -> None:
        self._emptied |= remove_files(self.root, records, self.writers, folders)

    def _remove_emptied(self) -> None:
        remove_emptied(self.root, self._emptied)
        self._emptied.clear()
