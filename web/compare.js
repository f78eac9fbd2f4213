// One photo through several models, side by side.
import {predict} from './api.js';
import {duration, percent} from './answer.js';
import {bar, element, fill, find} from './dom.js';
import {identity} from './knows.js';
import {currentModel, explained, facts, isUsable, modelList, modelNamed, refresh, talks} from './models.js';
import {errorSentence, language, text} from './texts.js';

const picked = new Set();
let getPhoto = () => null;
let running = null; // AbortController of the comparison under way
let results = []; // [{name, reply | error | null, id}]; id: what its first answer is, whatever it is called

const usable = () => modelList().filter((model) => isUsable(model) && !talks(model));

function pick(model) {
  const box = element('input', {type: 'checkbox', value: model.name, onchange: (event) => {
    if (event.target.checked) picked.add(model.name);
    else picked.delete(model.name);
  }});
  box.checked = picked.has(model.name);
  return element('label', {class: 'pick'}, box, element('span', {}, model.name), element('small', {}, facts(model)));
}

function card({name, reply, error}, fastest) {
  const head = element('div', {class: 'card-head'}, element('h3', {}, name),
    reply ? element('span', {class: 'card-time'}, duration(reply.timing_ms.infer)) : null);
  if (error) return element('li', {class: 'card'}, head, element('p', {class: 'error-line'}, errorSentence(error, Boolean(getPhoto()?.url))), element('p', {class: 'error-reason'}, error.reason || ''));
  if (!reply) return element('li', {class: 'card waiting'}, head, element('span', {class: 'spinner', 'aria-hidden': 'true'}));
  return element('li', {class: 'card'}, head,
    element('p', {class: 'card-notes'}, [reply.precision, name === fastest ? text('fastest') : null].filter(Boolean).join(' · ')),
    element('ol', {class: 'bars'}, ...reply.predictions.slice(0, 3).map(
      (one) => bar('li', one.label, one.probability, percent(one.probability)))));
}

function verdict() {
  const answers = results.filter((result) => result.reply);
  if (answers.length < 2 || results.some((result) => !result.reply && !result.error)) return '';
  const different = new Set(answers.map((result) => result.id));
  return different.size === 1 ? text('agree')(answers[0].reply.predictions[0].label, answers.length) : text('disagree')(different.size);
}

function drawResults() {
  const timed = results.filter((result) => result.reply).sort((a, b) => a.reply.timing_ms.infer - b.reply.timing_ms.infer);
  const done = timed.length > 1 && results.every((result) => result.reply || result.error);
  fill(find('compare-results'), ...results.map((result) => card(result, done ? timed[0].name : null)));
  find('compare-verdict').textContent = verdict();
}

// What can be picked: called when the list of models or the language changes.
export function draw() {
  const models = usable();
  find('compare').hidden = models.length < 2;
  if (!picked.size) {
    const first = models.filter((model) => model.name === currentModel());
    for (const model of [...first, ...models].slice(0, 3)) picked.add(model.name);
    followed = currentModel();
  }
  fill(find('compare-picks'), ...models.map(pick));
  drawResults();
}

// Another model answers: it is compared, too, and the one before it no longer, unless that was picked by hand.
let followed = '';
export function modelChosen() {
  if (!talks(modelNamed(currentModel()))) {
    if (!picked.has(currentModel())) picked.delete(followed);
    picked.add(followed = currentModel());
  }
  draw();
}

// A new photo: older opinions go.
export function forget() {
  if (running) running.abort();
  results = [];
  drawResults();
}

async function run() {
  const photo = getPhoto();
  const names = usable().map((model) => model.name).filter((name) => picked.has(name));
  if (!photo || names.length < 2) {
    find('compare-verdict').textContent = text(photo ? 'needTwo' : 'needPhoto');
    return;
  }
  forget();
  const {signal} = running = new AbortController();
  results = names.map((name) => ({name}));
  drawResults();
  // One after the other: models that answer at once would disturb each other's times.
  for (const result of results) {
    try {
      // A first answer pays for waking up; the second one tells the time.
      if ((modelNamed(result.name) || {}).state !== 'ready') await predict(photo, {model: result.name, signal});
      const reply = await predict(photo, {model: result.name, language: language(), signal});
      result.id = await identity(result.name, reply.predictions[0]);
      result.reply = reply;
    } catch (error) {
      if (signal.aborted) return;
      result.error = await explained(error, result.name);
    }
    if (signal.aborted) return;
    drawResults();
  }
  await refresh().catch(() => {});
  if (!signal.aborted) draw(); // who was asleep is awake now
}

export function start(photoSource) {
  getPhoto = photoSource;
  find('compare-start').addEventListener('click', run);
}
