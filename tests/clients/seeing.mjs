// What both TypeScript clients do: connect, ask everything, print what came back, as JSON. With `fails` in the target
// they print what they show of the calls or the connection that fail; `kill` is the pid
// of the `server` to end before the last call.

const target = JSON.parse(process.argv[3]);

async function shown(asked) {
  try {
    await asked;
    return null;
  } catch (error) {
    return { raised: error.constructor.name, code: error.code ?? null, text: error.message, data: error.data ?? null };
  }
}

const answers = url => fetch(url).then(
  () => true,
  () => false
);

async function fail(call) {
  const first = await shown(call('add', { a: 2, b: 3 }));
  if (target.kill) {
    process.kill(target.kill, 'SIGKILL');
    while (await answers(target.server));
  }
  console.log(JSON.stringify([first, await shown(call('add', { a: 2, b: 3 }))]));
  process.exit(0);
}

export async function connect(connecting) {
  const failed = await shown(connecting);
  if (failed === null) return;
  console.log(JSON.stringify([failed]));
  process.exit(target.fails ? 0 : 1);
}

async function outcome(asked) {
  try {
    const { _meta, ...result } = await asked;
    return result;
  } catch (error) {
    return { raised: error.constructor.name, code: error.code ?? null };
  }
}

export const person = async () => ({ action: 'accept', content: { name: 'Ada' } });
export const model = async () => ({ role: 'assistant', content: { type: 'text', text: '42' }, model: 'none' });
export const capabilities = { sampling: {}, elicitation: {} };

// `call(name, arguments, onprogress)` is how this SDK calls a tool
export async function see(client, call) {
  if (target.fails) return fail(call);
  const progress = [];
  const seen = {
    tools: (await client.listTools()).tools.map(tool => tool.name),
    add: await outcome(call('add', { a: 2, b: 3 })),
    steps: await outcome(call('steps', { count: 3 }, ({ progress: done }) => progress.push(done))),
    greet: await outcome(call('greet', {})),
    think: await outcome(call('think', {})),
    query: await outcome(call('query', { region: 'tést 🙂' })),
    unknown: await outcome(call('nothing', {}))
  };
  await client.close();
  console.log(JSON.stringify({ ...seen, progress }));
}
