#!/usr/bin/env bash
# Fetches the demo's photographs: those that scikit-image ships with its wheel (about 14 MB). Usage: photos.sh FOLDER
set -euo pipefail
folder=$1
photos="astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png hubble_deep_field.jpg
ihc.png moon.png motorcycle_left.png retina.jpg rocket.jpg"
if [ ! -e "$folder/.complete" ]; then
    echo "demo: fetching photographs" >&2
    rm -rf "$folder"
    mkdir -p "$folder"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    # One wheel, whatever Python is installed: only its pictures are used.
    python3 -m pip download --quiet --no-deps --dest "$scratch" --only-binary=:all: --python-version 3.12 --implementation cp \
        --abi cp312 --platform manylinux_2_28_x86_64 --platform manylinux_2_24_x86_64 "scikit-image==0.26.0"
    members=()
    for photo in $photos; do members+=("skimage/data/$photo"); done
    unzip -q -j "$scratch"/scikit_image-*.whl "${members[@]}" -d "$folder"
    touch "$folder/.complete"
fi
