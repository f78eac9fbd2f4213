// What the browser tests stand on: a real `guichet serve` (or the mock), Debian's Chromium, TAP.
import {spawn, spawnSync} from 'node:child_process';
import {existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {createRequire} from 'node:module';
import {createServer as createSocket} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream'];

export function skipAll(reason) {
  console.log(`1..0 # SKIP ${reason}`);
  process.exit(0);
}

function loadPlaywright() {
  try {
    return createRequire(join(ROOT, '.cache', 'browser', 'package.json'))('playwright-core');
  } catch {
    return skipAll('playwright-core is not installed (make test does)');
  }
}

export async function launch() {
  if (!CHROMIUM) skipAll('there is no Chromium');
  return loadPlaywright().chromium.launch({executablePath: CHROMIUM, args: FLAGS});
}

export const freePort = () => new Promise((resolve) => {
  const socket = createSocket().listen(0, '127.0.0.1', () => {
    const {port} = socket.address();
    socket.close(() => resolve(port));
  });
});

// The source of axe-core, which finds what people who do not see or use a mouse would stumble over; null where it is not installed.
export function axe() {
  try {
    return readFileSync(createRequire(join(ROOT, '.cache', 'browser', 'package.json')).resolve('axe-core/axe.min.js'), 'utf8');
  } catch {
    return null;
  }
}

export async function until(what, condition, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition().catch(() => null);
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${seconds} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// Two models from the one that the repository ships: the same folder under two names.
function modelFolder() {
  const animals = join(ROOT, 'models', 'animals');
  if (!existsSync(join(animals, 'model.onnx'))) skipAll('models/animals is not there');
  const folder = mkdtempSync(join(tmpdir(), 'guichet-browser-'));
  symlinkSync(animals, join(folder, 'animals'));
  symlinkSync(animals, join(folder, 'zoo'));
  return folder;
}

// Language models that always say the same: one chats, the other goes on with a text. Null without Debian's numpy.
export function talkFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'guichet-browser-'));
  const script = `import sys; sys.path.insert(0, sys.argv[1]); import parrot; parrot.write(sys.argv[2])
parrot.write(sys.argv[3], [*parrot.ANSWER[:-1], "</s>"], template="")`;
  for (const name of ['parrot', 'stories']) mkdirSync(join(folder, name));
  const {status} = spawnSync('/usr/bin/python3', ['-c', script, join(ROOT, 'tests/llm'), join(folder, 'parrot/parrot.gguf'),
    join(folder, 'stories/stories.gguf')], {stdio: ['ignore', 'inherit', 'inherit']});
  if (status === 0) return folder;
  rmSync(folder, {recursive: true});
  return null;
}

// Start the service with a folder of models; gives {base, stop()}.
export async function serve(program, folder = program === 'mock' ? null : modelFolder()) {
  const port = await freePort();
  const [command, args] = program === 'mock'
    ? [process.execPath, [join(ROOT, 'tests/browser/mock.mjs'), String(port)]]
    : [program, ['serve', '--models', folder, '--port', String(port), '--allow-private-urls']];
  const child = spawn(command, args, {stdio: ['ignore', 'pipe', 'pipe']});
  let log = '';
  child.stdout.on('data', (text) => (log += text));
  child.stderr.on('data', (text) => (log += text));
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const base = `http://127.0.0.1:${port}`;
  const stop = async () => {
    child.kill('SIGTERM');
    const late = setTimeout(() => child.kill('SIGKILL'), 15000);
    await ended;
    clearTimeout(late);
    if (folder) rmSync(folder, {recursive: true});
  };
  try {
    await until('the service to answer', async () => child.exitCode !== null || (await fetch(`${base}/models`)).ok);
    if (child.exitCode !== null) throw new Error(`it ended with status ${child.exitCode}`);
  } catch (error) {
    await stop();
    throw new Error(`${error.message}; it said: ${log}`);
  }
  return {base, stop};
}

// A little site that holds a photo, on another port: {base, stop()}.
export async function photoSite(photo) {
  const server = createServer((request, response) => {
    const found = request.url.startsWith('/photo');
    response.writeHead(found ? 200 : 404, {'Content-Type': found ? 'image/jpeg' : 'text/plain'});
    response.end(found ? photo : 'nothing here');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {base: `http://127.0.0.1:${server.address().port}`, stop: () => new Promise((resolve) => {
    server.closeAllConnections();
    server.close(resolve);
  })};
}

// An animal of sorts, drawn in the browser: bytes of a JPEG (or what `type` says).
export async function drawPhoto(browser, type = 'image/jpeg') {
  const page = await browser.newPage();
  const address = await page.evaluate((mime) => {
    const canvas = document.createElement('canvas');
    canvas.width = 640;
    canvas.height = 480;
    const pen = canvas.getContext('2d');
    const disc = (colour, x, y, width, height) => {
      pen.fillStyle = colour;
      pen.beginPath();
      pen.ellipse(x, y, width, height, 0, 0, 7);
      pen.fill();
    };
    pen.fillStyle = '#7db46c';
    pen.fillRect(0, 0, 640, 480);
    disc('#a5d4f5', 320, 0, 500, 200);
    disc('#c98d3c', 330, 300, 170, 110);
    disc('#d79d4b', 180, 210, 80, 75);
    disc('#8a5a22', 135, 160, 25, 55);
    disc('#8a5a22', 230, 165, 25, 55);
    disc('#1d1510', 150, 200, 9, 9);
    disc('#1d1510', 205, 200, 9, 9);
    disc('#1d1510', 175, 235, 16, 11);
    return canvas.toDataURL(mime, 0.9);
  }, type);
  await page.close();
  return Buffer.from(address.split(',')[1], 'base64');
}

// Run the tests in order; each is [name, async function]. A thrown error fails one and goes on with the next.
export async function runTests(tests) {
  console.log(`1..${tests.length}`);
  let failed = 0;
  for (const [index, [name, body]] of tests.entries()) {
    try {
      await body();
      console.log(`ok ${index + 1} - ${name}`);
    } catch (error) {
      failed++;
      console.log(`not ok ${index + 1} - ${name}`);
      for (const line of String(error.stack || error).split('\n')) console.log(`#   ${line}`);
    }
  }
  return failed;
}
