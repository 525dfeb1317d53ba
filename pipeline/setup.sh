#!/usr/bin/env bash
# Installs what a build needs and is missing. Usage: setup.sh LIBTORCH_DIR TORCH_VERSION CMAKE_DIR (no LIBTORCH_DIR: one is there)
set -euo pipefail
libtorch=$1
version=$2
cmake=$3

fail() {
    echo "setup: $*" >&2
    exit 1
}

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need cmake cmake
need nasm nasm
need c++ g++
need pkg-config pkg-config
need unzip unzip
need python3 python3
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
if ((${#missing[@]})); then
    command -v apt-get >/dev/null || fail "please install: ${missing[*]}"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "please install as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    echo "setup: installing ${missing[*]}" >&2
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
command -v cargo >/dev/null || fail "cargo is missing: install Rust (https://rustup.rs), then run this again"

# HDF5's C source needs cmake 3.26, and Debian 12 and Ubuntu 22.04 have older ones.
found=$(cmake --version | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
if [ "$(printf '%s\n' 3.26 "$found" | sort -V | head -n 1)" != 3.26 ] && [ ! -x "$cmake/cmake/data/bin/cmake" ]; then
    echo "setup: fetching cmake 3.31 (the system's is $found)" >&2
    rm -rf "$cmake" "$cmake.new"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-deps --target "$cmake.new" "cmake==3.31.*" >&2
    mv "$cmake.new" "$cmake"
fi

# The stamp comes last: an interrupted install has none, and is made anew.
stamp=$libtorch/.tessera-$version
if [ -n "$libtorch" ] && [ ! -e "$stamp" ]; then
    echo "setup: fetching libtorch $version" >&2
    rm -rf "$libtorch"
    mkdir -p "$libtorch"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-deps --target "$libtorch" \
        "torch==$version" "nvidia-cuda-runtime==13.0.*" "nvidia-cuda-cupti==13.0.*" >&2
    touch "$stamp"
fi
