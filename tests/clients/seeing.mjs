// What both TypeScript clients do once connected: ask everything, print what came back, as JSON.

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
