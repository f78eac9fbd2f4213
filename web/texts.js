// Every word of the page, in French and in English, and which of the two is spoken.
// The browser's language decides at first; a choice is remembered.
import {CHAT} from './texts_chat.js';

const PASTE = /^(Mac|iP)/.test(navigator.platform) ? '⌘V' : 'Ctrl+V';

const TEXTS = {
  en: {
    skip: 'Skip to the photo', language: 'Language', model: 'Model:', modelHint: 'The model that answers you. Only you are affected; a model that sleeps wakes when it is first asked.',
    title: 'Show a photo, read the answer.',
    subtitle: 'Drop one, paste one, take one, or give its address. The answer comes at once.',
    yourPhoto: 'Your photo', drop: 'Drop a photo here', paste: `or paste one with ${PASTE}`, touch: 'Tap to choose a photo', release: 'Drop it here',
    unseen: 'Your browser cannot show this photo, but the service can look at it.',
    choose: 'Choose a file', camera: 'Camera', addressLabel: 'Photo link', addressExample: 'Photo link (https://…)',
    ask: 'Ask', answer: 'Answer', idle: 'The answer will be printed here.', noPhoto: 'No photo at hand?', showCat: 'Show this cat.', topFive: 'The five likeliest', details: 'How it was answered',
    gridTitle: 'Many photos', gridCsv: 'Download as CSV', gridCount: (done, all) => `${done} of ${all} answered`,
    knowsOpen: 'What this model knows', knowsTitle: (name) => `What ${name} knows`, knowsSearch: 'Search the classes', knowsList: 'Classes', knowsCard: 'Its card',
    knowsWait: 'One moment…', knowsSays: 'Of anything else it says, as well as it can tell, that it does not know it.', close: 'Close', licence: (name) => `· Licence: ${name}`,
    knowsCount: (found, all) => (found === all ? `${all} classes` : `${found} of ${all} classes`),
    unknown: 'Not known', retry: 'Try again', compareTitle: 'Compare models', compareHint: 'One photo, several opinions, side by side.',
    compare: 'Compare', comparePick: 'Models to compare', recentTitle: 'Your last photos', recentHint: 'Kept in this tab only, gone when you close it.',
    clear: 'Clear', privacy: 'Photos are looked at and forgotten: the service keeps none.', docs: 'For programs: the API',
    cameraTitle: 'Take a photo', cancel: 'Cancel', shoot: 'Take the photo',
    looking: 'Looking…', fetching: 'Fetching the photo…',
    starting: (name) => `${name} is getting ready. The first time takes a moment…`,
    stubModel: 'Model', stubPrecision: 'Precision', stubTime: 'Time', stubStages: 'Stages', stubSize: 'Size', stubTypical: 'Usual time',
    fetch: 'fetching', decode: 'decoding', preprocess: 'preparing', infer: 'thinking',
    ready: 'ready', stopped: 'asleep', startingState: 'starting', failed: 'cannot be used', unloaded: 'out of service',
    severalLabels: 'several labels', preprocessing: 'Preprocessing', labels: 'Labels', head: 'Probabilities',
    typical: (time) => `about ${time}`, photoOf: (label) => `Photo: ${label}`, yourPhotoShown: 'The photo you gave',
    agree: (label, count) => `${count === 2 ? 'Both' : 'They all'} agree: ${label}.`,
    disagree: (count) => `They don’t agree: ${count} different answers.`,
    fastest: 'fastest', needPhoto: 'Give a photo first, then compare.', needTwo: 'Pick at least two models.',
    modelChosen: (name) => `${name} will answer from now on.`,
    errors: {
      address: 'That doesn’t look like the address of a photo. It should begin with https:// or http://.',
      file: 'This file doesn’t look like a photo I can read. JPEG, PNG and WebP work best.',
      phone: 'This is a HEIC or AVIF photo, as phones take them, and your browser cannot convert it. Send it as JPEG, or choose “Most compatible” in the camera’s settings.',
      url: 'There is no photo I can read at this address.',
      private: 'This address lies inside a private network, and I don’t go there.',
      key: 'This counter is for people with a key, and none came with the request.',
      forbidden: 'This counter does not let you do that.',
      model: 'This model is no longer here. Pick another one.',
      stuck: 'This model doesn’t want to start. Pick another one.',
      unloaded: 'This model is out of service. Pick another one.',
      large: 'This photo is too heavy for me. Try one under 20 MB.',
      rate: 'That was a lot of photos in a short time. Wait a moment, then try again.',
      broken: 'Something broke on our side. It isn’t your photo’s fault.',
      site: 'The site where this photo lives didn’t hand it over.',
      siteSlow: 'The site where this photo lives took too long.',
      busy: 'There is a queue at the counter. Try again in a moment.',
      away: 'Nobody answers at the counter. Check your connection, then try again.',
      slow: 'The answer took too long to come. Try again in a moment.',
      camera: 'The camera could not be opened. You can choose a file instead.',
    },
  },
  fr: {
    skip: 'Aller à la photo', language: 'Langue', model: 'Modèle :', modelHint: 'Le modèle qui vous répond. Ce choix ne vaut que pour vous ; un modèle endormi se réveille à la première question.',
    title: 'Montrez une photo, lisez la réponse.',
    subtitle: 'Déposez-la, collez-la, prenez-la, ou donnez son adresse. Réponse immédiate.',
    yourPhoto: 'Votre photo', drop: 'Déposez une photo ici', paste: `ou collez-en une avec ${PASTE}`, touch: 'Touchez pour choisir une photo', release: 'Lâchez, je la tiens',
    unseen: 'Votre navigateur ne peut pas montrer cette photo, mais le service peut la regarder.',
    choose: 'Choisir un fichier', camera: 'Photographier', addressLabel: 'Adresse d’une photo', addressExample: 'Adresse d’une photo',
    ask: 'Demander', answer: 'Réponse', idle: 'La réponse s’imprimera ici.', noPhoto: 'Pas de photo sous la main ?', showCat: 'Montrer ce chat.', topFive: 'Les cinq plus probables', details: 'Comment la réponse est venue',
    gridTitle: 'Plusieurs photos', gridCsv: 'Télécharger en CSV', gridCount: (done, all) => `${done} réponses sur ${all}`,
    knowsOpen: 'Ce que ce modèle connaît', knowsTitle: (name) => `Ce que connaît ${name}`, knowsSearch: 'Chercher parmi les catégories', knowsList: 'Catégories', knowsCard: 'Sa fiche (en anglais)',
    knowsWait: 'Un instant…', knowsSays: 'De tout le reste il dit, autant qu’il peut en juger, qu’il ne le connaît pas.', close: 'Fermer', licence: (name) => `· Licence : ${name}`,
    knowsCount: (found, all) => (found === all ? `${all} catégories` : `${found} catégories sur ${all}`),
    unknown: 'Inconnu', retry: 'Réessayer', compareTitle: 'Comparer des modèles', compareHint: 'Une photo, plusieurs avis, côte à côte.',
    compare: 'Comparer', comparePick: 'Modèles à comparer', recentTitle: 'Vos dernières photos', recentHint: 'Gardées dans cet onglet seulement, perdues quand vous le fermez.',
    clear: 'Effacer', privacy: 'Les photos sont regardées puis oubliées : le service n’en garde aucune.', docs: 'Pour les programmes : l’API',
    cameraTitle: 'Prendre une photo', cancel: 'Annuler', shoot: 'Prendre la photo',
    looking: 'Je regarde…', fetching: 'Je vais chercher la photo…',
    starting: (name) => `${name} se prépare. La première fois demande un instant…`,
    stubModel: 'Modèle', stubPrecision: 'Calcul', stubTime: 'Temps', stubStages: 'Étapes', stubSize: 'Taille', stubTypical: 'Temps habituel',
    fetch: 'transfert', decode: 'décodage', preprocess: 'préparation', infer: 'réflexion',
    ready: 'prêt', stopped: 'endormi', startingState: 'se prépare', failed: 'inutilisable', unloaded: 'hors service',
    severalLabels: 'plusieurs étiquettes', preprocessing: 'Préparation', labels: 'Étiquettes', head: 'Probabilités',
    typical: (time) => `environ ${time}`, photoOf: (label) => `Photo : ${label}`, yourPhotoShown: 'La photo que vous avez donnée',
    agree: (label, count) => `D’accord ${count === 2 ? 'tous les deux' : 'tous ensemble'} : ${label}.`,
    disagree: (count) => `Ils ne sont pas d’accord : ${count} réponses différentes.`,
    fastest: 'le plus rapide', needPhoto: 'Donnez d’abord une photo, puis comparez.', needTwo: 'Choisissez au moins deux modèles.',
    modelChosen: (name) => `${name} répondra désormais.`,
    errors: {
      address: 'Cela ne ressemble pas à l’adresse d’une photo. Elle devrait commencer par https:// ou http://.',
      file: 'Ce fichier ne ressemble pas à une photo que je sache lire. JPEG, PNG et WebP conviennent le mieux.',
      phone: 'C’est une photo HEIC ou AVIF, comme en font les téléphones, et votre navigateur ne sait pas la convertir. Envoyez-la en JPEG, ou choisissez « Le plus compatible » dans les réglages de l’appareil.',
      url: 'Il n’y a pas, à cette adresse, de photo que je sache lire.',
      private: 'Cette adresse se trouve dans un réseau privé, et je n’y vais pas.',
      key: 'Ce guichet demande une clé, et la demande n’en portait pas.',
      forbidden: 'Ce guichet ne vous le permet pas.',
      model: 'Ce modèle n’est plus là. Choisissez-en un autre.',
      stuck: 'Ce modèle ne veut pas démarrer. Choisissez-en un autre.',
      unloaded: 'Ce modèle est hors service. Choisissez-en un autre.',
      large: 'Cette photo est trop lourde pour moi. Essayez-en une de moins de 20 Mo.',
      rate: 'Cela fait beaucoup de photos en peu de temps. Attendez un instant, puis réessayez.',
      broken: 'Quelque chose s’est cassé de notre côté. Votre photo n’y est pour rien.',
      site: 'Le site qui héberge cette photo ne l’a pas donnée.',
      siteSlow: 'Le site qui héberge cette photo a mis trop de temps.',
      busy: 'Il y a la queue au guichet. Réessayez dans un instant.',
      away: 'Personne ne répond au guichet. Vérifiez votre connexion, puis réessayez.',
      slow: 'La réponse a mis trop de temps à venir. Réessayez dans un instant.',
      camera: 'L’appareil photo n’a pas pu s’ouvrir. Vous pouvez choisir un fichier à la place.',
    },
  },
};

for (const [name, words] of Object.entries(CHAT)) Object.assign(TEXTS[name], words);

const KEY = 'guichet-language';
let current = remembered() || (navigator.languages || [navigator.language]).map((name) => name.slice(0, 2).toLowerCase())
  .find((name) => name in TEXTS) || 'en';

function remembered() {
  try {
    const name = localStorage.getItem(KEY);
    return name in TEXTS ? name : null;
  } catch {
    return null; // storage is forbidden here
  }
}

export const language = () => current;
export const text = (name) => TEXTS[current][name];

// Put the words into everything that is marked with data-text, data-label or data-placeholder.
export function translate(root = document) {
  document.documentElement.lang = current;
  for (const node of root.querySelectorAll('[data-text]')) node.textContent = text(node.dataset.text);
  for (const node of root.querySelectorAll('[data-label]')) node.setAttribute('aria-label', text(node.dataset.label));
  for (const node of root.querySelectorAll('[data-placeholder]')) node.placeholder = text(node.dataset.placeholder);
  for (const node of root.querySelectorAll('[data-language]'))
    node.setAttribute('aria-pressed', node.dataset.language === current);
}

export function setLanguage(name) {
  current = name;
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // not remembered, then
  }
  translate();
}

// A sentence for a failure: {status, reason}; `byAddress`: the photo was given as an address.
export function errorSentence(error, byAddress) {
  const errors = text('errors');
  const names = {0: 'away', 401: 'key', 403: 'forbidden', 404: 'model', 408: 'slow', 413: 'large', 415: 'file',
    429: 'rate', 502: byAddress ? 'site' : 'broken', 503: 'busy', 504: byAddress ? 'siteSlow' : 'slow'};
  if (error.kind) return errors[error.kind];
  if (error.status === 400 && /private network/.test(error.reason)) return errors.private;
  if (error.status === 400) return errors[byAddress ? 'url' : 'file'];
  return errors[names[error.status] || 'broken'];
}

// The same for an answer of the chat.
export function chatSentence(error) {
  const errors = text('chatErrors');
  const names = {0: 'away', 400: 'asked', 401: 'key', 403: 'forbidden', 404: 'model', 408: 'slow', 413: 'large', 429: 'rate',
    503: 'busy', 504: 'slow'};
  return errors[error.kind] || errors[names[error.status] || 'broken'];
}
