// A stand-in for `guichet serve` that speaks its calls, for work on the page alone:
//   node tests/browser/mock.mjs [PORT]
import {createHash} from 'node:crypto';
import {readFile} from 'node:fs/promises';
import {createServer} from 'node:http';
import {extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));
const TYPES = {'.html': 'text/html; charset=utf-8', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml',
  '.json': 'application/json'};
const POLICY = "default-src 'self'; img-src 'self' data: blob: https: http:; object-src 'none'; base-uri 'none'";
const LABELS = {en: ['golden retriever', 'brown bear', 'lion', 'monarch butterfly', 'king penguin'],
  fr: ['golden retriever', 'ours brun', 'lion', 'papillon monarque', 'manchot royal']};
const models = [
  {name: 'animals', bytes: 5700000, precision: 'bf16', typical_ms: 1.3, state: 'ready'},
  {name: 'animals:int8', bytes: 2900000, precision: 'int8', typical_ms: 0.9, state: 'stopped'},
  {name: 'resnet152', bytes: 241000000, precision: 'bf16', typical_ms: 21, state: 'stopped'},
  {name: 'parrot', kind: 'language', bytes: 88000000, precision: 'auto', state: 'ready'},
  {name: 'tales', kind: 'language', bytes: 5900000, state: 'stopped'},
  {name: 'stories', kind: 'language', bytes: 500000, state: 'ready'},
  {name: 'vgg16', bytes: 553000000, precision: 'bf16', state: 'failed', reason: 'model.onnx: the file ends early'},
];
const choices = new Map();

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function json(response, status, value, headers = {}) {
  response.writeHead(status, {'Content-Type': 'application/json', ...headers});
  response.end(JSON.stringify(value));
}

function session(request, response) {
  const [, id] = /mock=(\w+)/.exec(request.headers.cookie || '') || [];
  if (id) return id;
  const fresh = createHash('sha1').update(String(Math.random())).digest('hex');
  response.setHeader('Set-Cookie', `mock=${fresh}; HttpOnly; SameSite=Lax; Path=/`);
  return fresh;
}

async function predict(request, response, url, model) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const known = models.find((one) => one.name === model);
  if (!known) return json(response, 404, {error: `no model ${model}`});
  if (known.state === 'failed') return json(response, 424, {error: known.reason});
  if ((request.headers['content-type'] || '').includes('json') && JSON.parse(body).url.includes('missing'))
    return json(response, 502, {error: 'photo.example.org answered 404 Not Found'});
  if (!/^(\{|\xff\xd8|\x89PNG)/.test(body.toString('latin1'))) return json(response, 400, {error: 'not an image: neither JPEG nor PNG nor WebP'});
  if (known.state === 'stopped') {
    known.state = 'starting';
    await wait(1500);
    known.state = 'ready';
  }
  await wait(200);
  const labels = LABELS[url.searchParams.get('lang')] || LABELS.en;
  const seed = body.length % 3;
  const probabilities = [[0.87, 0.07, 0.03, 0.02, 0.004], [0.42, 0.38, 0.1, 0.06, 0.02], [0.98, 0.01, 0.004, 0.003, 0.001]][seed];
  const predictions = labels.map((label, index) => ({index, label, probability: probabilities[index]}));
  return json(response, 200, {model, category: predictions[0].label, predictions, precision: known.precision,
    timing_ms: {fetch: 0, decode: 2.1, preprocess: 0.6, infer: known.typical_ms}});
}

// ---- Language models: what is said decides what is answered ----

const SAMPLE = `# A **list** of things

1. One with \`code\`
2. Two, with *emphasis* and a [page](https://example.org/a_(b)), but no [script](javascript:alert(1))
   - deeper
   - <img src=x onerror=alert(1)>

| name | count |
| --- | ---: |
| \`a\\|b\` is one | 12 |
| snake_case_name | 3 |

> A quotation.

\`\`\`python
def hello():
    print("hello, **world**")
\`\`\`
The end.`;

function reply(body) {
  if (body.prompt !== undefined) return ' there was a parrot.';
  const said = body.messages[body.messages.length - 1].content;
  if (said === 'markdown') return SAMPLE;
  if (said === 'long') return Array.from({length: 400}, (_, index) => `word${index}`).join(' ');
  if (said === 'repeat settings') return JSON.stringify([body.messages[0], body.temperature]);
  return `You said: ${said}`;
}

async function converse(request, response, path) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = JSON.parse(Buffer.concat(chunks));
  const model = models.find((one) => one.name === body.model);
  const refuse = (status, message) => json(response, status, {error: {message, type: 'invalid_request_error', param: null, code: null}});
  if (!model || model.kind !== 'language') return refuse(404, `no language model ${body.model}`);
  const chats = path === '/v1/chat/completions';
  if (chats && model.name === 'stories') return refuse(400, 'this model has no chat template: it goes on with texts, at /v1/completions');
  const last = chats ? body.messages[body.messages.length - 1].content : '';
  if (last === 'busy') return refuse(503, 'too many requests wait');
  if (model.state === 'stopped') {
    model.state = 'starting';
    await wait(1500);
    model.state = 'ready';
  }
  response.writeHead(200, {'Content-Type': 'text/event-stream'});
  const send = (value) => response.write(`data: ${JSON.stringify(value)}\n\n`);
  const say = (delta, end = null) => send({choices: [chats ? {index: 0, delta, finish_reason: end} : {index: 0, text: delta.content || '', finish_reason: end}]});
  say({role: 'assistant', content: ''});
  if (last === 'think') say({reasoning_content: 'Let me see.'});
  const words = reply(body).match(/\S*\s*/g).filter(Boolean);
  for (const [index, word] of words.entries()) {
    if (response.destroyed) return null;
    if (last === 'break' && index === 2) return response.end(`data: ${JSON.stringify({error: {message: 'the model was stopped', code: 502}})}\n\n`);
    say({content: word});
    await wait(last === 'long' ? 20 : 2);
  }
  say({}, 'stop');
  send({choices: [], usage: {prompt_tokens: 5, completion_tokens: words.length, total_tokens: 5 + words.length}});
  return response.end('data: [DONE]\n\n');
}

async function page(response, path) {
  const name = {'/': 'index.html', '/docs': 'docs.html', '/openapi.json': 'openapi.json'}[path] || path.replace('/assets/', '');
  try {
    const bytes = await readFile(join(WEB, name));
    response.writeHead(200, {'Content-Type': TYPES[extname(name)] || 'text/plain', 'Content-Security-Policy': POLICY});
    response.end(bytes);
  } catch {
    json(response, 404, {error: `no page ${path}`});
  }
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  const id = session(request, response);
  const choice = choices.get(id) || 'animals';
  if (url.pathname === '/models') return json(response, 200, url.searchParams.get('details') ? models : models.map((one) => one.name));
  if (url.pathname === '/session') return json(response, 200, {model: choice});
  if (url.pathname.startsWith('/model/') && request.method === 'PUT') {
    choices.set(id, decodeURIComponent(url.pathname.slice(7)));
    return json(response, 200, {model: choices.get(id)});
  }
  if (['/v1/chat/completions', '/v1/completions'].includes(url.pathname)) return converse(request, response, url.pathname);
  const [, named] = /^\/model\/([^/]+)\/predict$/.exec(url.pathname) || [];
  if (named) return predict(request, response, url, decodeURIComponent(named));
  if (url.pathname === '/predict') return predict(request, response, url, url.searchParams.get('model') || choice);
  return page(response, url.pathname);
});
server.listen(Number(process.argv[2] || 8099), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
