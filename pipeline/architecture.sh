#!/usr/bin/env bash
# Imports go one way: schemas <- datasets <- operators <- pipeline <- tests; and between the rooms of `pipeline/src`: cli -> serve -> run -> ask ->
# engine -> the ground (declare, store, watch), whose rooms do not know each other. Fails, and says where, if one does not.
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
# room ROOM OTHERS: the room imports none of the others, which stand above it or beside it.
room() {
    if grep -rnE "crate::($2)\b" "pipeline/src/$1" "pipeline/src/$1.rs" --include='*.rs' >&2; then
        complain "pipeline/src/$1: imports what stands above it or beside it ($2)"
    fi
}
room declare 'store|watch|engine|ask|run|serve|cli'
room store 'declare|watch|engine|ask|run|serve|cli'
room watch 'declare|store|engine|ask|run|serve|cli'
room engine 'ask|run|serve|cli'
room ask 'run|serve|cli'
room run 'serve|cli'
room serve 'cli'
for module in $(grep -ohE '^(pub )?mod [a-z_]+' pipeline/src/lib.rs | grep -oE '[a-z_]+$'); do
    case $module in
    cli | serve | run | ask | engine | declare | store | watch) ;;
    *) complain "pipeline/src: $module is in no room" ;;
    esac
done
for operator in $(grep -ohE 'const NAME: &.static str = "[a-z_]+"' -r operators/src | grep -oE '"[a-z_]+"'); do
    # The engine names no concrete operator; help, tests and the demo may.
    if grep -rnE "== $operator|$operator =>" pipeline/src --include='*.rs' >&2; then
        complain "pipeline: names the operator $operator"
    fi
done
exit $status
