"""Names clusters as somebody would who never errs: a name is the class of most of the 9 nearest and 9 random images of a cluster.

    python oracle.py small/names.toml [--tessera BINARY] [--clicks 10 20 50 100 200] [--seeds 1 2 3 4 5] [--carry]

It runs the pipeline in a copy of its folder's file, for each number of clusters and seed, and prints what names are worth beside single
labels. With --carry it names one clustering, clusters anew with other numbers and seeds, and prints how many images keep a name, and how
many of those names are right. It needs pyarrow and blake3, and the variables that the pipeline needs.
"""

import argparse, csv, hashlib, io, json, pathlib, statistics, struct, subprocess, sys, tempfile
from collections import Counter, defaultdict

import blake3
import pyarrow.parquet as pq

HEADER = ["clusters", "key", "cluster", "action", "value", "seen", "by", "at"]


class Pipeline:
    def __init__(self, binary, file, more):
        self.binary, self.file, self.more, self.folder = binary, file, more, file.parent

    def call(self, command, *arguments):
        done = subprocess.run([self.binary, command, str(self.file), *self.more, *self.sets, *arguments], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    def set(self, k, seed):
        order = f"substr(digest, {1 + 5 * seed})"
        single = f"SELECT image_id, label FROM labels WHERE split = 'train' ORDER BY {order} LIMIT {k}"
        self.sets = [part for value in (f"clusters.k={k}", f"pipeline.seed={seed}", f"singles.query={single}") for part in ("--set", value)]

    def run(self, *to):
        for stage in to or [None]:
            self.call("run", "-q", *(["--to", stage] if stage else []))

    def sql(self, query):
        return json.loads(self.call("sql", "--format", "json", query))


def key(path):
    """What names are kept by: a fingerprint of the clusters' numbers and centroids."""
    table = pq.read_table(path).sort_by("cluster")
    centroids = table["centroid"].combine_chunks()
    numbers, values = table["cluster"].to_pylist(), centroids.flatten().to_numpy()
    head = struct.pack("<QQ", len(numbers), len(values) // len(numbers))
    digest = blake3.blake3(head + struct.pack(f"<{len(numbers)}i", *numbers) + values.astype("<f4").tobytes())
    return "b3:" + digest.hexdigest()[:32]


def look(pipeline, k, seed):
    """The decisions about all clusters."""
    out = pipeline.folder / "clusters.parquet"
    out.unlink(missing_ok=True)
    pipeline.call("export", "clusters", "-o", str(out))
    of, rows = key(out), pipeline.sql("SELECT a.image_id, a.cluster, a.distance, l.label FROM assigned a JOIN labels l USING (image_id)")
    clusters = defaultdict(list)
    for row in rows:
        clusters[row["cluster"]].append(row)
    lines = []
    for number, members in sorted(clusters.items()):
        nearest = sorted(members, key=lambda row: (row["distance"], row["image_id"]))[:9]
        draw = lambda row: hashlib.sha256(f"{seed} {row['image_id']}".encode()).digest()
        shown = nearest + sorted((row for row in members if row not in nearest), key=draw)[:9]
        counts = Counter(row["label"] for row in shown)
        name = max(sorted(counts), key=lambda label: counts[label])
        lines.append(["clusters", of, number, "name", name, ";".join(row["image_id"] for row in nearest), "oracle", "2026-01-01T00:00:00Z"])
    return lines


def write(pipeline, lines):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *lines])
    (pipeline.folder / "names.csv").write_text(text.getvalue())


def spread(values):
    return f"{statistics.mean(values):.3f} ±{statistics.pstdev(values):.3f}"


def worth(pipeline, clicks, seeds):
    print("| clicks | single labels | names of clusters | purity of names |\n| --- | --- | --- | --- |")
    for k in clicks:
        found = []
        for seed in seeds:
            pipeline.set(k, seed)
            pipeline.run("assigned")
            write(pipeline, look(pipeline, k, seed))
            pipeline.run("worth")
            found += pipeline.sql("SELECT * FROM worth")
        of = lambda name: spread([row[name] for row in found])
        print(f"| {k} | {of('singles')} | {of('names')} | {of('purity')} |", flush=True)


def carried(pipeline, pairs, seeds):
    query = """SELECT count(*) AS images, sum(CASE WHEN n.label IS NOT NULL THEN 1 ELSE 0 END) AS named,
        sum(CASE WHEN n.label = l.label THEN 1 ELSE 0 END) AS hits, count(DISTINCT a.cluster) AS clusters,
        count(DISTINCT CASE WHEN n.label IS NOT NULL THEN a.cluster END) AS kept
        FROM assigned a JOIN labels l USING (image_id) LEFT JOIN named n ON n.image_id = a.image_id"""
    print("| from k -> to k | named before, right | clusters carried | images carried | of those right | named images that keep a right name |")
    print("| --- | --- | --- | --- | --- | --- |")
    for before, after in pairs:
        found = []
        for seed in seeds:
            pipeline.set(before, seed)
            pipeline.run("assigned")
            write(pipeline, look(pipeline, before, seed))
            pipeline.run("named")
            first = {row["image_id"]: row["label"] for row in pipeline.sql("SELECT image_id, label FROM named")}
            then = pipeline.sql(query)[0]
            pipeline.set(after, seed + 100)
            pipeline.run("named")
            now = pipeline.sql(query)[0]
            labels = {row["image_id"]: row["label"] for row in pipeline.sql("SELECT image_id, label FROM labels WHERE split = 'train'")}
            second = {row["image_id"]: row["label"] for row in pipeline.sql("SELECT image_id, label FROM named")}
            right = [id for id, name in first.items() if labels[id] == name]
            kept = sum(second.get(id) == first[id] for id in right) / len(right)
            found.append([then["hits"] / then["images"], now["kept"] / now["clusters"], now["named"] / now["images"],
                          now["hits"] / max(now["named"], 1), kept])
        cells = " | ".join(spread(values) for values in zip(*found))
        print(f"| {before} -> {after} | {cells} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("--tessera", default="tessera")
    parser.add_argument("--clicks", type=int, nargs="+", default=[10, 20, 50, 100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--carry", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    more = [part for value in asked.set for part in ("--set", value)]
    file = asked.file.resolve()
    pipeline = Pipeline(asked.tessera, file, more)
    if (file.parent / "names.csv").exists():
        sys.exit(f"{file.parent / 'names.csv'} is there: it would be written over")
    try:
        if asked.carry:
            carried(pipeline, [(50, 50), (50, 100), (100, 100), (200, 100)], asked.seeds)
        else:
            worth(pipeline, asked.clicks, asked.seeds)
    finally:
        (file.parent / "names.csv").unlink(missing_ok=True)
        (file.parent / "clusters.parquet").unlink(missing_ok=True)


main()
