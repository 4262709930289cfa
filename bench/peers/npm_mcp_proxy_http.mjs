// npm mcp-proxy from HTTP to HTTP: its command line fronts stdio only, so this puts its own two parts together as its
// README does. Run from its prefix: node npm_mcp_proxy_http.mjs PACKAGE_ROOT UPSTREAM_URL PORT
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [root, url, port] = process.argv.slice(2);
const load = async (name) => {
  const found = createRequire(root + "/package.json").resolve(name);
  return import(pathToFileURL(found).href);
};
const { proxyServer, startHTTPServer } = await import(pathToFileURL(root + "/dist/index.mjs").href);
const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client");
const { Server } = await load("@modelcontextprotocol/server");

const client = new Client({ name: "mcp-proxy", version: "1.0.0" }, { capabilities: {} });
await client.connect(new StreamableHTTPClientTransport(new URL(url)));
const serverCapabilities = client.getServerCapabilities();
await startHTTPServer({
  createServer: async () => {
    const server = new Server(client.getServerVersion(), { capabilities: serverCapabilities });
    await proxyServer({ client, server, serverCapabilities });
    return server;
  },
  host: "127.0.0.1",
  port: Number(port),
  sseEndpoint: null,
  streamEndpoint: "/mcp",
});
