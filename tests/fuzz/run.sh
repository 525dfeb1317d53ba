#!/usr/bin/env bash
# run.sh SECONDS TARGET_DIR: builds all targets, and fuzzes each for so long. What it finds stays in TARGET_DIR/fuzz/found: `TARGET FILE`
# reads such a file again. Panics, more than 2 GiB of memory and more than 10 s for an input are faults, and end it.
set -euo pipefail
seconds=$1 out=$2/fuzz
cd "$(dirname "$0")"
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
# The dependencies are those of the workspace.
cp ../../Cargo.lock Cargo.lock
# Crates are told to count branches by flags of the compiler that only its development versions take of themselves.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$out
cargo fuzz build --fuzz-dir . --release --sanitizer none
bin=$out/$(rustc -vV | sed -n 's/^host: //p')/release
for target in $(cargo fuzz list --fuzz-dir .); do
    mkdir -p "$out/corpus/$target" "$out/found/$target"
    echo "fuzzing $target for $seconds s"
    words=()
    if [ -f "words/$target" ]; then words=("-dict=words/$target"); fi
    if ! "$bin/$target" "$out/corpus/$target" "seeds/$target" "${words[@]}" -artifact_prefix="$out/found/$target/" \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 >"$out/$target.log" 2>&1; then
        tail -n 40 "$out/$target.log" >&2
        exit 1
    fi
    grep -aE '^#[0-9]+.*DONE' "$out/$target.log" || true
done
