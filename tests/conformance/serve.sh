#!/usr/bin/env bash
# serve.sh PORT|stdio: the suite's reference server on http://localhost:PORT/mcp, or on stdin and stdout
HOME_DIR=${WEIR_CACHE:-$HOME/.cache}/weir-conformance
export PYTHONPATH=$HOME_DIR/src/mcp-2.3.0/examples/servers/everything-server
if [[ $1 == stdio ]]; then
  exec "$HOME_DIR/venv/bin/python" -c 'from mcp_everything_server.server import mcp; mcp.run(transport="stdio")'
fi
exec "$HOME_DIR/venv/bin/python" -m mcp_everything_server --port "$1" --log-level WARNING
