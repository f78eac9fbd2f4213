// The service, as the page sees it. Every failure is a ServiceError: a status (0 where nobody answered) and its reason.

export class ServiceError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
    this.reason = reason;
  }
}

async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path.replace(/\?$/, ''), {credentials: 'same-origin', ...options});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ServiceError(0, '');
  }
  let reply = null;
  try {
    reply = await response.json();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
  }
  if (!response.ok) throw new ServiceError(response.status, (reply && reply.error) || response.statusText);
  if (reply === null) throw new ServiceError(502, 'the answer is not JSON');
  return reply;
}

// A photo is {url} or {blob}; `model` only where it is not the session's own.
export function predict(photo, {model, language, signal} = {}) {
  const query = new URLSearchParams();
  if (language) query.set('lang', language);
  if (model) query.set('model', model);
  const request = photo.url
    ? {body: JSON.stringify({url: photo.url}), headers: {'Content-Type': 'application/json'}}
    : {body: photo.blob, headers: {'Content-Type': photo.blob.type}};
  return call(`/predict?${query}`, {method: 'POST', signal, ...request});
}

export const listModels = async (signal) => (await call('/models?details=1', {signal})).map(
  (entry) => (typeof entry === 'string' ? {name: entry} : entry));

export const readClasses = (name, lang) => call(`/model/${encodeURIComponent(name)}/classes?lang=${lang}`);

export const readSession = () => call('/session');

export const chooseModel = (name) => call(`/model/${encodeURIComponent(name)}`, {method: 'PUT'});
