"""The bytes of images, where their files lie."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ._errors import Error, note
from ._file import is_url
from ._table import Table

#: Ids that an error names.
NAMED = 10


class Place:
    """Where one image lies, and what its table says of the file."""

    def __init__(self, row: dict[str, Any]) -> None:
        source = row["source"]
        self.path: str = source["path"]
        self.offset: int | None = source.get("offset")
        self.length: int | None = source.get("length")
        self.row: int | None = source.get("row")
        self.modified: datetime.datetime | None = row.get("modified")


def places(table: Table, ids: Sequence[str]) -> list[Place]:
    """Where images lie, in the order of their ids."""
    columns = [name for name in ("image_id", "source", "modified") if name in table.schema.names]
    if "source" not in columns:
        raise Error(f"the rows of `{table.name}` are of no files: it has no column `source`")
    wanted = pa.array(sorted(set(ids)), pa.string())
    found: dict[str, Place] = {}
    for batch in table.batches(columns):
        chosen = batch.filter(pc.is_in(batch.column(0), value_set=wanted))
        for row in chosen.to_pylist():
            found[row["image_id"]] = Place(row)
    missing = [image_id for image_id in dict.fromkeys(ids) if image_id not in found]
    if missing:
        named = ", ".join(f"`{image_id}`" for image_id in missing[:NAMED])
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise Error(f"no such images in `{table.name}`: {named}{more}")
    return [found[image_id] for image_id in ids]


class Reader:
    """Reads images of one folder or bucket."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._warned: set[str] = set()
        self._bucket: Any = None
        if is_url(root):
            self._bucket, self._prefix = _bucket(root)

    def read(self, place: Place) -> bytes:
        """An image's bytes."""
        if place.row is not None:
            raise Error(f"{place.path}: this version reads files and ranges of files, and this image is a row of a table")
        try:
            data = self._read(place)
        except OSError as error:
            raise Error(f"{self.root}/{place.path} cannot be read: {error.strerror or error}") from error
        if place.length is not None and len(data) != place.length:
            raise Error(
                f"{self.root}/{place.path} has {len(data)} bytes there, and the table says {place.length}: "
                "the file changed since it was listed, and a run lists it anew"
            )
        return data

    def _read(self, place: Place) -> bytes:
        length = -1 if place.offset is None or place.length is None else place.length
        if self._bucket is not None:
            with self._bucket.open_input_file(f"{self._prefix}/{place.path}") as file:
                file.seek(place.offset or 0)
                return bytes(file.read(None if length < 0 else length))
        path = Path(self.root, place.path)
        with open(path, "rb") as file:
            modified = datetime.datetime.fromtimestamp(0, datetime.timezone.utc) + datetime.timedelta(
                microseconds=os.fstat(file.fileno()).st_mtime_ns // 1000
            )
            if place.modified is not None and modified != place.modified and place.path not in self._warned:
                self._warned.add(place.path)
                note(f"{path} was written to since it was listed: it may be another image by now, and a run finds out")
            file.seek(place.offset or 0)
            return file.read(length)


def _bucket(url: str) -> Any:
    """Arrow's file system of a bucket, by the environment variables that the binary takes too, and the folder in it."""
    from pyarrow import fs

    scheme, _, path = url.partition("://")
    path = path.rstrip("/")
    env = os.environ
    if scheme == "s3":
        endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or env.get("AWS_ENDPOINT")
        options: dict[str, Any] = {"region": env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")}
        if endpoint:
            options["scheme"], _, options["endpoint_override"] = endpoint.rpartition("://")
        return fs.S3FileSystem(**{name: value for name, value in options.items() if value}), path
    if scheme == "gs":
        return fs.GcsFileSystem(), path
    if scheme == "az":
        return fs.AzureFileSystem(env.get("AZURE_STORAGE_ACCOUNT_NAME")), path
    raise Error(f"images at {url} cannot be read from here: s3, gs and az can")
