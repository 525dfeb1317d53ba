"""The most memory that `kmeans` and `probe` of many short rows take under `memory`.

    pip install numpy
    python memory.py TESSERA                              # 20,000,000 x 2 under 100MiB
    python memory.py TESSERA -n 2000000 -d 8 --memory 64MiB

The table of rows and the one of labels are made first. Then each stage is run by itself, and the system says how much of it was in
memory at most: all of the process, and what the process had at rest, before it began (the program and its libraries).
"""

import argparse, os, subprocess, sys, tempfile, threading, time
import numpy as np

UNITS = {"MiB": 1 << 20, "GiB": 1 << 30}


def run(binary, folder, *arguments):
    """Seconds, and the most bytes: of the whole process, and of what is its own rather than a file's."""
    start, own = time.time(), [0]
    process = subprocess.Popen([binary, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def watch():
        while process.returncode is None:
            try:
                lines = open(f"/proc/{process.pid}/status").read().splitlines()
            except OSError:
                return
            own[0] = max([own[0]] + [int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")])
            time.sleep(0.02)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    watcher.join()
    if status:
        sys.exit(errors)
    return time.time() - start, usage.ru_maxrss << 10, own[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tessera")
    parser.add_argument("-n", type=int, default=20_000_000)
    parser.add_argument("-d", type=int, default=2)
    parser.add_argument("-k", type=int, default=20)
    parser.add_argument("-i", "--iterations", type=int, default=3)
    parser.add_argument("--memory", default="100MiB", help="such as 100MiB")
    parser.add_argument("--threads", default="2")
    a = parser.parse_args()
    binary, limit = os.path.abspath(a.tessera), int(a.memory[:-3]) * UNITS[a.memory[-3:]]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        rng = np.random.default_rng(1)
        labels = rng.integers(0, 3, a.n)
        np.save(f"{folder}/x.npy", rng.standard_normal((a.n, a.d), dtype=np.float32) + labels[:, None].astype("f4"))
        np.save(f"{folder}/y.npy", labels)
        with open(f"{folder}/p.toml", "w") as file:
            file.write(f"""
[pipeline]
store = "store"
part_rows = 65536
[stage]
x = {{ op = "table", path = "x.npy" }}
y = {{ op = "table", path = "y.npy" }}
kmeans = {{ op = "kmeans", input = "x", k = {a.k}, iterations = {a.iterations}, tolerance = 0, memory = "{a.memory}" }}
probe = {{ op = "probe", inputs = {{ features = "x", labels = "y" }}, label = "value", c = [0.01], iterations = {a.iterations}, memory = "{a.memory}" }}
""")
        threads = ("--threads", a.threads)
        for stage in "x", "y":
            seconds, most, own = run(binary, folder, "run", "p.toml", "--to", stage, *threads)
            print(f"{stage}: {seconds:.1f} s, {most / 2**20:.0f} MiB at most", flush=True)
        _, rest, own_rest = run(binary, folder, "plan", "p.toml")
        print(f"at rest (plan): {rest / 2**20:.0f} MiB, of which {own_rest / 2**20:.0f} its own")
        for stage in "kmeans", "probe":
            seconds, most, own = run(binary, folder, "run", "p.toml", "--to", stage, *threads)
            print(f"{stage} of {a.n} x {a.d} under {a.memory}: {seconds:.1f} s, {most / 2**20:.0f} MiB at most ({most / limit:.2f} of it), {(most - rest) / 2**20:.0f} over rest ({(most - rest) / limit:.2f}), {own / 2**20:.0f} its own ({own / limit:.2f})", flush=True)


if __name__ == "__main__":
    main()
