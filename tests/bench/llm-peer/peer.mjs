// llama.cpp as node-llama-cpp ships it: prompt and decode speed of one file, several sequences at once.
//   node peer.mjs MODEL.gguf THREADS PROMPT DECODE SEQUENCES   -> one line of JSON
import {readFileSync} from 'node:fs';
import {performance} from 'node:perf_hooks';
import {createRequire} from 'node:module';
import {pathToFileURL} from 'node:url';
import process from 'node:process';

const require = createRequire(process.env.LLM_PEER + '/');
const {getLlama} = await import(pathToFileURL(require.resolve('node-llama-cpp')).href);
const [path, threads, prompt, decode, sequences] = [process.argv[2], ...process.argv.slice(3).map(Number)];

const llama = await getLlama({gpu: false, build: 'never', logLevel: 'error', maxThreads: threads});
const model = await llama.loadModel({modelPath: path, useMmap: true});
const size = prompt + decode + 8;
const context = await model.createContext({contextSize: size, batchSize: prompt, threads, sequences: Math.max(1, sequences)});
const tokens = Array.from({length: prompt}, (_, i) => 300 + (i * 37) % 20000);

// With one thread, its processor's time: other processes do not count.
const seconds = async work => {
    const start = performance.now(), before = process.cpuUsage();
    await work();
    const used = process.cpuUsage(before);
    return threads === 1 ? (used.user + used.system) / 1e6 : (performance.now() - start) / 1000;
};

const goOn = async (sequence, first, count) => {
    let made = 0;
    for await (const token of sequence.evaluate([first], {temperature: 0, yieldEogToken: true}))
        if (++made >= count)
            break;
    return made;
};

const result = {};
const sequence = context.getSequence();
await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(0, 16));
await sequence.clearHistory();
if (prompt > 0)
    result.prompt = prompt / await seconds(() => sequence.evaluateWithoutGeneratingNewTokens(tokens));
if (decode > 0) {
    let made = 0;
    const time = await seconds(async () => { made = await goOn(sequence, 301, decode); });
    result.decode = made / time;
}
if (sequences > 1) {
    const all = [sequence, ...Array.from({length: sequences - 1}, () => context.getSequence())];
    for (const one of all) {
        await one.clearHistory();
        await one.evaluateWithoutGeneratingNewTokens(tokens.slice(0, 8));
    }
    let made = 0;
    const time = await seconds(async () => {
        for (const count of await Promise.all(all.map((one, i) => goOn(one, 310 + i, decode))))
            made += count;
    });
    result.sequences = made / time;
}
const peak = /VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'));
result.peak = peak ? Number(peak[1]) * 1024 : 0;
process.stdout.write(JSON.stringify(result) + '\n');
process.exit(0);
