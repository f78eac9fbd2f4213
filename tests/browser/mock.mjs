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
  const [, named] = /^\/model\/([^/]+)\/predict$/.exec(url.pathname) || [];
  if (named) return predict(request, response, url, decodeURIComponent(named));
  if (url.pathname === '/predict') return predict(request, response, url, url.searchParams.get('model') || choice);
  return page(response, url.pathname);
});
server.listen(Number(process.argv[2] || 8099), '127.0.0.1', () => {
  console.log(`http://127.0.0.1:${server.address().port}`);
});
