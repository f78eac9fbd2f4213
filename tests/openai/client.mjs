// OpenAI's own client against a language model whose text is known (tests/llm/chain.py), through `guichet serve`. TAP.
//     client.mjs GUICHET ROOT
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import assert from 'node:assert';

const [guichet, root] = process.argv.slice(2);
const library = join(root, '.cache', 'openai', 'node_modules', 'openai', 'index.mjs');
if (!existsSync(library)) {
  console.log('1..0 # SKIP the openai client is not installed (tools/setup test)');
  process.exit(0);
}
const { default: OpenAI } = await import(library);
const TEXT = ' one two threeé four';
const messages = [{ role: 'user', content: 'Hello' }];

// A folder of models, and the server; resolves to its URL.
function serve(folder) {
  mkdirSync(join(folder, 'models', 'chain'), { recursive: true });
  const script = 'import sys; sys.path.insert(0, sys.argv[1]); import chain; chain.write(sys.argv[2], context=1 << 20)';
  execFileSync('/usr/bin/python3', ['-c', script, join(root, 'tests', 'llm'), join(folder, 'models', 'chain', 'chain.gguf')]);
  const child = spawn(guichet, ['serve', '--models', join(folder, 'models'), '--port', '0', '--context', '100000'],
    { env: { ...process.env, XDG_STATE_HOME: join(folder, 'state') }, stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve, reject) => {
    let output = '';
    child.on('exit', () => reject(new Error(output)));
    child.stdout.on('data', (piece) => {
      output += piece;
      const found = output.match(/guichet is at (http:\S+)/);
      if (found) resolve({ child, url: found[1] });
    });
  });
}

const tests = {
  async 'lists the models'({ client }) {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.deepStrictEqual(names, ['chain']);
  },
  async 'chats'({ client }) {
    const answer = await client.chat.completions.create({ model: 'chain', messages, temperature: 0 });
    assert.strictEqual(answer.choices[0].message.content, TEXT);
    assert.strictEqual(answer.choices[0].finish_reason, 'stop');
    assert.strictEqual(answer.usage.completion_tokens, 7);
  },
  async 'streams a chat'({ client }) {
    const stream = await client.chat.completions.create(
      { model: 'chain', messages, temperature: 0, stream: true, stream_options: { include_usage: true } });
    let text = '', usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? '';
      usage = chunk.usage ?? usage;
    }
    assert.strictEqual(text, TEXT);
    assert.strictEqual(usage.total_tokens, 16);
  },
  async 'puts a stream together by its helper'({ client }) {
    const runner = client.chat.completions.stream({ model: 'chain', messages, temperature: 0, n: 2, logprobs: true });
    const answer = await runner.finalChatCompletion();
    assert.deepStrictEqual(answer.choices.map((choice) => choice.message.content), [TEXT, TEXT]);
    assert.strictEqual(answer.choices[1].logprobs.content[0].token, ' one');
  },
  async 'completes, whole and in a stream'({ client }) {
    const answer = await client.completions.create({ model: 'chain', prompt: 'x', temperature: 0, max_tokens: 3 });
    assert.strictEqual(answer.choices[0].text, ' one two three');
    let text = '';
    const stream = await client.completions.create({ model: 'chain', prompt: 'x', temperature: 0, max_tokens: 3, stream: true });
    for await (const chunk of stream) text += chunk.choices[0].text;
    assert.strictEqual(text, ' one two three');
  },
  async 'tells errors as its own'({ client }) {
    const wrong = (fields) => client.chat.completions.create({ model: 'chain', messages, ...fields });
    await assert.rejects(wrong({ temperature: -1 }), (error) => error instanceof OpenAI.BadRequestError && /temperature/.test(error.message));
    await assert.rejects(wrong({ model: 'nobody' }), (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found');
    await assert.rejects(wrong({ audio: {} }), OpenAI.BadRequestError);
  },
  async 'ends an answer that it aborts'({ client, url }) {
    const stream = await client.completions.create({ model: 'chain', prompt: 'x', max_tokens: 90000, stream: true, ignore_eos: true });
    for await (const chunk of stream) if (chunk.choices[0].text) break;
    for (let tries = 0; ; tries++) {
      const metrics = await (await fetch(`${url}/metrics`)).text();
      if (/^guichet_sequences_running\{.*\} 0$/m.test(metrics)) break;
      assert(tries < 300, 'the sequence goes on');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  },
};

const folder = mkdtempSync(join(tmpdir(), 'guichet-openai-'));
const { child, url } = await serve(folder);
child.removeAllListeners('exit');
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0, timeout: 60000 });
let number = 0, failed = 0;
console.log(`1..${Object.keys(tests).length}`);
for (const [name, test] of Object.entries(tests)) {
  try {
    await test({ client, url });
    console.log(`ok ${++number} - the client ${name}`);
  } catch (error) {
    failed++;
    console.log(`not ok ${++number} - the client ${name}\n# ${String(error.stack).split('\n').join('\n# ')}`);
  }
}
await new Promise((resolve) => {
  child.on('exit', resolve);
  child.kill('SIGTERM');
});
rmSync(folder, { recursive: true });
process.exit(failed ? 1 : 0);
