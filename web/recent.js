// The last photos of this tab, small, with their answers. They live in sessionStorage and nowhere else.
import {percent} from './answer.js';
import {element, fill, find} from './dom.js';
import {labelOf} from './knows.js';
import {text} from './texts.js';

const KEY = 'guichet-recent';
const MOST = 8;
let entries = read(); // newest first: [{image, url, reply, model, took}]
let show = () => {};

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) || [];
  } catch {
    return [];
  }
}

// The storage may be full or forbidden: drop the oldest until it fits, or do without.
function write() {
  for (let count = entries.length; count >= 0; count--) {
    try {
      sessionStorage.setItem(KEY, JSON.stringify(entries.slice(0, count)));
      return;
    } catch {
      // one fewer
    }
  }
}

export function draw() {
  find('recent').hidden = entries.length === 0;
  fill(find('recent-list'), ...entries.map((entry) => {
    const [best] = entry.reply.predictions;
    return element('li', {}, element('button', {type: 'button', class: 'shot', onclick: () => show(entry)},
      element('img', {src: entry.image || entry.url, alt: '', referrerpolicy: 'no-referrer', loading: 'lazy'}),
      element('span', {class: 'shot-label'}, entry.reply.known === 'no' ? text('unknown') : best.label),
      element('span', {class: 'shot-value'}, entry.reply.known === 'no' ? entry.model : `${percent(best.probability)} · ${entry.model}`)));
  }));
}

// The answers that are kept, in the language that is spoken now.
export async function rename() {
  for (const entry of entries) {
    for (const one of entry.reply.predictions) one.label = await labelOf(entry.reply.model || entry.model, one);
  }
  write();
  draw();
}

// What the window shows outlives a reload: the newest answer, until something else is shown there.
const SHOWN = 'guichet-shown';

function remember(value) {
  try {
    sessionStorage.setItem(SHOWN, value);
  } catch {
    // not remembered, then
  }
}

export function shown() {
  try {
    return sessionStorage.getItem(SHOWN) === 'yes' ? entries[0] : null;
  } catch {
    return null;
  }
}

export const forgetShown = () => remember('no');

export function add(entry) {
  entries = [entry, ...entries.filter((other) => (other.image || other.url) !== (entry.image || entry.url)
    || other.model !== entry.model)].slice(0, MOST);
  remember('yes');
  write();
  draw();
}

export function start(onShow) {
  show = onShow;
  find('recent-clear').addEventListener('click', () => {
    entries = [];
    write();
    draw();
    find('choose').focus();
  });
  draw();
}

export const shotTitle = (entry) => text('photoOf')(entry.reply.predictions[0].label);
