// The API's description (/openapi.json) laid out for reading, and a form at each operation to try it.
import {french, frenchGist} from './docs_fr.js';
import {element, fill, find} from './dom.js';
import {language} from './texts.js';

const VERBS = ['get', 'post', 'put', 'patch', 'delete'];
let api = {};

const inFrench = language() === 'fr';
// A word of the page in the language that is spoken. What has no translation is English, and says so: englishOr.
const say = (words) => (inFrench && french(words)) || words;
const englishOr = (words) => (inFrench && french(words) === null ? {lang: 'en'} : {});

// Follow a local reference: {"$ref": "#/components/schemas/Reply"}.
function resolve(node) {
  for (let depth = 0; node && node.$ref && depth < 16; depth++)
    node = node.$ref.slice(2).split('/').reduce((at, key) => (at || {})[key.replace(/~1/g, '/').replace(/~0/g, '~')], api);
  return node || {};
}

// A schema in a few words: "string", "array of number".
function typeName(schema) {
  schema = resolve(schema);
  if (schema.type === 'array') return `array of ${typeName(schema.items)}`;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  return [schema.type || 'any', schema.format && `(${schema.format})`].filter(Boolean).join(' ');
}

// An example of a schema: the one it gives, else one made from its parts.
function example(schema, depth = 0) {
  schema = resolve(schema);
  if (schema.example !== undefined) return schema.example;
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  const parts = schema.allOf || schema.oneOf || schema.anyOf;
  if (parts) return example(parts[0], depth + 1);
  if (schema.type === 'array') return depth > 4 ? [] : [example(schema.items, depth + 1)];
  if (schema.properties)
    return Object.fromEntries(Object.entries(schema.properties).map(([name, part]) => [name, example(part, depth + 1)]));
  return {string: '', integer: 0, number: 0, boolean: false, object: {}}[schema.type] ?? null;
}

const pretty = (value) => JSON.stringify(value, null, 2);

function mediaExample(media) {
  if (media.example !== undefined) return media.example;
  const [named] = Object.values(media.examples || {});
  return named ? resolve(named).value : example(media.schema);
}

function section(title, ...children) {
  return element('div', {}, element('h3', {}, say(title)), ...children);
}

function parameterRows(parameters) {
  return element('dl', {class: 'rows'}, ...parameters.flatMap((one) => [
    element('dt', {}, one.name),
    element('dd', englishOr(one.description), one.description || '', ' ', element('small', {}, [one.in, typeName(one.schema || {}), one.required && say('required')].filter(Boolean).join(', '))),
  ]));
}

function replyRows(responses) {
  return element('dl', {class: 'rows'}, ...Object.entries(responses).flatMap(([status, given]) => {
    const response = resolve(given);
    const [type, media] = Object.entries(response.content || {})[0] || [];
    const json = media && type.includes('json') && status < '300';
    return [element('dt', {}, status), element('dd', englishOr(response.description), response.description || '', type ? element('small', {}, ` ${type}`) : null,
      json ? element('pre', {}, pretty(mediaExample(media))) : null)];
  }));
}

function bodySection(content) {
  return section('Body', element('dl', {class: 'rows'}, ...Object.entries(content).flatMap(([type, media]) => [
    element('dt', {}, type),
    element('dd', {}, type.includes('json') ? element('pre', {}, pretty(mediaExample(media))) : resolve(media.schema).description || say('the bytes')),
  ])));
}

// ---- Trying it ----

function field(label, input) {
  return element('label', {}, label, input);
}

// What goes into the request's body: {type, read()}. A file for images and forms, text for the rest.
function bodyInput(content) {
  const types = Object.keys(content);
  const choice = element('select', {}, ...types.map((type) => element('option', {}, type)));
  const editor = element('textarea', {spellcheck: 'false'});
  const file = element('input', {type: 'file'});
  const isText = () => /json|text/.test(choice.value);
  const update = () => {
    editor.hidden = !isText();
    file.hidden = isText();
    if (isText()) editor.value = pretty(mediaExample(content[choice.value]));
  };
  choice.addEventListener('change', update);
  update();
  const read = () => {
    if (isText()) return {body: editor.value, headers: {'Content-Type': choice.value}};
    const [photo] = file.files;
    if (!choice.value.startsWith('multipart/')) return {body: photo, headers: {'Content-Type': photo ? photo.type : choice.value}};
    const form = new FormData();
    if (photo) form.append('file', photo);
    return {body: form};
  };
  return {nodes: [field(say('Body'), choice), editor, file], read};
}

async function send(verb, path, inputs, body, output) {
  const query = new URLSearchParams();
  const headers = {};
  for (const {parameter, input} of inputs) {
    if (!input.value) continue;
    if (parameter.in === 'path') path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (parameter.in === 'query') query.set(parameter.name, input.value);
    else if (parameter.in === 'header') headers[parameter.name] = input.value;
  }
  const target = path + (query.size ? `?${query}` : '');
  const extra = body ? body.read() : {};
  output.hidden = false;
  output.textContent = '…';
  const before = performance.now();
  try {
    const response = await fetch(target, {method: verb.toUpperCase(), body: extra.body, headers: {...headers, ...extra.headers}});
    const text = await response.text();
    const took = (performance.now() - before).toFixed(1);
    let shown = text;
    try {
      shown = pretty(JSON.parse(text));
    } catch {
      // not JSON: as it is
    }
    output.textContent = `${verb.toUpperCase()} ${target}\n${response.status} ${response.statusText}, ${took} ms\n\n${shown}`;
  } catch (error) {
    output.textContent = `${verb.toUpperCase()} ${target}\n${error.message}`;
  }
}

function tryForm(verb, path, parameters, content) {
  const inputs = parameters.map((parameter) => ({
    parameter, input: element('input', {name: parameter.name, value: String(parameter.example ?? (parameter.schema || {}).default ?? '')}),
  }));
  const body = content ? bodyInput(content) : null;
  const output = element('pre', {hidden: true, 'aria-live': 'polite'});
  return element('form', {class: 'try', onsubmit: (event) => {
    event.preventDefault();
    send(verb, path, inputs, body, output);
  }}, ...inputs.map(({parameter, input}) => field(parameter.name, input)), ...(body ? body.nodes : []),
  element('button', {type: 'submit', class: 'button primary'}, say('Send')), output);
}

function operation(verb, path, shared, description) {
  const parameters = [...shared, ...(description.parameters || [])].map(resolve);
  const content = description.requestBody ? resolve(description.requestBody).content : null;
  const gist = inFrench ? frenchGist(description.operationId) : description.summary;
  return element('details', {class: 'operation'}, element('summary', {}, element('span', {class: 'verb', 'data-verb': verb}, verb.toUpperCase()),
    element('code', {}, path), element('span', {class: 'gist', lang: gist ? null : 'en'}, gist || description.summary || '')),
  element('div', {class: 'operation-body'}, description.description ? element('p', englishOr(description.description), description.description) : null,
    parameters.length ? section('Parameters', parameterRows(parameters)) : null, content ? bodySection(content) : null,
    section('Replies', replyRows(description.responses || {})), tryForm(verb, path, parameters, content)));
}

function draw() {
  document.documentElement.lang = language();
  document.title = `${api.info.title}: ${say('The API')}`;
  find('title').textContent = say('The API');
  find('back').textContent = say('Back to the counter');
  find('lead').textContent = [`${api.info.title} ${api.info.version}.`, say(api.info.description || '')].join(' ');
  const groups = new Map((api.tags || []).map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const verb of VERBS.filter((name) => item[name])) {
      const tag = (item[verb].tags || ['Operations'])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(verb, path, item.parameters || [], item[verb]));
    }
  }
  fill(find('operations'), ...[...groups].filter(([, list]) => list.length).flatMap(([name, list]) => {
    const about = (api.tags || []).find((tag) => tag.name === name);
    return [element('h2', {}, say(name)), about && about.description ? element('p', {class: 'lead', ...englishOr(about.description)}, say(about.description)) : null, ...list];
  }));
}

try {
  const response = await fetch('/openapi.json');
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  api = await response.json();
  draw();
} catch (error) {
  find('lead').textContent = `The description at /openapi.json cannot be read: ${error.message}`;
}
document.querySelector('main').setAttribute('aria-busy', 'false');
