"""k-means beside faiss-cpu and scikit-learn: the same data, the same first centroids, the same cores.

    pip install faiss-cpu scikit-learn
    python kmeans.py TESSERA                      # made groups, 100,000 x 256 to 1,000 clusters
    python kmeans.py TESSERA -n 50000 -d 1024     # of another shape
    python kmeans.py TESSERA --data features.npy  # real features
    python kmeans.py TESSERA --wide 100           # one dimension a hundred times as wide as the others
    python kmeans.py TESSERA --problems 100       # small problems to the end, against scikit-learn alone

An iteration's time is that of a run with all iterations less one with a single one, so that what is around them cancels out.
Objectives are of the last centroids, in float64.
"""

import argparse, json, os, subprocess, sys, tempfile, time
import numpy as np


def made(n, d, k, seed, spread=1.0):
    """k groups, as wide as they are apart."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((k, d), dtype=np.float32) * spread
    return centres[rng.integers(0, k, n)] + rng.standard_normal((n, d), dtype=np.float32)


def objective(x, c):
    import faiss
    index = faiss.IndexFlatL2(c.shape[1])
    index.add(c)
    _, nearest = index.search(x, 1)
    return float(sum(((x[s : s + 4096].astype("f8") - c[nearest[s : s + 4096, 0]]) ** 2).sum() for s in range(0, len(x), 4096)))


class Tessera:
    def __init__(self, binary, x, folder):
        self.binary, self.folder = os.path.abspath(binary), folder
        np.save(f"{folder}/x.npy", x)

    def run(self, keys, c=None):
        """Seconds of the stage, its metrics, and its centroids."""
        inputs = 'inputs = { features = "x" }'
        start = ""
        if c is not None:
            np.save(f"{self.folder}/c.npy", c)
            start = 'c = { op = "table", path = "c.npy" }\nn = { op = "sql", inputs = { c = "c" }, query = "SELECT feature AS centroid FROM c ORDER BY image_id" }\n'
            inputs = f'k = {len(c)}, inputs = {{ features = "x", centroids = "n" }}'
        with open(f"{self.folder}/p.toml", "w") as file:
            file.write(f'[pipeline]\nstore = "store"\n[stage]\nx = {{ op = "table", path = "x.npy" }}\n{start}km = {{ op = "kmeans", {inputs}, {keys} }}\n')
        run = [self.binary, "run", "p.toml", "--force", "km", "--format", "json"]
        done = subprocess.run(run, cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        seconds = {stage["stage"]: stage["seconds"] for stage in json.loads(done.stdout)["stages"]}["km"]
        query = lambda sql: json.loads(subprocess.run([self.binary, "sql", "p.toml", sql, "--format", "json"], cwd=self.folder, capture_output=True, text=True, check=True).stdout)
        metrics = query("SELECT epoch, name, value FROM metrics WHERE stage = 'km' ORDER BY epoch")
        centroids = np.array([row["centroid"] for row in query("SELECT centroid FROM km ORDER BY cluster")], dtype="f4")
        return seconds, metrics, centroids


def faiss_run(x, c, iterations):
    import faiss
    clustering = faiss.Clustering(x.shape[1], len(c))
    clustering.niter, clustering.max_points_per_centroid, clustering.min_points_per_centroid = iterations, 10**9, 1
    faiss.copy_array_to_vector(c.ravel(), clustering.centroids)
    start = time.time()
    clustering.train(x, faiss.IndexFlatL2(x.shape[1]))
    return time.time() - start, faiss.vector_to_array(clustering.centroids).reshape(c.shape)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tessera")
    parser.add_argument("-n", type=int, default=100_000)
    parser.add_argument("-d", type=int, default=256)
    parser.add_argument("-k", type=int, default=1000)
    parser.add_argument("-i", "--iterations", type=int, default=20)
    parser.add_argument("--data", help="an .npy file of n x d float32")
    parser.add_argument("--wide", type=float, default=1, help="what the first dimensions are multiplied with")
    parser.add_argument("--dimensions", type=int, default=1, help="how many those are")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--problems", type=int, help="so many small problems against scikit-learn")
    parser.add_argument("--converge", action="store_true", help="also to the end, against scikit-learn")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as folder:
        problems(a, folder) if a.problems else speed(a, folder)


def speed(a, folder):
    import faiss
    x = np.ascontiguousarray(np.load(a.data), dtype="f4") if a.data else made(a.n, a.d, a.k, 1)
    x[:, : a.dimensions] *= a.wide
    n, d = x.shape
    c = x[np.random.default_rng(3).choice(n, a.k, replace=False)].copy()
    ours, times = Tessera(a.tessera, x, folder), {"faiss": [], "tessera": [], "k-means++": []}
    for _ in range(a.repeats):
        whole, theirs = faiss_run(x, c, a.iterations)
        times["faiss"].append(whole / a.iterations)
        many, _, centroids = ours.run(f"iterations = {a.iterations}, tolerance = 0", c)
        one, _, _ = ours.run("iterations = 1, tolerance = 0", c)
        times["tessera"].append((many - one) / (a.iterations - 1))
        drawn, _, _ = ours.run(f"k = {a.k}, iterations = 0")
        random, _, _ = ours.run(f'k = {a.k}, iterations = 0, init = "random"')
        times["k-means++"].append(drawn - random)
    middle = {name: float(np.median(values)) for name, values in times.items()}
    wide = f", {a.dimensions} of them {a.wide:g} times as wide" if a.wide != 1 else ""
    print(f"{n} x {d} to {a.k}{wide}, {faiss.omp_get_max_threads()} threads, median of {a.repeats}")
    print(f"  an iteration: faiss {faiss.__version__} {middle['faiss']:.4f} s, tessera {middle['tessera']:.4f} s: {middle['faiss'] / middle['tessera']:.2f} x")
    print(f"  k-means++: {middle['k-means++']:.3f} s, {middle['k-means++'] / middle['tessera']:.1f} iterations")
    print(f"  objective after {a.iterations}: tessera / faiss - 1 = {objective(x, centroids) / objective(x, theirs) - 1:+.2e}")
    if a.converge:
        from sklearn.cluster import KMeans
        start = time.time()
        peer = KMeans(a.k, init=c, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x)
        theirs = time.time() - start
        whole, metrics, _ = ours.run("iterations = 300, tolerance = 0", c)
        last = [row["value"] for row in metrics if row["name"] == "objective"][-1]
        print(f"  to the end: scikit-learn {theirs:.2f} s in {peer.n_iter_} iterations, tessera {whole:.2f} s in {max(row['epoch'] for row in metrics)} (with reading and writing): {theirs / whole:.2f} x, objective {last / peer.inertia_ - 1:+.2e}")


def problems(a, folder):
    from sklearn.cluster import KMeans
    rng, ratios = np.random.default_rng(5), []
    for seed in range(a.problems):
        n, d = int(rng.integers(50, 3000)), int(rng.integers(1, 80))
        k = int(rng.integers(1, min(n, 150)))
        x = made(n, d, max(2, k // 3), seed, float(rng.uniform(0.3, 10)))
        c = x[rng.choice(n, k, replace=False)].copy()
        # In float64, so that it sees the same distances.
        peer = KMeans(k, init=c.astype("f8"), n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x.astype("f8"))
        _, metrics, _ = Tessera(a.tessera, x, folder).run("iterations = 300, tolerance = 0", c)
        ratios.append([row["value"] for row in metrics if row["name"] == "objective"][-1] / peer.inertia_ - 1)
    worse = [ratio for ratio in ratios if ratio > 1e-5]
    print(f"{len(ratios)} problems: objective over scikit-learn's - 1 from {min(ratios):+.1e} to {max(ratios):+.1e}; {len(worse)} above 1e-5: {worse}")


if __name__ == "__main__":
    main()
