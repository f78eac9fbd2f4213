// Probabilities in words. French needs no article this way, so no gender can be wrong; English chooses a or an.
import {language} from './texts.js';

const capital = (text) => text.charAt(0).toLocaleUpperCase(language()) + text.slice(1);

function article(label) {
  if (/[^sui]s$|\d$/.test(label)) return ''; // jeans, class 17; not octopus, mantis
  return /^(?!uni|eu|u[sk]e?\b|one\b)[aeiou]/i.test(label) ? 'an ' : 'a ';
}

// `known`: "no" where the model does not know what the photo shows, "perhaps" where it is not to be believed.
function english(first, second, probability, known) {
  const one = article(first) + first;
  if (known === 'no') return `I don’t know this. The nearest of what I know: ${first}.`;
  if (known === 'perhaps') probability = Math.min(probability, 0.49);
  if (probability >= 0.95) return `That’s ${one}, no doubt about it.`;
  if (probability >= 0.8) return `That’s ${one}, almost certainly.`;
  if (probability >= 0.5) return `Most likely ${one}.`;
  if (probability >= 0.25) return second ? `Perhaps ${one}, or else ${article(second)}${second}.` : `Perhaps ${one}.`;
  return `Hard to say. The nearest guess: ${first}.`;
}

function french(first, second, probability, known) {
  if (known === 'no') return `Je ne connais pas cela. Le plus proche de ce que je connais : ${first}.`;
  if (known === 'perhaps') probability = Math.min(probability, 0.49);
  if (probability >= 0.95) return `${capital(first)}, sans hésiter.`;
  if (probability >= 0.8) return `${capital(first)}, presque à coup sûr.`;
  if (probability >= 0.5) return `${capital(first)}, probablement.`;
  if (probability >= 0.25) return second ? `${capital(first)}, peut-\u2060être, ou bien ${second}.` : `${capital(first)}, peut-\u2060être.`;
  return `Difficile à dire. Le plus proche : ${first}.`;
}

const lists = {en: new Intl.ListFormat('en'), fr: new Intl.ListFormat('fr')};

// Of a model whose labels are independent of each other: all that are likelier than not.
function several(predictions) {
  const names = predictions.filter((one) => one.probability >= 0.5).map((one) => one.label);
  if (!names.length) return language() === 'fr' ? 'Rien de ce que ce modèle connaît.' : 'Nothing that this model knows.';
  return language() === 'fr' ? `${capital(lists.fr.format(names))}.` : `I see ${lists.en.format(names)}.`;
}

// The sentence for a reply of /predict; `independent`: several labels may be true; `known`: the reply's.
export function sentence(predictions, independent, known) {
  const [first, second] = predictions;
  if (!first) return '';
  if (independent) return several(predictions);
  const say = language() === 'fr' ? french : english;
  return say(first.label, second && second.label, first.probability, known);
}

// "91 %", "0.4 %", "< 0.1 %"; never 100 % or 0 % where it is not quite.
export function percent(probability) {
  const digits = probability < 0.1 || probability > 0.99 ? 1 : 0;
  const format = new Intl.NumberFormat(language(), {style: 'percent', minimumFractionDigits: digits, maximumFractionDigits: digits});
  if (probability < 0.0005) return `<\u00a0${format.format(0.001)}`;
  if (probability > 0.9995) return `>\u00a0${format.format(0.999)}`;
  return format.format(probability);
}

// "0.4 ms", "12 ms", "1.3 s"
export function duration(milliseconds) {
  const number = (value, digits) => new Intl.NumberFormat(language(), {maximumFractionDigits: digits}).format(value);
  if (milliseconds >= 1000) return `${number(milliseconds / 1000, 1)}\u00a0s`;
  return `${number(milliseconds, milliseconds < 10 ? 1 : 0)}\u00a0ms`;
}

export function size(bytes) {
  const units = language() === 'fr' ? ['ko', 'Mo', 'Go'] : ['kB', 'MB', 'GB'];
  let value = bytes / 1000;
  let unit = 0;
  for (; value >= 1000 && unit < 2; unit++) value /= 1000;
  return `${new Intl.NumberFormat(language(), {maximumFractionDigits: value < 10 ? 1 : 0}).format(value)}\u00a0${units[unit]}`;
}
