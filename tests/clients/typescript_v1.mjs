// The TypeScript SDK's 1.x client: typescript_v1.mjs MODE TARGET. It knows the handshake revisions only.
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { connect, see, person, model, capabilities } from './seeing.mjs';

const require = createRequire(process.env.WEIR_NPM + '/');
const sdk = async path => import(pathToFileURL(require.resolve(`@modelcontextprotocol/sdk/${path}`)));
const { Client } = await sdk('client/index.js');
const { StreamableHTTPClientTransport } = await sdk('client/streamableHttp.js');
const { StdioClientTransport } = await sdk('client/stdio.js');
const { ElicitRequestSchema, CreateMessageRequestSchema } = await sdk('types.js');

const target = JSON.parse(process.argv[3]);
const client = new Client({ name: 'weir-test', version: '0' }, { capabilities });
client.setRequestHandler(ElicitRequestSchema, person);
client.setRequestHandler(CreateMessageRequestSchema, model);
const [command, ...args] = target.command ?? [];
await connect(
  client.connect(
    target.url ? new StreamableHTTPClientTransport(new URL(target.url)) : new StdioClientTransport({ command, args })
  )
);
await see(client, (name, given, onprogress) =>
  client.callTool({ name, arguments: given }, undefined, { onprogress, timeout: 20_000 })
);
