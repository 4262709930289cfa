// The TypeScript SDK's 2.x client: typescript_v2.mjs auto|legacy|REVISION TARGET.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { connect, see, person, model, capabilities } from './seeing.mjs';

const require = createRequire(process.env.WEIR_NPM + '/');
const dist = dirname(require.resolve('@modelcontextprotocol/client'));
const { Client, StreamableHTTPClientTransport } = await import(pathToFileURL(join(dist, 'index.mjs')));
const { StdioClientTransport } = await import(pathToFileURL(join(dist, 'stdio.mjs')));

const [, , mode, written] = process.argv;
const target = JSON.parse(written);
const versionNegotiation = { mode: ['auto', 'legacy'].includes(mode) ? mode : { pin: mode } };
const client = new Client({ name: 'weir-test', version: '0' }, { capabilities, versionNegotiation });
client.setRequestHandler('elicitation/create', person);
client.setRequestHandler('sampling/createMessage', model);
const [command, ...args] = target.command ?? [];
await connect(
  client.connect(
    target.url ? new StreamableHTTPClientTransport(new URL(target.url)) : new StdioClientTransport({ command, args })
  )
);
await see(client, (name, given, onprogress) =>
  client.callTool({ name, arguments: given }, { onprogress, timeout: 20_000 })
);
