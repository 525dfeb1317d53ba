#!/usr/bin/env bash
# Builds the book. Usage: build.sh TESSERA MDBOOK_DIR OUT. The book's source mirrors the checkout, so that a link between two pages is the
# link between their files; the pages of operators and commands are written by the binary. The last line is the path of the first page.
set -euo pipefail
tessera=$(realpath "$1")
mdbook_dir=$(realpath -m "$2")
out=$(realpath -m "$3")
version=0.5.4
cd "$(dirname "$0")/../.."

mdbook=$(command -v mdbook || echo "$mdbook_dir/bin/mdbook")
if [ ! -x "$mdbook" ]; then
    echo "docs: building mdbook $version" >&2
    # In a target folder of its own, which cargo removes.
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$mdbook_dir" "mdbook@$version" >&2
fi

rm -rf "$out"
mkdir -p "$out/src"
cp pipeline/docs/book.toml "$out"
cp --parents README.md CHANGELOG.md CONTRIBUTING.md LICENSE-* pipeline/ARCHITECTURE.md pipeline/python/README.md "$out/src"
cp -r --parents pipeline/docs pipeline/experiments "$out/src"
# The table of contents is on each page of the book, and is none of its own.
sed -i 's,(pipeline/docs/SUMMARY.md),(pipeline/docs/first-hour.md),' "$out/src/README.md"
rm "$out/src/pipeline/docs"/{SUMMARY.md,book.toml,build.sh}
pages=pipeline/docs/reference
"$tessera" docs "$out/src/$pages" >&2

# The table of contents lies at the root of the source, so its links start there. One of its lines stands for all pages that the binary wrote.
while IFS= read -r line; do
    case $line in
    *"/operators/README.md)") ;;
    *"/commands/README.md)") sed "s,](,]($pages/," "$out/src/$pages/contents.md" ;;
    *) sed -E 's,\]\(\.\./\.\./,](,; t; s,\]\(\.\./,](pipeline/,; t; s,\]\(,](pipeline/docs/,' <<<"$line" ;;
    esac
done <pipeline/docs/SUMMARY.md >"$out/src/SUMMARY.md"
rm "$out/src/$pages/contents.md"

"$mdbook" build "$out" >&2
echo "$out/html/index.html"
