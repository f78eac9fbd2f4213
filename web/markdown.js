// Markdown as models write it, to elements. Text goes in as text nodes alone, links lead to http(s) only, images are not
// fetched: what a model writes can neither run nor ask anybody for anything.
import {element} from './dom.js';
import {text} from './texts.js';

// ---- Within a line ----

const LINK = /^\[((?:[^[\]\\]|\\.)*)\]\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+"[^"]*")?\s*\)/;
const BARE = /^https?:\/\/[^\s<>"'`]*[^\s<>"'`.,;:!?)\]}*_]/;
const RULES = [
  [/^\\([!-/:-@[-`{-~])/, (match) => match[1]],
  [/^(`+)(?!`)([^]*?[^`])\1(?!`)/, (match) => element('code', {}, match[2].replace(/^ (.*\S.*) $/, '$1'))],
  [new RegExp(`^!${LINK.source.slice(1)}`), (match) => link(match[1] || match[2], match[2])],
  [LINK, (match) => link(match[1], match[2])],
  [/^\*\*\*(?=\S)([^]+?\S)\*\*\*/, (match) => element('strong', {}, element('em', {}, ...inline(match[1])))],
  [/^\*\*(?=\S)([^]+?\S|\S)\*\*/, (match) => element('strong', {}, ...inline(match[1]))],
  [/^\*(?=[^\s*])([^*]*?[^\s*])\*(?!\*)/, (match) => element('em', {}, ...inline(match[1]))],
  [/^~~(?=\S)([^]+?\S|\S)~~/, (match) => element('del', {}, ...inline(match[1]))],
];
// Underscores stand within names, too: only whole words count.
const WORD_RULES = [
  [/^__(?=\S)([^]+?\S|\S)__(?!\w)/, (match) => element('strong', {}, ...inline(match[1]))],
  [/^_(?=[^\s_])([^_]*?[^\s_])_(?!\w)/, (match) => element('em', {}, ...inline(match[1]))],
  [BARE, (match) => link(match[0], match[0])],
];

function isWeb(address) {
  try {
    return ['http:', 'https:'].includes(new URL(address).protocol);
  } catch {
    return false;
  }
}

function link(label, address) {
  const words = label === address ? [label] : inline(label, true);
  if (!isWeb(address)) return element('span', {}, ...words);
  return element('a', {href: address, target: '_blank', rel: 'noopener noreferrer nofollow', referrerpolicy: 'no-referrer'}, ...words);
}

function match(rules, rest) {
  for (const [pattern, make] of rules) {
    const found = pattern.exec(rest);
    if (found) return [found[0].length, make(found)];
  }
  return null;
}

const SPECIAL = /[\\`![*~_h]|\n/g; // where a rule may begin; h as in https

// The nodes of a piece of text. `within`: within a link, which holds no other.
export function inline(source, within = false) {
  const nodes = [];
  let plain = 0; // start of what is text so far
  SPECIAL.lastIndex = 0;
  for (let at = next(source, 0); at >= 0; at = next(source, at)) {
    const startsWord = at === 0 || !/\w/.test(source[at - 1]);
    const rest = source.slice(at);
    const found = source[at] === '\n' ? [1, element('br')]
      : (within && /^(!?\[|https?:)/.test(rest) ? null : match(RULES, rest) || (startsWord && match(WORD_RULES, rest)));
    if (!found) {
      at++;
      continue;
    }
    nodes.push(source.slice(plain, at), found[1]);
    at = plain = at + found[0];
  }
  nodes.push(source.slice(plain));
  return nodes.filter((node) => node !== '');
}

function next(source, from) {
  SPECIAL.lastIndex = from;
  const found = SPECIAL.exec(source);
  return found ? found.index : -1;
}

// ---- Blocks ----

const FENCE = /^(\s{0,3})(`{3,}|~{3,})\s*([^`\s]*)[^`]*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const HEADING = /^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const RULE = /^\s{0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^\s{0,3}>\s?/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

export function codeBlock(code, name) {
  const button = element('button', {type: 'button', class: 'copy', onclick: () => copy(code, button)}, text('copy'));
  return element('div', {class: 'code'}, element('div', {class: 'code-head'}, element('span', {}, name || ''), button),
    element('pre', {tabindex: '0'}, element('code', {}, code)));
}

async function copy(words, button) {
  try {
    await navigator.clipboard.writeText(words);
    button.textContent = text('copied');
  } catch {
    button.textContent = text('notCopied');
  }
  setTimeout(() => (button.textContent = text('copy')), 2000);
}

function fence(lines) {
  const [, indent, mark, name] = FENCE.exec(lines.shift());
  const code = [];
  while (lines.length) {
    const line = lines.shift();
    if (line.trim().startsWith(mark) && /^[`~]+$/.test(line.trim())) break;
    code.push(line.startsWith(indent) ? line.slice(indent.length) : line);
  }
  return codeBlock(code.join('\n'), name);
}

const indentOf = (line) => /^\s*/.exec(line)[0].replace(/\t/g, '    ').length;

// Items of one kind and their deeper lines. An item's lines are blocks of their own.
function list(lines) {
  const [, , first] = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first);
  const node = element(ordered ? 'ol' : 'ul', ordered && parseInt(first, 10) !== 1 ? {start: parseInt(first, 10)} : {});
  const base = indentOf(lines[0]);
  while (lines.length) {
    const found = ITEM.exec(lines[0]);
    if (!found || indentOf(lines[0]) > base + 1 || indentOf(lines[0]) < base || /\d/.test(found[2]) !== ordered || RULE.test(lines[0])) break;
    lines.shift();
    const inner = [found[4]];
    while (lines.length && belongs(lines, base)) inner.push(lines.shift().replace(/^( {1,4}|\t)/, ''));
    while (lines.length > 1 && !lines[0].trim() && ITEM.test(lines[1]) && indentOf(lines[1]) === base) lines.shift();
    node.append(element('li', {}, ...item(inner)));
  }
  return node;
}

function belongs(lines, base) {
  if (!lines[0].trim()) return lines.length > 1 && indentOf(lines[1]) > base + 1;
  if (ITEM.test(lines[0])) return indentOf(lines[0]) > base + 1;
  return indentOf(lines[0]) > base || !(HEADING.test(lines[0]) || FENCE.test(lines[0]) || QUOTE.test(lines[0]) || RULE.test(lines[0]));
}

// An item of one paragraph needs none around it.
function item(lines) {
  const nodes = blocks(lines);
  return nodes.length && nodes[0].tagName === 'P' ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes;
}

const cells = (line) => line.trim().replace(/^\|/, '').replace(/\|$/, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));

function table(lines) {
  const head = cells(lines.shift());
  const sides = cells(lines.shift()).map((cell) => (/^:-+:$/.test(cell) ? 'center' : /-:$/.test(cell) ? 'right' : null));
  const row = (tag, words) => element('tr', {}, ...head.map((_, index) =>
    element(words[index] ? tag : 'td', {'data-side': sides[index]}, ...inline(words[index] || ''))));
  const body = [];
  while (lines.length && lines[0].includes('|')) body.push(row('td', cells(lines.shift())));
  return element('div', {class: 'table', tabindex: '0'}, element('table', {}, element('thead', {}, row('th', head)), element('tbody', {}, ...body)));
}

const isTable = (lines) => lines.length > 1 && lines[0].includes('|') && lines[1].includes('-') && DIVIDER.test(lines[1])
  && cells(lines[0]).length === cells(lines[1]).length;

function quote(lines) {
  const inner = [];
  while (lines.length && lines[0].trim() && (QUOTE.test(lines[0]) || inner.length)) inner.push(lines.shift().replace(QUOTE, ''));
  return element('blockquote', {}, ...blocks(inner));
}

const startsBlock = (lines) => FENCE.test(lines[0]) || HEADING.test(lines[0]) || RULE.test(lines[0]) || QUOTE.test(lines[0])
  || /^\s{0,3}([-*+]|1[.)])\s+\S/.test(lines[0]) || isTable(lines);

function paragraph(lines) {
  const words = [lines.shift()];
  while (lines.length && lines[0].trim() && !startsBlock(lines)) words.push(lines.shift());
  return element('p', {}, ...inline(words.map((line) => line.trim()).join('\n')));
}

let depth = 0; // quotes and lists within each other

function blocks(lines) {
  const nodes = [];
  if (++depth > 20) nodes.push(element('p', {}, lines.splice(0).join('\n')));
  while (lines.length) {
    if (!lines[0].trim()) lines.shift();
    else if (FENCE.test(lines[0])) nodes.push(fence(lines));
    else if (RULE.test(lines[0])) nodes.push((lines.shift(), element('hr')));
    else if (HEADING.test(lines[0])) {
      const [, marks, words] = HEADING.exec(lines.shift());
      nodes.push(element(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(words)));
    } else if (QUOTE.test(lines[0])) nodes.push(quote(lines));
    else if (ITEM.test(lines[0])) nodes.push(list(lines));
    else if (isTable(lines)) nodes.push(table(lines));
    else nodes.push(paragraph(lines));
  }
  depth--;
  return nodes;
}

// Elements for a whole text, finished or not.
export function markdown(source) {
  depth = 0;
  return blocks(source.replace(/\r\n?/g, '\n').split('\n'));
}
