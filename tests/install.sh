#!/usr/bin/env bash
# Installs, once, the clients, the servers and the conformance suite that others wrote, from PyPI and npm. Needs no
# rights, and Python only. Never fails: a test that misses its part is skipped (in CI it fails) and says why.
set -uo pipefail
cd "$(dirname "$0")/.."
CACHE=${WEIR_CACHE:-$HOME/.cache}
parts=()
for part in clients conformance; do
  bash "tests/$part/setup.sh" --check || parts+=("$part")
done
((${#parts[@]})) || exit 0

mkdir -p "$CACHE"
echo "installing what the tests of ${parts[*]} run, into $CACHE (once, about a minute) ..."
running=()
for part in "${parts[@]}"; do
  bash "tests/$part/setup.sh" &> "$CACHE/weir-$part.log" &
  running+=($!)
done
for index in "${!parts[@]}"; do
  wait "${running[index]}" && continue
  echo "not installed: ${parts[index]} (offline?), its tests are skipped; the reason is in $CACHE/weir-${parts[index]}.log" >&2
done
exit 0
