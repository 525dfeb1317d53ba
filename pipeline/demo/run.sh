#!/usr/bin/env bash
# Runs the demo and asks it. Usage: run.sh TESSERA (PHOTOS names the folder of photographs)
set -euo pipefail
tessera=$1
here=$(cd "$(dirname "$0")" && pwd)
file=$here/demo.toml

say() { printf '\n$ tessera %s\n' "$1"; }

say "run pipeline/demo/demo.toml"
"$tessera" run "$file"

say "sql pipeline/demo/demo.toml 'how well do clusters and photographs agree?'"
"$tessera" sql "$file" "
  SELECT round(nmi(cluster, photo), 3) AS nmi, round(ami(cluster, photo), 3) AS ami, round(ari(cluster, photo), 3) AS ari,
         round(purity(cluster, photo), 3) AS purity, count(*) AS tiles, count(DISTINCT cluster) AS clusters
  FROM pseudo_labels"

say "sql pipeline/demo/demo.toml 'which photographs fill each cluster?'"
"$tessera" sql "$file" "
  SELECT cluster, sum(n) AS tiles, string_agg(photo || ' ' || n, ', ' ORDER BY n DESC) FILTER (WHERE place <= 3) AS mostly
  FROM (SELECT cluster, photo, count(*) AS n, row_number() OVER (PARTITION BY cluster ORDER BY count(*) DESC, photo) AS place
        FROM pseudo_labels GROUP BY cluster, photo)
  GROUP BY cluster ORDER BY tiles DESC, cluster"

say "run pipeline/demo/demo.toml    # once more: nothing changed, so nothing is made"
"$tessera" run "$file"

report=$here/demo.html
say "report pipeline/demo/demo.toml -o pipeline/demo/demo.html    # all of it to look at"
"$tessera" report "$file" -o "$report" --force
printf '\nOpen %s in a browser.\n' "$report"
