// Conversations, in this browser's localStorage and nowhere else. One is {id, title, system, temperature, changed, messages};
// a message is {role, content, thinking, note}: `note` names what happened to an answer ("stopped", "length").

const KEY = 'guichet-conversations';
const MOST = 100;
let all = read(); // the last changed first

function isConversation(value) {
  return value && typeof value.id === 'string' && Array.isArray(value.messages)
    && value.messages.every((message) => ['user', 'assistant'].includes(message.role) && typeof message.content === 'string');
}

function read() {
  try {
    return (JSON.parse(localStorage.getItem(KEY)) || []).filter(isConversation);
  } catch {
    return []; // storage is forbidden, or holds something else
  }
}

// The storage may be full or forbidden: drop the oldest until it fits, or do without.
function write() {
  for (let count = Math.min(all.length, MOST); count >= 0; count--) {
    try {
      localStorage.setItem(KEY, JSON.stringify(all.slice(0, count)));
      return;
    } catch {
      if (count > 8) count = Math.ceil(count * 0.75); // large ones: a few tries are enough
    }
  }
}

export const list = () => all;
export const find = (id) => all.find((conversation) => conversation.id === id);

export const create = ({system = '', temperature = null} = {}) => ({
  id: `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`, title: '', system, temperature, changed: 0, messages: []});

// The first line of what was asked first, short.
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = conversation.messages.find((message) => message.role === 'user');
  const line = first ? first.content.trim().split('\n')[0] : '';
  return line.length > 60 ? `${line.slice(0, 58).trimEnd()}…` : line;
}

// Keep a conversation; one without messages is none. Other tabs keep theirs: what they wrote meanwhile is read first.
export function save(conversation) {
  all = read().filter((other) => other.id !== conversation.id);
  if (conversation.messages.length) all.unshift(conversation);
  conversation.changed = Date.now();
  write();
}

export function rename(conversation, title) {
  conversation.title = title.trim().slice(0, 120);
  all = read().map((other) => (other.id === conversation.id ? {...other, title: conversation.title} : other));
  write();
}

export function remove(id) {
  all = read().filter((other) => other.id !== id);
  write();
}
