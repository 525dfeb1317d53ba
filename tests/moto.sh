#!/usr/bin/env bash
# Installs moto, an S3 server for tests, from PyPI. Usage: moto.sh DIR
set -euo pipefail
dir=$1
version=5.2.5
# The stamp comes last: an interrupted install has none, and is made anew.
stamp=$dir/.moto-$version
if [ ! -e "$stamp" ]; then
    echo "setup: fetching moto $version" >&2
    rm -rf "$dir"
    mkdir -p "$dir"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --target "$dir" "moto[s3]==$version" flask flask-cors >&2
    touch "$stamp"
fi
