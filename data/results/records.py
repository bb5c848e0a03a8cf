"""What is kept of one image or clip: one line of json that gives back the result exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from numpy.typing import NDArray

from eigenseg.data.instances import Instances
from eigenseg.data.json_files import check_shape
from eigenseg.data.results.contents import (
    InstancesContent,
    TracksContent,
    decode_instances,
    decode_tracks,
    encode_counts,
    encode_result,
)
from eigenseg.data.results.encoding import AbsentArray, absent_arrays
from eigenseg.data.tracks import Tracks

T = TypeVar("T")

# What values in extras and metadata raise that were not encoded by ``encode_value``.
_DAMAGED = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)

# Raised when a line changes its form or its meaning; version 0.1 wrote no number.
SCHEMA = 2
DONE: Literal["done"] = "done"
FAILED: Literal["failed"] = "failed"

Kind = Literal["image", "clip"]
Status = Literal["done", "failed"]
Stamp = list[int] | None  # as ``ImageSource.stamp()`` gives it
# Files are named by number: a forged count must not make a run look for billions of them.
Count = Annotated[int, msgspec.Meta(ge=0, le=10**6)]


class Outline(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line without its result: enough to know what is finished, read without decoding a mask."""

    schema: int
    name: str
    kind: Kind
    status: Status
    stamp: Stamp = None
    image_size: tuple[int, int] | None = None
    milliseconds: float = 0.0
    count: Count = 0
    reason: str | None = None
    error: str | None = None
    unreadable: dict[str, str] = {}  # msgspec copies it
    truncated: str | None = None


class _Line(Outline, kw_only=True, omit_defaults=True):
    result: dict[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class Record:
    """What is kept of one image or clip.

    Args:
        name: its path below the input with forward slashes.
        kind: ``image`` (its result is ``Instances``) or ``clip`` (``Tracks``).
        status: ``done`` or ``failed``.
        stamp: size and time of the source, taken before it was read; None if it is no file.
        image_size: (H, W) in pixels; None after a failure.
        milliseconds: time that the result took.
        count: of instances or tracks.
        reason: why there are none.
        error: why it failed, in one line.
        unreadable: errors of the frames that could not be decoded, by frame name.
        truncated: what a video file lacks at its end, in one sentence.
        arrays: large arrays of extras and metadata, named by their position such as ``extras.eigenvector.0`` and
            ``metadata.saliency``. They are not in the line.
        content: the result without large arrays as json values, see ``Record.of``.

    Raises:
        ValueError: if the name is no path below a folder.

    Example:
        >>> instances = Instances.empty((4, 6), "one color", gap=(float("inf"), 2))
        >>> record = Record.of("dogs/rex.jpg", [1234, 0], instances, milliseconds=2.5)
        >>> again = Record.from_line(record.to_line())
        >>> again.reason, again.count, again.instances().equals(instances)
        ('one color', 0, True)
    """

    name: str
    kind: Kind
    status: Status
    stamp: Stamp = None
    image_size: tuple[int, int] | None = None
    milliseconds: float = 0.0
    count: int = 0
    reason: str | None = None
    error: str | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)
    truncated: str | None = None
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    content: Mapping[str, Any] | None = field(default=None, repr=False)
    _result: Instances | Tracks | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        path = PurePosixPath(self.name)
        if not path.name or path.is_absolute() or ".." in path.parts:  # files are written and removed by this name
            raise ValueError(f"name must be a path below the input, got {self.name!r}")

    @classmethod
    def of(
        cls,
        name: str,
        stamp: Stamp,
        result: Instances | Tracks,
        milliseconds: float = 0.0,
        truncated: str | None = None,
    ) -> Record:
        """Keep a result.

        Args:
            name, stamp, milliseconds, truncated: see the class.
            result: of an image or a clip.

        Raises:
            ValueError: if a value in extras or metadata cannot be stored; the message names it.
        """
        arrays: dict[str, NDArray[Any]] = {}
        kind: Kind = "clip" if isinstance(result, Tracks) else "image"
        unreadable = result.metadata.get("unreadable", {}) if kind == "clip" else {}
        reason = result.metadata.get("reason")
        return cls(
            name=name,
            kind=kind,
            status=DONE,
            stamp=stamp,
            image_size=(int(result.image_size[0]), int(result.image_size[1])),
            milliseconds=round(float(milliseconds), 2),
            count=len(result),
            reason=None if reason is None else str(reason),
            unreadable={str(frame): str(error) for frame, error in unreadable.items()},
            truncated=truncated,
            content=encode_result(result, arrays),
            arrays=MappingProxyType(arrays),
            _result=result,
        )

    @classmethod
    def failure(cls, name: str, kind: Kind, stamp: Stamp, error: str) -> Record:
        """Keep the reason of a failure, in one line."""
        return cls(name, kind, FAILED, stamp, error=error)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.status == DONE

    def instances(self) -> Instances:
        """The result of an image; ``AbsentArray`` stands for large arrays that are not in ``arrays``.

        Raises:
            ValueError: if there is none, or the record is that of a clip.
        """
        result = self._decode("image")
        assert isinstance(result, Instances)
        return result

    def tracks(self) -> Tracks:
        """The result of a clip; ``AbsentArray`` stands for large arrays that are not in ``arrays``.

        Raises:
            ValueError: if there is none, or the record is that of an image.
        """
        result = self._decode("clip")
        assert isinstance(result, Tracks)
        return result

    def array_shapes(self) -> dict[str, AbsentArray]:
        """Names, dtypes and shapes of all large arrays, whether or not they are in ``arrays``."""
        try:
            return {} if self.content is None else absent_arrays([self.content["extras"], self.content["metadata"]])
        except _DAMAGED as error:
            raise self._damaged(error) from None

    def with_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> Record:
        """The record with large arrays, such as those of a ``.npz``.

        Raises:
            ValueError: if one is not of this record, or has another dtype or shape.
        """
        expected = self.array_shapes()
        for name, array in arrays.items():
            if expected.get(name) != AbsentArray(array.dtype.str, array.shape):
                raise ValueError(
                    f"{self.name}: array {name} is {array.dtype.str} {array.shape}, the record has {expected.get(name)}"
                )
        return replace(self, arrays=MappingProxyType({**self.arrays, **arrays}))

    def to_line(self) -> bytes:
        """One line of json, without the newline. Masks are encoded here, so that it may be done in another thread."""
        content = None if self.content is None else dict(self.content)
        if content is not None and self._result is not None:
            content["masks"] = encode_counts(self._result)
        return _encode_json(_Line(schema=SCHEMA, result=content, **_kept(self)))

    @classmethod
    def from_line(cls, line: bytes) -> Record:
        """Read a line of ``to_line``.

        Raises:
            ValueError: if it is none, or has another schema.
        """
        read = decode_json(line, _Line)
        if read.schema != SCHEMA:
            raise ValueError(f"a record has schema {read.schema}, this version reads {SCHEMA}")
        return replace(cls.from_outline(read), content=read.result)

    @classmethod
    def from_outline(cls, outline: Outline) -> Record:
        """A record without its result."""
        return cls(**_kept(outline))

    def _decode(self, kind: Kind) -> Instances | Tracks:
        if self.content is None or self.kind != kind or self.image_size is None:
            what = "failed" if self.status == FAILED else f"is the record of a{'n' * (self.kind == 'image')} {self.kind}"
            raise ValueError(f"{self.name} {what}, it has no {'instances' if kind == 'image' else 'tracks'}")
        if self._result is not None:
            return self._result
        try:
            if kind == "image":
                return decode_instances(self._shaped(InstancesContent), self.image_size, self.arrays)
            return decode_tracks(self._shaped(TracksContent), self.image_size, self.arrays)
        except _DAMAGED as error:
            raise self._damaged(error) from None

    def _shaped(self, kind: type[T]) -> T:
        return check_shape(self.content, kind, "its result", f"that of a{'n' * (self.kind == 'image')} {self.kind}")

    def _damaged(self, error: Exception) -> ValueError:
        what = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        return ValueError(f"the record of {self.name} is damaged: {what}")


def _kept(record: Record | Outline) -> dict[str, Any]:
    """What a line and a record have in common."""
    return {name: getattr(record, name) for name in Outline.__struct_fields__ if name != "schema"}


def decode_json(line: bytes, kind: type[T]) -> T:
    """Decode a line and check its types.

    Raises:
        ValueError: if it is something else.
    """
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Names of files may have bytes that are not UTF-8; msgspec rejects them, the standard library does not.
        try:
            return msgspec.convert(json.loads(line), kind)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


def _encode_json(content: Any) -> bytes:
    try:
        return msgspec.json.encode(content)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(content), allow_nan=False, separators=(",", ":")).encode()
