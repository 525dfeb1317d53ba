#!/usr/bin/env bash
# Imports go one way: schemas <- datasets <- operators <- pipeline <- tests. Fails, and says where, if one does not.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
complain() {
    echo "architecture: $*" >&2
    status=1
}

# refuse FOLDER PATTERN WHY: no manifest or source of that crate has the pattern.
refuse() {
    if grep -rnE "$2" "$1/Cargo.toml" "$1" --include=Cargo.toml --include='*.rs' >&2; then
        complain "$1: $3"
    fi
}
refuse schemas 'tessera[-_](datasets|operators|pipeline)' "schemas knows no other crate"
refuse datasets 'tessera[-_](operators|pipeline)|\btokio\b' "datasets knows schemas alone, and no tokio"
refuse operators 'tessera[-_]pipeline|\b(datafusion|tokio|clap)\b(::|\.workspace)' "operators knows neither the engine nor the command line"
refuse pipeline '\btch\b(::|\.workspace)' "pipeline knows no tch"
if grep -rnE '\btch::' operators/src --include='*.rs' | grep -v '^operators/src/torch' >&2; then
    complain "operators: tch is for operators/src/torch alone"
fi
for operator in $(grep -ohE 'const NAME: &.static str = "[a-z_]+"' -r operators/src | grep -oE '"[a-z_]+"'); do
    # The engine names no concrete operator; help, tests and the demo may.
    if grep -rnE "== $operator|$operator =>" pipeline/src --include='*.rs' >&2; then
        complain "pipeline: names the operator $operator"
    fi
done
exit $status
