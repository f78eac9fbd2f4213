// Small helpers to find and make elements. Text always goes in as text, never as markup.

export const find = (id) => document.getElementById(id);

// element('button', {type: 'button', class: 'x', onclick: f}, 'text', child…)
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('aria-')) {
      node.setAttribute(name, String(value));
      continue;
    }
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function fill(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

// One row of a chart: a label, its share of one, and the bar. The style sheet draws it from --share.
export function bar(tag, label, probability, percent) {
  const track = element('span', {class: 'track', 'aria-hidden': 'true'}, element('span', {class: 'fill'}));
  const row = element(tag, {class: 'bar'}, element('span', {class: 'bar-label'}, label),
    element('span', {class: 'bar-value'}, percent), track);
  row.style.setProperty('--share', Math.max(0, Math.min(1, probability)));
  return row;
}
