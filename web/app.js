// The page: a photo comes in, the service is asked, the answer is printed on the ticket.
import {predict} from './api.js';
import {duration, percent, sentence, size} from './answer.js';
import * as chat from './chat.js';
import * as compare from './compare.js';
import {bar, element, fill, find} from './dom.js';
import * as knows from './knows.js';
import * as models from './models.js';
import * as grid from './grid.js';
import {filesOf, fromAddress, fromCamera, fromFile, fromSample, fromTransfer, hasCamera, PhotoError, thumbnail} from './photo.js';
import * as recent from './recent.js';
import {errorSentence, language, setLanguage, text, translate} from './texts.js';

let photo = null; // {blob} or {url}: what was asked last
let shown = null; // what the ticket says: {reply, model, took} or {error}
let asking = null; // AbortController of the question under way

// ---- The photo ----

let shownAddress = null; // an object URL to give back

function showPhoto(source) {
  if (shownAddress) URL.revokeObjectURL(shownAddress);
  shownAddress = source instanceof Blob ? URL.createObjectURL(source) : null;
  const image = find('photo');
  find('unseen').hidden = true;
  find('empty').hidden = true;
  image.hidden = false;
  find('pane').classList.add('taken');
  image.alt = text('yourPhotoShown');
  image.src = shownAddress || source;
}

function hidePhoto() {
  find('photo').hidden = true;
  find('photo').removeAttribute('src');
  find('unseen').hidden = true;
  find('empty').hidden = false;
  find('pane').classList.remove('taken');
}

// A photo of about the window's shape fills it; any other is shown whole.
function watchPhoto() {
  const image = find('photo');
  image.addEventListener('load', () => {
    const shape = image.naturalWidth / image.naturalHeight;
    image.classList.toggle('filling', shape > 1.15 && shape < 1.6);
  });
  image.addEventListener('error', () => {
    if (!photo) return; // turned down already
    image.hidden = true;
    find('pane').classList.remove('taken');
    find('unseen').hidden = false;
  });
}

// ---- The ticket ----

function ticket(state) {
  find('ticket').dataset.state = state;
  find('ticket').setAttribute('aria-busy', state === 'working');
}

function work(line) {
  find('working-line').textContent = line;
  find('live').textContent = line;
}

function stubRow(name, value) {
  return element('div', {}, element('dt', {}, text(name)), element('dd', {}, value));
}

function drawStub({reply, model, took}) {
  const stages = ['fetch', 'decode', 'preprocess', 'infer'].filter((stage) => reply.timing_ms && reply.timing_ms[stage] > 0)
    .map((stage) => `${text(stage)} ${duration(reply.timing_ms[stage])}`);
  fill(find('stub'), stubRow('stubModel', reply.model || model), reply.precision ? stubRow('stubPrecision', reply.precision) : null,
    stubRow('stubTime', duration(took)), stages.length ? stubRow('stubStages', stages.join(', ')) : null);
}

// Before the first answer: who will give it.
function drawIdle() {
  const model = models.modelNamed(models.currentModel());
  if (!model || find('ticket').dataset.state !== 'idle') return;
  fill(find('stub'), stubRow('stubModel', model.name), model.precision ? stubRow('stubPrecision', model.precision) : null,
    model.bytes ? stubRow('stubSize', size(model.bytes)) : null,
    model.typical_ms ? stubRow('stubTypical', duration(model.typical_ms)) : null);
}

// On a phone the ticket lies below the window: bring it into view.
function showTicket() {
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  find('ticket').scrollIntoView({block: 'nearest', behavior: calm ? 'auto' : 'smooth'});
}

function drawAnswer() {
  if (!shown) return;
  if (shown.error) {
    fill(find('stub'));
    find('error-line').textContent = errorSentence(shown.error, shown.byAddress);
    find('error-reason').textContent = shown.error.reason || '';
    find('retry').hidden = !photo;
    ticket('error');
    showTicket();
    return;
  }
  const line = sentence(shown.reply.predictions, (models.modelNamed(shown.reply.model) || {}).independent, shown.reply.known);
  find('sentence').textContent = line;
  fill(find('bars'), ...shown.reply.predictions.map((one) => bar('li', one.label, one.probability, percent(one.probability))));
  drawStub(shown);
  find('photo').alt = shown.reply.known === 'no' ? text('yourPhotoShown') : text('photoOf')(shown.reply.predictions[0].label);
  find('live').textContent = line;
  ticket('result');
  showTicket();
}

// Where the photo itself is at fault it goes: to ask again would change nothing.
function fail(error) {
  recent.forgetShown();
  shown = {error, byAddress: Boolean(photo && photo.url)};
  if (error instanceof PhotoError || [400, 413, 415].includes(error.status)) {
    photo = null;
    hidePhoto();
  }
  find('live').textContent = '';
  drawAnswer();
}

// ---- Asking ----

async function ask(given) {
  if (asking) asking.abort();
  const {signal} = asking = new AbortController();
  const watching = new AbortController();
  photo = given;
  showPhoto(photo.blob || photo.url);
  compare.forget();
  ticket('working');
  fill(find('stub'));
  work(text(photo.url ? 'fetching' : 'looking'));
  const model = models.modelNamed(given.model) ? given.model : models.currentModel();
  drawLink(model);
  models.whileStarting(model, watching.signal, (name) => work(text('starting')(name)));
  const before = performance.now();
  try {
    const reply = await predict(photo, {language: language(), signal, model: given.model ? model : undefined});
    const took = performance.now() - before;
    if (signal.aborted) return;
    shown = {reply, model, took};
    if (photo.url && reply.image && reply.image !== photo.url) showPhoto(reply.image); // a page's picture
    drawAnswer();
    recent.add({...shown, image: given.image || await thumbnail(given), url: given.url});
    if ((models.modelNamed(model) || {}).state !== 'ready') models.refresh().catch(() => {});
  } catch (error) {
    if (!signal.aborted) fail(await models.explained(error, model));
  } finally {
    watching.abort();
  }
}

// The same photo again, because the model or the language is another.
const askAgain = () => photo && ask({...photo, model: undefined});

// One photo goes to the window, several to the grid.
function takeFiles(files, one) {
  if (isChatting()) return;
  if (files.length > 1) {
    grid.ask(files);
    return;
  }
  if (files.length) {
    ticket('working'); // before it was looked into
    work(text('looking'));
  }
  take(one);
}

// `get` gives a photo, or null where there was none to be had.
async function take(get) {
  if (isChatting()) return;
  try {
    const given = await get();
    if (given) await ask(given);
  } catch (error) {
    if (!(error instanceof PhotoError)) throw error;
    if (asking) asking.abort();
    fail(error);
  }
}

function showRecent(entry) {
  if (asking) asking.abort();
  photo = entry.url ? {url: entry.url} : null;
  shown = entry;
  compare.forget();
  showPhoto(entry.image || entry.url);
  drawAnswer();
  if (entry.image) fetchShot(entry);
  find('ask').scrollIntoView({block: 'start', behavior: 'auto'});
}

// The small picture of a last photo can be asked about again, too.
function fetchShot(entry) {
  const [head, data] = entry.image.split(',');
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  photo = {blob: new Blob([bytes], {type: head.slice(5, head.indexOf(';'))}), image: entry.image};
}

// ---- Photos or talk ----

const isChatting = () => models.talks(models.modelNamed(models.currentModel()));

// The chosen model's kind decides what the page is.
function drawSide() {
  const chats = isChatting();
  document.body.dataset.side = chats ? 'chat' : 'photo';
  find('photo-side').hidden = chats;
  find('chat-side').hidden = !chats;
  find('title').dataset.text = chats ? 'chatTitle' : 'title';
  find('subtitle').dataset.text = chats ? 'chatSubtitle' : 'subtitle';
  find('privacy').dataset.text = chats ? 'chatPrivacy' : 'privacy';
  find('skip').dataset.text = chats ? 'chatSkip' : 'skip';
  find('skip').setAttribute('href', chats ? '#chat-input' : '#ask');
  drawSides();
  translate();
  if (chats) chat.draw();
  else drawIdle();
}

// Where there are models of both kinds, the page can be turned.
function drawSides() {
  find('sides').hidden = !models.ofSide('photo') || !models.ofSide('chat');
  for (const button of find('sides').children) button.setAttribute('aria-pressed', button.dataset.side === document.body.dataset.side);
}

function watchSides() {
  for (const button of find('sides').children) {
    button.addEventListener('click', () => {
      const model = models.ofSide(button.dataset.side);
      if (model && button.dataset.side !== document.body.dataset.side) models.choose(model.name);
    });
  }
}

// ---- Ways in ----

function watchDrops() {
  let depth = 0;
  const over = (yes) => find('pane').classList.toggle('over', yes);
  document.addEventListener('dragenter', (event) => {
    event.preventDefault();
    over(++depth > 0);
  });
  document.addEventListener('dragleave', () => over(--depth > 0));
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    over(Boolean(depth = 0));
    takeFiles(filesOf(event.dataTransfer), () => fromTransfer(event.dataTransfer));
  });
}

function watchPastes() {
  document.addEventListener('paste', (event) => {
    const files = event.clipboardData.files.length > 0;
    if (isChatting()) return;
    if (!files && event.target.matches('input, textarea')) return;
    event.preventDefault();
    takeFiles(filesOf(event.clipboardData), () => fromTransfer(event.clipboardData));
  });
}

function watchFiles() {
  for (const id of ['file', 'capture']) {
    find(id).addEventListener('change', (event) => {
      const files = [...event.target.files];
      event.target.value = '';
      if (files.length) takeFiles(files, () => fromFile(files[0]));
    });
  }
  find('choose').addEventListener('click', () => find('file').click());
  find('sample').addEventListener('click', () => take(() => fromSample('/assets/cat.jpg')));
  find('pane').addEventListener('click', () => find('file').click());
  find('camera').addEventListener('click', () => {
    if (!hasCamera()) find('capture').click();
    else take(() => fromCamera().catch(() => {
      throw new PhotoError('camera');
    }));
  });
}

function watchAddress() {
  find('address').addEventListener('submit', (event) => {
    event.preventDefault();
    take(() => fromAddress(find('url').value));
  });
}

function watchLanguages() {
  for (const button of document.querySelectorAll('[data-language]')) {
    button.addEventListener('click', () => {
      if (button.dataset.language === language()) return;
      setLanguage(button.dataset.language);
      models.draw();
      compare.draw();
      recent.draw();
      recent.rename();
      grid.again();
      drawSide();
      if (shown && shown.error) drawAnswer();
      else if (!isChatting()) askAgain(); // labels come from the service, in its language
    });
  }
}

// What a link asks about (/?url=…&model=…), else what was shown before a reload.
async function comeBack() {
  const link = new URLSearchParams(location.search);
  if (link.get('url')) await take(async () => ({...await fromAddress(link.get('url')), model: link.get('model')}));
  else if (recent.shown()) showRecent(recent.shown());
}

// A photo that has an address can be linked to; any other leaves none.
function drawLink(model) {
  const link = photo.url && photo.url.length < 2000 ? `?${new URLSearchParams({url: photo.url, model})}` : '';
  history.replaceState(null, '', `${location.pathname}${link}`);
}

async function start() {
  translate();
  watchPhoto();
  watchDrops();
  watchPastes();
  watchFiles();
  watchAddress();
  watchLanguages();
  watchSides();
  find('retry').addEventListener('click', askAgain);
  recent.start(showRecent);
  grid.start();
  compare.start(() => photo);
  knows.start();
  chat.start();
  try {
    await models.start({
      onFailed: (error) => (isChatting() ? chat.fail(error) : fail(error)),
      onChosen: (name) => {
        find('live').textContent = text('modelChosen')(name);
        compare.modelChosen();
        drawSide();
        chat.modelChosen();
        if (isChatting()) return;
        askAgain();
        grid.again();
      },
    });
    compare.draw();
    drawSide();
    if (!isChatting()) await comeBack();
  } catch (error) {
    fail(error);
  }
}

start();
