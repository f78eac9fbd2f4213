// Getting hold of a photo: a file, a drop, a paste, the camera. A photo is {blob} or {url}; `image` is its thumbnail where
// there is one already.
import {find} from './dom.js';

const READABLE = ['image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/bmp', 'image/tiff']; // what the service decodes
const MAX_BYTES = 20 * 1024 * 1024;
const MAX_PIXELS = 24e6;
const SIDE = 2000; // of a photo that is made smaller here: more than any model looks at

export class PhotoError extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind; // names a sentence of texts.js
  }
}

// Drawn through an <img>, which reads everything that the browser can show, SVG too, upright as the camera held it.
async function toCanvas(blob, side = Infinity) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
  } finally {
    URL.revokeObjectURL(image.src);
  }
  const scale = Math.min(1, side / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

const toBlob = (canvas, type, quality) => new Promise((resolve) => canvas.toBlob(resolve, type, quality));

// How many pixels the browser finds in it; 0 where it cannot read it.
async function pixels(blob) {
  const image = new Image();
  image.src = URL.createObjectURL(blob);
  try {
    await new Promise((resolve, reject) => {
      image.onload = resolve;
      image.onerror = reject;
    });
    return image.naturalWidth * image.naturalHeight;
  } catch {
    return 0;
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

// Of a phone: formats that the service does not decode.
const isPhoneFormat = (file) => /hei[cf]|avif/.test(file.type) || /\.(heic|heif|avif)$/i.test(file.name || '');

// What is too large for the service is made smaller here, and what only the browser can read (AVIF, SVG, HEIC on some)
// becomes a JPEG or a PNG.
export async function fromFile(file) {
  const readable = READABLE.includes(file.type);
  if (readable && file.size <= MAX_BYTES && await pixels(file) <= MAX_PIXELS) return {blob: file};
  try {
    const type = file.type === 'image/svg+xml' || file.type === 'image/png' ? 'image/png' : 'image/jpeg';
    return {blob: await toBlob(await toCanvas(file, SIDE), type, 0.95)};
  } catch {
    if (readable && file.size > MAX_BYTES) throw new PhotoError('large');
    throw new PhotoError(isPhoneFormat(file) ? 'phone' : 'file');
  }
}

// The photo that comes with the page, for who has none at hand.
export async function fromSample(address) {
  const response = await fetch(address).catch(() => null);
  if (!response || !response.ok) throw new PhotoError('away');
  return {blob: await response.blob()};
}

// "data:image/…;base64,…", as some pages give their pictures.
async function fromData(address) {
  const [, type, data] = /^data:(image\/[\w.+-]+)(?:;[\w=-]+)*;base64,([^]*)$/i.exec(address) || [];
  if (!type) throw new PhotoError('address');
  try {
    const bytes = Uint8Array.from(atob(decodeURIComponent(data).replace(/\s/g, '')), (letter) => letter.charCodeAt(0));
    return fromFile(new Blob([bytes], {type: type.toLowerCase()}));
  } catch {
    throw new PhotoError('address');
  }
}

// An address, also without its https://, or the photo itself as a data: address.
export async function fromAddress(words) {
  const address = words.trim();
  if (/^data:/i.test(address)) return fromData(address);
  try {
    const url = new URL(/^[\w-]+(\.[\w-]+)+([/?#]|$)/.test(address) ? `https://${address}` : address);
    if (url.protocol === 'http:' || url.protocol === 'https:') return {url: url.href};
  } catch {
    // no address at all
  }
  throw new PhotoError('address');
}

// The image files of a dropped or pasted DataTransfer; any files where none says that it is one.
export function filesOf(transfer) {
  const files = [...transfer.files];
  const images = files.filter((item) => item.type.startsWith('image/'));
  return images.length ? images : files;
}

// A dropped or pasted DataTransfer: an image file before an address. Null where it holds neither.
export async function fromTransfer(transfer) {
  const [file] = filesOf(transfer);
  if (file) return fromFile(file);
  const address = (transfer.getData('text/uri-list') || transfer.getData('text/plain')).split('\n')[0];
  return /^(https?:\/\/|data:image\/)/.test(address) ? fromAddress(address) : null;
}

// A small JPEG as a data: address, for the list of last photos. Null where the browser cannot draw it.
export async function thumbnail(photo, side = 320) {
  if (!photo.blob) return null;
  try {
    return (await toCanvas(photo.blob, side)).toDataURL('image/jpeg', 0.8);
  } catch {
    return null;
  }
}

// Opens the camera in a dialog; gives a photo, or null when it was cancelled. Throws where there is none.
export async function fromCamera() {
  const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment', width: {ideal: 1280}}});
  const dialog = find('camera-dialog');
  const video = find('camera-video');
  video.srcObject = stream;
  dialog.returnValue = '';
  const shoot = () => dialog.close('shoot');
  const cancel = () => dialog.close('');
  find('camera-shoot').addEventListener('click', shoot);
  find('camera-cancel').addEventListener('click', cancel);
  dialog.showModal();
  find('camera-shoot').focus();
  await new Promise((resolve) => dialog.addEventListener('close', resolve, {once: true}));
  find('camera-shoot').removeEventListener('click', shoot);
  find('camera-cancel').removeEventListener('click', cancel);
  let blob = null;
  if (dialog.returnValue === 'shoot' && video.videoWidth) {
    const canvas = document.createElement('canvas');
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext('2d').drawImage(video, 0, 0);
    blob = await toBlob(canvas, 'image/jpeg', 0.92);
  }
  for (const track of stream.getTracks()) track.stop();
  video.srcObject = null;
  return blob ? {blob} : null;
}

export const hasCamera = () => Boolean(navigator.mediaDevices && navigator.mediaDevices.getUserMedia);
