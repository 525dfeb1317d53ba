#!/usr/bin/env bash
# Installs a package of npm in DIR/PACKAGE. Usage: npm.sh DIR PACKAGE VERSION; what it installs runs no script of its own.
set -euo pipefail
dir=$1/$2
version=$3

fail() {
    echo "setup: $*" >&2
    exit 1
}

# The stamp comes last: an interrupted install has none, and is made anew.
stamp=$dir/.installed-$version
[ ! -e "$stamp" ] || exit 0
if ! command -v npm >/dev/null; then
    command -v apt-get >/dev/null || fail "npm is missing: install Node.js and npm, then run this again"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "npm is missing; please install as root: apt-get install npm"
        as_root=(sudo)
    fi
    echo "setup: installing npm" >&2
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends npm >&2
fi
echo "setup: fetching $2 $version" >&2
rm -rf "$dir"
mkdir -p "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$dir" "$2@$version" >&2
touch "$stamp"
