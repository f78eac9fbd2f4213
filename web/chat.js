// The chat: what is said, the answer that comes, and the conversations of this browser.
import {answer, tellsStories} from './chat_api.js';
import * as view from './chat_view.js';
import * as conversations from './conversations.js';
import {element, fill, find} from './dom.js';
import {currentModel, explained, whileStarting} from './models.js';
import {language, text} from './texts.js';

let conversation = conversations.create();
let answering = null; // AbortController of the answer under way
let failure = null; // why there was no last answer
let rate = null; // {tokens, seconds} of the last answer

// ---- The line below ----

const number = (value, digits = 0) => new Intl.NumberFormat(language(), {maximumFractionDigits: digits}).format(value);

function say(line) {
  find('chat-status').textContent = line;
}

function drawStatus() {
  const said = [currentModel()];
  if (rate && rate.tokens) said.push(text('tokens')(number(rate.tokens)));
  if (rate && rate.tokens > 1 && rate.seconds > 0) said.push(text('perSecond')(number((rate.tokens - 1) / rate.seconds, rate.tokens / rate.seconds < 10 ? 1 : 0)));
  say(said.filter(Boolean).join(' · '));
}

function drawButtons() {
  find('chat-send').hidden = Boolean(answering);
  find('chat-stop').hidden = !answering;
}

// ---- Answers ----

async function receive(message, signal) {
  let began = 0;
  let pieces = 0;
  for await (const piece of answer(currentModel(), conversation.messages, settings(), signal)) {
    message.content += piece.text;
    message.thinking += piece.thinking;
    if (piece.text || piece.thinking) {
      began = began || performance.now();
      pieces++;
    }
    if (piece.end === 'length') message.note = 'length';
    rate = {tokens: piece.tokens || pieces, seconds: (performance.now() - began) / 1000};
    if (began) drawStatus();
    view.grow();
  }
}

// The settings of this conversation.
const settings = () => ({system: conversation.system.trim(), temperature: conversation.temperature});

// Answer the last message.
async function respond() {
  stop();
  const own = conversation;
  const said = own.messages;
  const {signal} = answering = new AbortController();
  const watching = new AbortController();
  const message = {role: 'assistant', content: '', thinking: '', note: ''};
  const model = currentModel();
  failure = rate = null;
  drawButtons();
  view.draw(said, {busy: true});
  view.begin(message);
  drawStatus();
  whileStarting(model, watching.signal, (name) => say(text('starting')(name)));
  try {
    await receive(message, signal);
  } catch (error) {
    if (error.name === 'AbortError') message.note = 'stopped';
    else if (own === conversation) failure = await explained(error, model);
    if (error.name !== 'AbortError' && message.content) message.note = 'stopped';
  } finally {
    watching.abort();
  }
  if (own.messages === said) { // nothing else was said meanwhile
    if (message.content || message.thinking) said.push(message);
    if (said.length) conversations.save(own);
  }
  if (answering && answering.signal === signal) answering = null;
  if (own === conversation && !answering) finish(message);
  drawList();
}

function finish(message) {
  view.draw(conversation.messages, {error: failure});
  drawButtons();
  drawStatus();
  drawHints();
  find('live').textContent = failure ? '' : message.content;
}

function stop() {
  if (answering) answering.abort();
  answering = null;
}

function ask(words) {
  conversation.messages.push({role: 'user', content: words});
  conversations.save(conversation);
  respond();
}

// The last answer again, or one where there was none.
function regenerate() {
  const {messages} = conversation;
  conversation.messages = messages.slice(0, messages.findLastIndex((message) => message.role === 'user') + 1);
  if (conversation.messages.length) respond();
}

// Something else was said at that place: what followed is gone.
function edit(index, words) {
  conversation.messages = conversation.messages.slice(0, index);
  ask(words);
}

// ---- The line to write in ----

function fit() {
  const input = find('chat-input');
  input.style.height = 'auto';
  input.style.height = `${input.scrollHeight + 2}px`;
}

function submit() {
  const input = find('chat-input');
  const words = input.value.trim();
  if (!words || answering) return;
  input.value = '';
  fit();
  ask(words);
}

function watchInput() {
  const input = find('chat-input');
  input.addEventListener('input', fit);
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  find('chat-form').addEventListener('submit', (event) => {
    event.preventDefault();
    submit();
  });
  find('chat-stop').addEventListener('click', () => {
    stop();
    input.focus();
  });
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && answering) stop();
  });
}

// ---- Settings ----

function drawSettings() {
  find('chat-system').value = conversation.system;
  find('chat-temperature').value = conversation.temperature ?? 0.8;
  find('chat-temperature-value').textContent = conversation.temperature === null ? text('usual') : number(conversation.temperature, 1);
}

function watchSettings() {
  find('chat-system').addEventListener('input', (event) => {
    conversation.system = event.target.value;
    if (conversation.messages.length) conversations.save(conversation);
  });
  find('chat-temperature').addEventListener('input', (event) => {
    conversation.temperature = Number(event.target.value);
    if (conversation.messages.length) conversations.save(conversation);
    drawSettings();
  });
}

// ---- Conversations ----

function open(given) {
  stop();
  conversation = given;
  failure = rate = null;
  view.draw(conversation.messages);
  drawSettings();
  drawButtons();
  drawStatus();
  drawList();
}

function renamer(entry, node) {
  const input = element('input', {class: 'rename', 'aria-label': text('rename'), maxlength: '120'});
  const close = (keep) => {
    if (!input.isConnected) return;
    if (keep) conversations.rename(entry, input.value);
    if (keep && entry.id === conversation.id) conversation.title = entry.title;
    drawList();
  };
  input.value = conversations.titleOf(entry);
  input.addEventListener('blur', () => close(true));
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') close(true);
    if (event.key === 'Escape') close(false);
  });
  fill(node, input);
  input.select();
}

// A second press deletes.
function deleter(entry) {
  const button = element('button', {type: 'button', class: 'action', onclick: () => {
    if (!button.dataset.sure) {
      button.dataset.sure = 'yes';
      button.textContent = text('deleteSure');
      setTimeout(() => {
        delete button.dataset.sure;
        button.textContent = text('delete');
      }, 4000);
      return;
    }
    conversations.remove(entry.id);
    if (entry.id === conversation.id) open(conversations.create(settings()));
    else drawList();
    find('chat-new').focus();
  }}, text('delete'));
  return button;
}

function drawList() {
  const list = conversations.list();
  find('chat-list-box').hidden = list.length === 0;
  fill(find('chat-list'), ...list.map((entry) => {
    const node = element('li', {class: 'talk', 'data-current': String(entry.id === conversation.id)});
    node.append(element('button', {type: 'button', class: 'talk-title', 'aria-pressed': entry.id === conversation.id,
      onclick: () => entry.id !== conversation.id && open(entry)}, conversations.titleOf(entry) || text('untitled')),
    element('span', {class: 'talk-actions'},
      element('button', {type: 'button', class: 'action', onclick: () => renamer(entry, node)}, text('rename')), deleter(entry)));
    return node;
  }));
}

function drawHints() {
  const stories = tellsStories(currentModel());
  find('chat-hint').textContent = text(stories ? 'chatStory' : 'chatHint');
  find('chat-input').placeholder = text(stories ? 'storyExample' : 'chatExample');
}

// ---- From outside ----

// Another language, another model, or the chat comes into view.
export function draw() {
  if (!answering) view.draw(conversation.messages, {error: failure});
  drawHints();
  drawSettings();
  drawList();
  if (!answering) drawStatus();
}

// What is not an answer's failure: another model could not be chosen, say.
export function fail(error) {
  failure = error;
  draw();
}

export function modelChosen() {
  stop();
  rate = null;
  draw();
}

export function start() {
  view.start({regenerate, edit});
  watchInput();
  watchSettings();
  find('chat-new').addEventListener('click', () => {
    open(conversations.create(settings()));
    find('chat-input').focus();
  });
  find('chat-list-box').open = matchMedia('(min-width: 52rem)').matches; // room is scarce on a phone
  const [last] = conversations.list();
  if (last) conversation = last;
  drawButtons();
}
