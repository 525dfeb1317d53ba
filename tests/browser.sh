#!/usr/bin/env bash
# Installs a browser for tests, from apt. Usage: browser.sh. Where that cannot be, the tests in a browser are left out, and say so.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
as_root=()
if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
if ! command -v apt-get >/dev/null || { [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; }; then
    echo "setup: there is no browser and no apt-get to install chromium with: the tests in a browser are left out" >&2
    exit 0
fi
echo "setup: installing chromium" >&2
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends chromium >&2 ||
    echo "setup: chromium cannot be installed: the tests in a browser are left out" >&2
