// What the chosen model knows: its classes, to be searched, and its card. Also which classes of two models are the same.
import {readClasses} from './api.js';
import {element, fill, find} from './dom.js';
import {markdown} from './markdown.js';
import {currentModel, explained, facts, modelNamed} from './models.js';
import {errorSentence, language, text} from './texts.js';

const known = new Map(); // "model language" -> the promise of its classes

function classesOf(name) {
  const key = `${name} ${language()}`;
  if (!known.has(key)) {
    known.set(key, readClasses(name, language()));
    known.get(key).catch(() => known.delete(key));
  }
  return known.get(key);
}

// What a class of a model is, whatever it is called: equal where two models mean the same.
export async function identity(name, {index, label}) {
  const classes = await classesOf(name).then((reply) => reply.classes, () => []);
  return (classes[index] || {}).id || label.toLocaleLowerCase();
}

// What a class is called in the language that is spoken.
export async function labelOf(name, {index, label}) {
  const classes = await classesOf(name).then((reply) => reply.classes, () => []);
  return (classes[index] || {}).label || label;
}

const folded = (words) => words.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase();

function drawList(classes) {
  const wanted = folded(find('knows-search').value.trim());
  const found = classes.filter((one) => folded(one.label).includes(wanted));
  fill(find('knows-list'), ...found.map((one) => element('li', {}, one.label)));
  find('knows-count').textContent = text('knowsCount')(found.length, classes.length);
}

// The front matter of a card is for machines, but for its licence.
function drawCard(card) {
  const [, front = '', words = ''] = /^(?:---\n([^]*?)\n---\n)?([^]*)$/.exec(card || '');
  const [, licence] = /^license:\s*(\S.*)$/m.exec(front) || [];
  find('knows-licence').textContent = licence ? text('licence')(licence) : '';
  find('knows-card-box').hidden = !words.trim();
  fill(find('knows-card'), ...markdown(words));
}

async function open() {
  const name = currentModel();
  find('knows-title').textContent = text('knowsTitle')(name);
  find('knows-facts').textContent = modelNamed(name) ? facts(modelNamed(name)) : '';
  find('knows-search').value = '';
  find('knows-note').textContent = text('knowsWait');
  find('knows-body').hidden = true;
  find('knows').showModal();
  try {
    const {classes, card, says_unknown: says} = await classesOf(name);
    find('knows-search').oninput = () => drawList(classes);
    find('knows-note').textContent = says ? text('knowsSays') : '';
    find('knows-body').hidden = false;
    drawList(classes);
    drawCard(card);
    find('knows-search').focus();
  } catch (error) {
    find('knows-note').textContent = errorSentence(await explained(error, name), false);
  }
}

export function start() {
  find('knows-open').addEventListener('click', open);
  find('knows-close').addEventListener('click', () => find('knows').close());
}
