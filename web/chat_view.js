// A conversation on the page: its messages, the answer as it comes, and editing what was said.
import {element, fill, find} from './dom.js';
import {markdown} from './markdown.js';
import {chatSentence, text} from './texts.js';

let actions = {}; // {regenerate(), edit(index, words)}
let growing = null; // {node, message} of the answer under way
let due = false; // it is to be drawn in the next frame

const NOTES = {stopped: 'noteStopped', length: 'noteLength'};

function thoughts(message, open) {
  if (!message.thinking) return null;
  return element('details', {class: 'thinking', open}, element('summary', {}, text('thinking')), element('p', {}, message.thinking));
}

// What an answer looks like so far.
function body(message, isGrowing) {
  if (message.role === 'user') return [element('p', {class: 'said'}, message.content)];
  const nodes = [thoughts(message, isGrowing && !message.content), ...markdown(message.content)];
  if (isGrowing && !message.content) nodes.push(element('span', {class: 'typing', 'aria-hidden': 'true'}));
  if (!isGrowing && NOTES[message.note]) nodes.push(element('p', {class: 'note'}, text(NOTES[message.note])));
  return nodes;
}

function copyButton(message) {
  const button = element('button', {type: 'button', class: 'action', onclick: async () => {
    const words = await navigator.clipboard.writeText(message.content).then(() => 'copied', () => 'notCopied');
    button.textContent = text(words);
    setTimeout(() => (button.textContent = text('copy')), 2000);
  }}, text('copy'));
  return button;
}

function editor(message, index, node) {
  const area = element('textarea', {class: 'edit', 'aria-label': text('edit'), rows: Math.min(12, message.content.split('\n').length + 1)});
  const close = () => node.replaceWith(article(message, index, false));
  const send = () => area.value.trim() && actions.edit(index, area.value.trim());
  area.value = message.content;
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') {
      event.stopPropagation(); // this one only ends the editing
      close();
    }
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
  });
  fill(node, area, element('div', {class: 'actions'},
    element('button', {type: 'button', class: 'button', onclick: close}, text('cancel')),
    element('button', {type: 'button', class: 'button primary', onclick: send}, text('send'))));
  area.focus();
}

function buttons(message, index, isLast, node) {
  const list = [copyButton(message)];
  if (message.role === 'user')
    list.push(element('button', {type: 'button', class: 'action', onclick: () => editor(message, index, node)}, text('edit')));
  else if (isLast) list.push(element('button', {type: 'button', class: 'action', onclick: () => actions.regenerate()}, text('regenerate')));
  return element('div', {class: 'actions'}, ...list);
}

function article(message, index, isLast, isGrowing = false) {
  const node = element('article', {class: 'message', 'data-role': message.role},
    element('h3', {class: 'visually-hidden'}, text(message.role === 'user' ? 'youSaid' : 'modelSaid')),
    element('div', {class: 'words'}, ...body(message, isGrowing).filter(Boolean)));
  if (!isGrowing) node.append(buttons(message, index, isLast, node));
  return node;
}

// ---- Where the reader is ----

const pane = () => find('chat-messages');

// Whoever has scrolled back to read is left there.
const isAtEnd = () => pane().scrollHeight - pane().scrollTop - pane().clientHeight < 80;

function toEnd() {
  pane().scrollTop = pane().scrollHeight;
}

// ---- Drawing ----

export function draw(messages, {error = null, busy = false} = {}) {
  growing = null;
  const last = messages.length - 1;
  const nodes = messages.map((message, index) => article(message, index, index === last));
  if (error) nodes.push(errorNode(error));
  find('chat-empty').hidden = nodes.length > 0;
  fill(pane(), ...nodes);
  pane().hidden = nodes.length === 0;
  pane().setAttribute('aria-busy', busy);
  toEnd();
}

function errorNode(error) {
  return element('div', {class: 'chat-error', role: 'alert'}, element('p', {class: 'error-line'}, chatSentence(error)),
    element('p', {class: 'error-reason'}, error.reason || ''),
    element('button', {type: 'button', class: 'button', onclick: () => actions.regenerate()}, text('retry')));
}

// The answer under way stands behind the messages.
export function begin(message) {
  growing = {node: article(message, -1, true, true), message};
  pane().append(growing.node);
  pane().setAttribute('aria-busy', 'true');
  toEnd();
}

// It has grown: at most once a frame.
export function grow() {
  if (due || !growing) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    if (!growing) return;
    const follow = isAtEnd();
    fill(growing.node.querySelector('.words'), ...body(growing.message, true));
    if (follow) toEnd();
  });
}

export function start(given) {
  actions = given;
}
