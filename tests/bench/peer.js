#!/usr/bin/env node
// ONNX Runtime on the CPU, with the same questions that guichet answers: how fast, what comes out, how soon.
//   peer.js bench MODEL [--shape 1x3x224x224] [--threads 2] [--iters 20]
//   peer.js run   MODEL IN.f32 OUT.f32 [--shape …] [--threads 2] [--optimizations all|disabled]   raw little-endian float32, first
//                 output; without optimisations a quantised network is computed in floats, rounded where the file says so
//   peer.js load  MODEL [--shape …] [--threads 2]                         from the start of this process to the first answer
// Each prints one line of JSON. onnxruntime-node is found through NODE_PATH.
'use strict';
const fs = require('fs');
const runtime = require('onnxruntime-node');

function parse(argv) {
  const words = [], options = { shape: '1x3x224x224', threads: '2', iters: '20', optimizations: 'all' };
  for (let i = 0; i < argv.length; i++) {
    if (argv[i].startsWith('--')) options[argv[i].slice(2)] = argv[++i];
    else words.push(argv[i]);
  }
  return {
    words, shape: options.shape.split('x').map(Number), threads: Number(options.threads), iters: Number(options.iters),
    level: options.optimizations,
  };
}

const rounded = (value, digits) => Number(value.toFixed(digits));

// The runtime's own defaults, but for the number of threads: every optimisation, memory arenas and patterns.
async function open(model, threads, level) {
  const began = performance.now();
  const session = await runtime.InferenceSession.create(model, { intraOpNumThreads: threads, graphOptimizationLevel: level });
  return { session, loadMs: performance.now() - began };
}

function noise(shape) {
  const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
  let state = 1;
  for (let i = 0; i < values.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = (state >>> 8) / (1 << 23) - 1;
  }
  return values;
}

const feed = (session, values, shape) => ({ [session.inputNames[0]]: new runtime.Tensor('float32', values, shape) });

async function bench({ words: [model], shape, threads, iters }) {
  const { session, loadMs } = await open(model, threads, 'all'), input = feed(session, noise(shape), shape), times = [];
  for (let i = -Math.ceil(iters / 10) - 1; i < iters; i++) {
    const began = performance.now();
    await session.run(input);
    if (i >= 0) times.push(performance.now() - began);
  }
  times.sort((a, b) => a - b);
  const middle = iters >> 1, median = iters % 2 ? times[middle] : (times[middle - 1] + times[middle]) / 2;
  return {
    model, batch: shape[0], threads, load_ms: rounded(loadMs, 3), min_ms: rounded(times[0], 6), median_ms: rounded(median, 6),
    p99_ms: rounded(times[Math.ceil(iters * 0.99) - 1], 6), images_per_s: rounded(shape[0] * 1000 / median, 2),
  };
}

async function run({ words: [model, from, to], shape, threads, level }) {
  const bytes = fs.readFileSync(from), values = new Float32Array(bytes.length / 4);
  new Uint8Array(values.buffer).set(bytes);
  const { session } = await open(model, threads, level);
  const output = (await session.run(feed(session, values, shape)))[session.outputNames[0]];
  fs.writeFileSync(to, Buffer.from(output.data.buffer, output.data.byteOffset, output.data.byteLength));
  return { output: session.outputNames[0], shape: output.dims };
}

async function load({ words: [model], shape, threads }) {
  const { session, loadMs } = await open(model, threads, 'all');
  await session.run(feed(session, noise(shape), shape));
  // performance.now() counts from the start of the process.
  return { model, first_ms: rounded(performance.now(), 1), session_ms: rounded(loadMs, 1), peak_kb: process.resourceUsage().maxRSS };
}

async function main() {
  const [verb, ...rest] = process.argv.slice(2), verbs = { bench, run, load };
  if (!Object.hasOwn(verbs, verb || '')) throw new Error('peer.js bench|run|load MODEL …');
  console.log(JSON.stringify(await verbs[verb](parse(rest))));
}

main().catch((error) => {
  console.error(`peer: ${error.message}`);
  process.exit(1);
});
