// node --import ./pinwire.mjs: makes the TypeScript SDK 1.x client inside the conformance suite open sessions at
// MCP_WIRE instead of always at its newest revision (--spec-version only filters scenarios and picks the JSON schema).
import { registerHooks } from 'node:module';

const wire = process.env.MCP_WIRE;

function pinned(source) {
  const known = source.match(/'20\d\d-\d\d-\d\d'/g).map(quoted => quoted.slice(1, -1));
  const supported = JSON.stringify([...new Set([wire, ...known])]);
  return source
    .replace(/export const LATEST_PROTOCOL_VERSION = '[^']*'/, `export const LATEST_PROTOCOL_VERSION = '${wire}'`)
    .replace(/export const SUPPORTED_PROTOCOL_VERSIONS = \[[^\]]*\]/, `export const SUPPORTED_PROTOCOL_VERSIONS = ${supported}`);
}

if (wire) {
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      if (/@modelcontextprotocol\/sdk\/dist\/esm\/types\.js$/.test(url)) loaded.source = pinned(String(loaded.source));
      return loaded;
    }
  });
}
