"""Images and tables in a bucket, of the S3 server moto; $TESSERA_MOTO is the folder that `tests/moto.sh` installs it into."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyarrow import fs

import tessera
from conftest import HOG

pytestmark = pytest.mark.skipif("TESSERA_MOTO" not in os.environ, reason="$TESSERA_MOTO is not set")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[fs.S3FileSystem]:
    """An empty bucket called `bucket`, whose server the environment names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": os.environ["TESSERA_MOTO"]}
    call = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < limit and server.poll() is None, "moto does not start"
                time.sleep(0.2)
        files = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True)
        files.create_dir("bucket")
        yield files
    finally:
        server.terminate()
        server.wait()


def test_a_bucket_is_a_store_and_a_folder_of_images(place: Callable[..., Path], bucket: fs.S3FileSystem) -> None:
    file = place('pipeline.store = "s3://bucket/tables"\n' + HOG.replace('"photos"', '"s3://bucket/photos"'), count=6)
    for photo in (file.parent / "photos").glob("*/*.png"):
        with bucket.open_output_stream(f"bucket/photos/{photo.parent.name}/{photo.name}") as out:
            out.write(photo.read_bytes())
    pipeline = tessera.open(file)
    events: list[tessera.Event] = []
    assert pipeline.run(on_progress=events.append)["assigned"].rows_out == 6 and not events
    table = pipeline.table("features")
    assert len(table) == 6 and table.numpy("feature").shape[0] == 6
    ids = list(table.numpy("image_id"))[::-1]
    assert pipeline.images(ids, raw=True) == [(file.parent / "photos" / image_id).read_bytes() for image_id in ids]
