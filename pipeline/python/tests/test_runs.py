"""Runs: what they tell meanwhile and afterwards, how they fail, and how they are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tessera
from conftest import HOG, TRAINED, paint, photos


def test_a_run_tells_what_happens_and_what_it_did(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place())
    assert {stage.stage: stage.action for stage in pipeline.plan()} == {
        "images": "run", "decoded": "view", "features": "run", "clusters": "run", "assigned": "run",
    }  # fmt: skip
    events: list[tessera.Event] = []
    threads = set()

    def tell(event: tessera.Event) -> None:
        events.append(event)
        threads.add(threading.current_thread())

    report = pipeline.run(to="clusters", on_progress=tell)
    assert [stage.stage for stage in report.stages] == ["images", "decoded", "features", "clusters"]
    assert report["features"].rows_out == report["features"].rows_computed == 24 and report.seconds > 0
    assert [event.stage for event in events if event.event == "begun"] == ["images", "features", "clusters"]
    [done] = [event for event in events if event.event == "done" and event.stage == "features"]
    assert done.rows == 24 and done.at.year >= 2024 and str(done) == "features: done, 24 rows"
    assert any(event.event == "metric" and event.name == "objective" for event in events)
    assert "clusters: run (clusters: never run)" in map(str, events)
    assert threads == {threading.current_thread()}
    # The next run is another one, with events of its own.
    events.clear()
    again = pipeline.run(force=["clusters"], on_progress=tell)
    assert again["features"].action == "reuse" and again["clusters"].action == "run" and again["assigned"].action == "run"
    assert [event.stage for event in events if event.event == "begun"] == ["clusters", "assigned"]
    assert "<table>" in again._repr_html_() and "assigned" in pipeline._repr_html_()


def test_other_values_for_once(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place())
    pipeline.run(set={"clusters.k": 2})
    assert len(pipeline.table("clusters")) == 2
    assert pipeline.plan()["clusters"].reasons == ["clusters: kmeans.k 2 -> 3"]
    assert pipeline.plan(set={"clusters.k": 2})["clusters"].action == "reuse"
    assert pipeline.run(limit=5)["images"].rows_out == 5
    assert len(pipeline.table("clusters")) == 2
    elsewhere = pipeline.path.parent / "else where"
    heard: list[tessera.Event] = []
    tessera.open(pipeline.path, set={"pipeline.store": str(elsewhere), "pipeline.name": "mine"}).run(on_progress=heard.append)
    assert (elsewhere / "mine").is_dir() and heard


def test_differences(place: Callable[..., Path]) -> None:
    file = place(count=6)
    pipeline = tessera.open(file)
    pipeline.run()
    with pytest.raises(tessera.Error, match="stage `images` has one snapshot only"):
        pipeline.diff("images")
    paint(file.parent / "photos" / "green" / "0006.png", 6)
    pipeline.run()
    difference = pipeline.diff("images", rows=5)
    assert (difference.added, difference.removed, difference.changed, difference.unchanged) == (1, 0, 0, 6)
    assert [(row.change, row.image_id) for row in difference.rows] == [("added", "green/0006.png")]
    assert pipeline.diff("images").rows == ()
    assert pipeline.diff("images", difference.old[:8], difference.new).added == 1


def test_errors_are_the_binarys(made: tessera.Pipeline, place: Callable[..., Path]) -> None:
    stages = "unknown stage `nosuch`; stages: images, decoded, features, clusters, assigned"
    for ask in [
        made.table,
        made.metrics,
        made.diff,
        lambda stage: made.run(to=stage),
        lambda stage: made.plan(force=[stage]),
        made.weights,
    ]:
        with pytest.raises(tessera.Error) as error:
            if ask == made.weights:
                made.weights("nosuch", framework="numpy")
            else:
                ask("nosuch")
        assert str(error.value) == stages and error.value.code == 2
    with pytest.raises(tessera.Error, match="No field named nothing") as error:
        made.sql("SELECT nothing FROM images")
    assert error.value.code == 1 and error.value.stderr.startswith("error: ")
    with pytest.raises(tessera.Error, match="did you mean `k`"):
        made.plan(set={"clusters.kk": 3})
    file = place("stage.images = [", count=1)
    for ask_file in [lambda p: p.run(), lambda p: p.plan(), lambda p: p.status(), lambda p: p.table("images"), lambda p: p.sql("SELECT 1")]:
        with pytest.raises(tessera.Error, match="not TOML: unclosed array") as error:
            ask_file(tessera.open(file))
        assert error.value.code == 2 and "1 fault in" in str(error.value)
    with pytest.raises(tessera.Error, match="not TOML: unclosed array"):
        tessera.open(file).run(on_progress=print)
    assert "unclosed array" in tessera.open(file)._repr_html_()


def test_tables_of_a_file_that_is_broken_since_are_there(place: Callable[..., Path]) -> None:
    file = place(count=6)
    pipeline = tessera.open(file)
    pipeline.run()
    file.write_text(HOG.replace('"kmeans"', '"k-means"'), encoding="utf-8")
    with pytest.warns(tessera.Note, match="the answer is what the last runs made"):
        assert len(pipeline.table("assigned")) == 6


def test_what_is_no_file_or_binary_is_told(made: tessera.Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="no such pipeline file"):
        tessera.open(tmp_path / "nosuch.toml")
    with pytest.raises(tessera.Error, match="names .*nosuch, and there is no such file. To get the binary, build it with `make build`"):
        tessera.open(made.path, binary=tmp_path / "nosuch")
    (tmp_path / "plain").write_text("")
    with pytest.raises(tessera.Error, match="cannot be executed"):
        tessera.open(made.path, binary=tmp_path / "plain")
    with pytest.raises(tessera.Error, match="another program: asked for its version, it says `echo"):
        tessera.open(made.path, binary="/bin/echo")
    (tmp_path / "format").write_bytes(b"\x7fELF nonsense")
    (tmp_path / "format").chmod(0o755)
    with pytest.raises(tessera.Error, match="cannot be started: Exec format error"):
        tessera.open(made.path, binary=tmp_path / "format")
    binary = made._found
    monkeypatch.delenv("TESSERA", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tessera._binary, "__file__", str(tmp_path / "tessera" / "_binary.py"))
    with pytest.raises(tessera.Error, match=r"no tessera binary: \$TESSERA is not set.*To get the binary, build it with `make build`"):
        tessera.open(made.path)
    (tmp_path / "tessera").symlink_to(binary)
    assert tessera.open(made.path)._found == tmp_path / "tessera"
    (tmp_path / "tessera").unlink()
    (tmp_path / "tessera" / "bin").mkdir(parents=True)
    (tmp_path / "tessera" / "bin" / "tessera").symlink_to(binary)
    assert tessera.open(made.path)._found == tmp_path / "tessera" / "bin" / "tessera"
    monkeypatch.setenv("TESSERA", str(tmp_path / "wrong"))
    with pytest.raises(tessera.Error, match=r"\$TESSERA names .*wrong"):
        tessera.open(made.path)


LONG = TRAINED.replace("epochs = 1,", "epochs = 100000,")


def test_what_a_listener_raises_ends_the_run(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place(LONG, count=30))

    class Enough(Exception):
        pass

    def tell(event: tessera.Event) -> None:
        if event.event == "begun" and event.stage == "pretext":
            raise Enough

    with pytest.raises(Enough):
        pipeline.run(on_progress=tell)
    # It has ended, and let go of the store; what was finished is kept.
    assert pipeline.run(to="images")["images"].action == "reuse"


INTERRUPTED = """
import sys, tessera
pipeline = tessera.open(sys.argv[1])
def tell(event):
    if event.event == "begun" and event.stage == "pretext":
        print("now", flush=True)
try:
    pipeline.run(on_progress=tell if sys.argv[2] == "tell" else None)
except KeyboardInterrupt:
    print("interrupted", pipeline.run(to="images")["images"].action, flush=True)
"""


@pytest.mark.parametrize("how", ["tell", "silent"])
def test_an_interrupt_ends_the_run_and_keeps_what_it_finished(place: Callable[..., Path], how: str) -> None:
    file = place(LONG, count=30)
    call = [sys.executable, "-c", INTERRUPTED, str(file), how]
    # A group of its own, as a terminal's foreground job is: ^C goes to the whole group.
    child = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    if how == "tell":
        assert child.stdout.readline() == "now\n"
    else:
        folder = file.parent / ".tessera" / "pipeline" / "runs"
        limit = time.monotonic() + 60
        while not any('"begun","stage":"pretext"' in path.read_text() for path in folder.glob("*.events")):
            assert time.monotonic() < limit
            time.sleep(0.1)
    os.killpg(child.pid, signal.SIGINT)
    out, _ = child.communicate(timeout=120)
    assert out == "interrupted reuse\n" and child.returncode == 0


def test_a_second_run_is_told_who_is_at_work(place: Callable[..., Path]) -> None:
    pipeline = tessera.open(place(LONG, count=30))
    seen: list[str] = []

    class Enough(Exception):
        pass

    def tell(event: tessera.Event) -> None:
        if event.event == "begun" and event.stage == "pretext":
            with pytest.raises(tessera.Error) as error:
                pipeline.run()
            seen.append(str(error.value))
            # Who reads is not kept from it.
            seen.append(str(len(pipeline.table("images"))))
            raise Enough

    with pytest.raises(Enough):
        pipeline.run(on_progress=tell)
    assert len(seen) == 2 and "run" in seen[0] and seen[1] == "30"


def test_init_writes_a_pipeline(tmp_path: Path) -> None:
    photos(tmp_path, 9)
    pipeline = tessera.init(tmp_path / "photos", tmp_path / "new.toml")
    assert pipeline.path == tmp_path / "new.toml" and "assigned" in [stage.stage for stage in pipeline.status()]
    with pytest.raises(tessera.Error, match="there already"):
        tessera.init(tmp_path / "photos", tmp_path / "new.toml")
    tessera.init(tmp_path / "photos", tmp_path / "new.toml", force=True)
