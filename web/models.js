// The menu of models: what there is, which one is this session's, and choosing another.
import {chooseModel, listModels, readSession} from './api.js';
import {duration, size} from './answer.js';
import {element, fill, find} from './dom.js';
import {text} from './texts.js';

let models = []; // [{name, kind, bytes, precision, typical_ms, state, head, independent, sources, reason}]
let current = '';
let chosen = () => {};
let failed = () => {};

const STATES = {ready: 'ready', stopped: 'stopped', starting: 'startingState', failed: 'failed', unloaded: 'unloaded'};
// Whether it may answer when it is asked.
export const isUsable = (model) => !['failed', 'unloaded'].includes(model.state);

export const modelList = () => models;
export const currentModel = () => current;
export const talks = (model) => Boolean(model) && model.kind === 'language';
export const modelNamed = (name) => models.find((model) => model.name === name);

// "3.1 MB · bfloat16 · about 2 ms · ready"
export function facts(model) {
  return [
    model.bytes ? size(model.bytes) : null, talks(model) ? text('chats') : null, model.precision,
    model.independent ? text('severalLabels') : null,
    model.typical_ms ? text('typical')(duration(model.typical_ms)) : null,
    STATES[model.state] ? text(STATES[model.state]) : null,
  ].filter(Boolean).join(' · ');
}

function open(shown) {
  find('models-panel').hidden = !shown;
  find('models-button').setAttribute('aria-expanded', shown);
}

// Choose another model for this session.
export async function choose(name) {
  if (name === current) return;
  try {
    current = (await chooseModel(name)).model;
  } catch (error) {
    failed(error);
    return;
  }
  draw();
  chosen(current);
  if (tabs) tabs.postMessage(current);
}

// Other tabs share the session: what is chosen in one is chosen in all.
const tabs = 'BroadcastChannel' in globalThis ? new BroadcastChannel('guichet-model') : null;

async function follow() {
  const name = (await readSession().catch(() => ({}))).model;
  if (!name || name === current) return;
  if (!modelNamed(name)) await refresh().catch(() => {});
  current = name;
  draw();
  chosen(current);
}

function pick(name) {
  open(false);
  find('models-button').focus();
  choose(name);
}

// The model of a side of the page: the one that was chosen there last, else the first that may answer.
const last = {photo: '', chat: ''};
const sideOf = (model) => (talks(model) ? 'chat' : 'photo');

export function ofSide(side) {
  const able = models.filter((model) => isUsable(model) && sideOf(model) === side);
  return able.find((model) => model.name === last[side]) || able[0];
}

// Where preprocessing, labels and probabilities come from, a line each.
function sources(model) {
  const from = model.sources || {};
  return ['preprocessing', 'labels', 'head'].filter((part) => from[part]).map((part) => `${text(part)}: ${from[part]}`).join('\n') || null;
}

function item(model) {
  const broken = !isUsable(model);
  return element('li', {}, element('button', {
    type: 'button', class: 'model', title: sources(model), 'aria-pressed': model.name === current, disabled: broken, onclick: () => pick(model.name),
  }, element('span', {class: 'dot', 'data-state': model.state || 'ready', 'aria-hidden': 'true'}),
  element('span', {class: 'model-name'}, model.name), element('span', {class: 'model-facts'}, facts(model)),
  broken && model.reason ? element('span', {class: 'model-reason'}, model.reason) : null));
}

export function draw() {
  if (modelNamed(current)) last[sideOf(modelNamed(current))] = current;
  find('models-name').textContent = current || '…';
  find('models-dot').dataset.state = (modelNamed(current) || {}).state || 'ready';
  const list = find('models-list');
  const place = [...list.querySelectorAll('.model')].indexOf(document.activeElement);
  fill(list, ...models.map(item));
  const again = place < 0 ? null : list.querySelectorAll('.model')[place];
  if (again) again.focus(); // the list was made anew under somebody's finger
}

// Ask the service again; the menu shows what it says.
export async function refresh(signal) {
  models = await listModels(signal);
  draw();
  return models;
}

// While something is asked of a model, until `signal`: tell where it has to start first.
export async function whileStarting(name, signal, tell) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, 400));
    if (signal.aborted) return;
    try {
      await refresh(signal);
    } catch {
      return;
    }
    const {state} = modelNamed(name) || {};
    if (signal.aborted || state === 'ready') return;
    if (state === 'starting' || state === 'stopped') tell(name);
  }
}

// A model that cannot start is another story than a busy service or a broken site.
export async function explained(error, name) {
  if (error.status >= 500 || [404, 424].includes(error.status)) await refresh().catch(() => {});
  const {state} = modelNamed(name) || {};
  if (state === 'failed') error.kind = 'stuck';
  if (state === 'unloaded') error.kind = 'unloaded';
  return error;
}

// onChosen(name) after another model was chosen; onFailed(error) where it could not be.
export async function start({onChosen, onFailed}) {
  chosen = onChosen;
  failed = onFailed;
  const menu = find('models');
  find('models-button').addEventListener('click', () => {
    const shown = find('models-panel').hidden;
    open(shown);
    if (shown) refresh().catch(() => {});
  });
  document.addEventListener('keydown', (event) => { // wherever the focus is just then
    if (event.key === 'Escape' && !find('models-panel').hidden) {
      open(false);
      find('models-button').focus();
    }
  });
  document.addEventListener('pointerdown', (event) => menu.contains(event.target) || open(false));
  menu.addEventListener('focusout', (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) open(false);
  });
  if (tabs) tabs.addEventListener('message', follow);
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && current && follow());
  const [session] = await Promise.all([readSession(), refresh()]);
  current = session.model || (models[0] || {}).name || '';
  draw();
}
