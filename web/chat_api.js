// The calls of the chat: an answer, piece by piece, as the OpenAI API streams it (server-sent events).
import {ServiceError} from './api.js';

async function fail(response) {
  let reply = null;
  try {
    reply = await response.json();
  } catch {
    // no JSON: the status has to do
  }
  const told = reply && reply.error;
  const error = new ServiceError(response.status, (told && (told.message || told)) || response.statusText);
  error.code = told && told.code;
  throw error;
}

// The data of each event of a stream.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const {value, done} = await reader.read();
      rest += done ? '\n\n' : value.replace(/\r/g, '');
      const parts = rest.split('\n\n');
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart()).join('\n');
        if (data) yield data;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What one event says: {text, thinking, end, tokens}; a part that is not there is undefined.
function read(data) {
  const event = JSON.parse(data);
  if (event.error) throw new ServiceError(Number(event.error.code) || 502, event.error.message || String(event.error));
  const [choice] = event.choices || [];
  const delta = (choice && choice.delta) || {};
  return {text: delta.content || (choice && choice.text) || '', thinking: delta.reasoning_content || '',
    end: choice && choice.finish_reason, tokens: event.usage && event.usage.completion_tokens};
}

async function* stream(path, body, signal) {
  let ended = false;
  try {
    const response = await fetch(path, {method: 'POST', credentials: 'same-origin', signal, headers: {'Content-Type': 'application/json'},
      body: JSON.stringify({...body, stream: true, stream_options: {include_usage: true}})});
    if (!response.ok) await fail(response);
    for await (const data of events(response)) {
      if (data === '[DONE]') return;
      const piece = read(data);
      ended = ended || Boolean(piece.end);
      yield piece;
    }
  } catch (error) {
    if (error instanceof ServiceError || error.name === 'AbortError') throw error;
    throw new ServiceError(0, error instanceof SyntaxError ? 'the answer is not JSON' : '');
  }
  if (!ended) throw new ServiceError(502, 'the answer broke off');
}

const storytellers = new Set(); // models without a chat template

export const tellsStories = (model) => storytellers.has(model);

// A model without a chat template goes on with a text instead: all that was said so far.
const story = (messages) => messages.map((message) => message.content).join('');

// Near the end of its context, less is asked for.
async function* goOn(body, signal, lengths = [256, 64, 16]) {
  try {
    yield* stream('/v1/completions', {...body, max_tokens: lengths[0]}, signal);
  } catch (error) {
    if (error.status !== 400 || lengths.length === 1 || !/max_tokens/.test(error.reason)) throw error;
    yield* goOn(body, signal, lengths.slice(1));
  }
}

async function* go(model, messages, {system, temperature}, signal) {
  const options = temperature === null ? {} : {temperature};
  if (storytellers.has(model)) {
    yield* goOn({model, prompt: story(messages), ...options}, signal);
    return;
  }
  const said = messages.map(({role, content}) => ({role, content}));
  yield* stream('/v1/chat/completions', {model, messages: system ? [{role: 'system', content: system}, ...said] : said, ...options}, signal);
}

// The pieces of an answer. `settings`: {system, temperature}, a temperature of null is the service's own.
export async function* answer(model, messages, settings, signal) {
  try {
    yield* go(model, messages, settings, signal);
  } catch (error) {
    if (error.status !== 400 || storytellers.has(model) || !/chat template/.test(error.reason)) throw error;
    storytellers.add(model);
    yield* go(model, messages, settings, signal);
  }
}
