// Many photos at once: a card each as the answers come, and all of them as a table to keep.
import {predict} from './api.js';
import {percent} from './answer.js';
import {element, fill, find} from './dom.js';
import {currentModel, explained} from './models.js';
import {fromFile, PhotoError, thumbnail} from './photo.js';
import {errorSentence, language, text} from './texts.js';

const AT_ONCE = 2; // the service has others to answer, too
let rows = []; // [{file, image, reply, error}]
let running = null; // AbortController of the answers under way

function words({reply, error}) {
  if (error) return errorSentence(error, false);
  if (!reply) return '…';
  return reply.known === 'no' ? text('unknown') : reply.predictions[0].label;
}

function card(row) {
  const sure = row.reply && row.reply.known !== 'no';
  return element('li', {class: 'grid-card', 'data-state': row.error ? 'error' : row.reply ? row.reply.known || 'yes' : 'waiting'},
    row.image ? element('img', {src: row.image, alt: '', loading: 'lazy'}) : element('span', {class: 'grid-blank', 'aria-hidden': 'true'}),
    element('span', {class: 'grid-label'}, words(row)),
    element('span', {class: 'grid-facts'}, [sure ? percent(row.reply.predictions[0].probability) : null, row.file.name].filter(Boolean).join(' · ')));
}

const done = () => rows.filter((row) => row.reply || row.error).length;

export function draw() {
  find('grid').hidden = !rows.length;
  fill(find('grid-list'), ...rows.map((row) => row.card = card(row)));
  progress();
}

function progress() {
  find('grid-count').textContent = text('gridCount')(done(), rows.length);
  find('grid-csv').disabled = done() < rows.length;
}

function redraw(row) {
  const fresh = card(row);
  row.card.replaceWith(fresh);
  row.card = fresh;
  progress();
}

async function answer(row, signal) {
  try {
    const photo = await fromFile(row.file);
    row.image = await thumbnail(photo, 240);
    row.reply = await predict(photo, {language: language(), signal});
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof PhotoError) && error.status === undefined) throw error;
    row.error = await explained(error, currentModel());
  }
  if (!signal.aborted) redraw(row);
}

// Ask about all of them, in their order.
export async function ask(files) {
  stop();
  const {signal} = running = new AbortController();
  rows = [...files].map((file) => ({file}));
  draw();
  find('grid').scrollIntoView({block: 'nearest'});
  const waiting = [...rows];
  const worker = async () => {
    while (waiting.length && !signal.aborted) await answer(waiting.shift(), signal);
  };
  await Promise.all(Array.from({length: AT_ONCE}, worker));
  if (!signal.aborted) find('live').textContent = text('gridCount')(done(), rows.length);
}

function stop() {
  if (running) running.abort();
}

// The same photos again: the model or the language is another.
export const again = () => rows.length && ask(rows.map((row) => row.file));

export function clear() {
  stop();
  rows = [];
  draw();
}

// A cell of RFC 4180. What a spreadsheet would take for a formula is made plain text.
export function cell(value) {
  const plain = String(value ?? '');
  const safe = /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return /[",\r\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

// The columns of `guichet classify --csv`.
export function csv() {
  const head = ['image', 'model', 'known', 'label', 'probability', 'error'];
  const lines = rows.map(({file, reply, error}) => {
    const [best] = reply ? reply.predictions : [{}];
    return [file.name, reply && reply.model, reply && reply.known, best.label,
      reply && best.probability.toFixed(6), error && (error.reason || errorSentence(error, false))];
  });
  return [head, ...lines].map((line) => `${line.map(cell).join(',')}\r\n`).join('');
}

function save() {
  const address = URL.createObjectURL(new Blob(['\ufeff', csv()], {type: 'text/csv;charset=utf-8'}));
  const link = element('a', {href: address, download: 'guichet.csv'});
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

export function start() {
  find('grid-csv').addEventListener('click', save);
  find('grid-clear').addEventListener('click', () => {
    clear();
    find('choose').focus();
  });
}
