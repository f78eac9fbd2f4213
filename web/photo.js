// Getting hold of a photo: a file, a drop, a paste, the camera. A photo is {blob} or {url}; `image` is its thumbnail where
// there is one already.
import {find} from './dom.js';

const READABLE = ['image/jpeg', 'image/png', 'image/webp']; // what the service decodes
const MAX_BYTES = 20 * 1024 * 1024;

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

// What the browser can read and the service cannot (GIF, AVIF, HEIC on some) is made a PNG here.
export async function fromFile(file) {
  if (READABLE.includes(file.type)) {
    if (file.size > MAX_BYTES) throw new PhotoError('large');
    return {blob: file};
  }
  try {
    return {blob: await toBlob(await toCanvas(file), 'image/png')};
  } catch {
    throw new PhotoError('file');
  }
}

// The photo that comes with the page, for who has none at hand.
export async function fromSample(address) {
  const response = await fetch(address).catch(() => null);
  if (!response || !response.ok) throw new PhotoError('away');
  return {blob: await response.blob()};
}

export function fromAddress(text) {
  try {
    const url = new URL(text.trim());
    if (url.protocol === 'http:' || url.protocol === 'https:') return {url: url.href};
  } catch {
    // no address at all
  }
  throw new PhotoError('address');
}

// A dropped or pasted DataTransfer: an image file before an address. Null where it holds neither.
export async function fromTransfer(transfer) {
  const file = [...transfer.files].find((item) => item.type.startsWith('image/')) || transfer.files[0];
  if (file) return fromFile(file);
  const address = (transfer.getData('text/uri-list') || transfer.getData('text/plain')).split('\n')[0];
  return /^https?:\/\//.test(address) ? fromAddress(address) : null;
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
