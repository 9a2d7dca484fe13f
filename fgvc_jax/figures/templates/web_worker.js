// Answers for photographs, apart from the page, which stays awake meanwhile. What is asked for are
// the site's own files; a photograph is read from memory and goes nowhere.
import * as ort from "./ort.js";
import { kept, nearest } from "./nearest.js";
import { seen, square } from "./resize.js";

const MAX_PIXELS = 80_000_000; // as in fgvc_jax/data/images.py
const CANDIDATES = 5;
const NEAREST = 3; // photographs of a class, as in fgvc_jax/figures/nearest.py
const PICTURE = 320; // pixels of the longer side of what is shown
const NO_PHOTOGRAPH = "this browser cannot read it as a photograph. JPEG, PNG and WebP always work.";

async function fetched(name, told = () => {}) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
  const parts = [];
  let got = 0;
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    told(got += value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

const json = async name => JSON.parse(new TextDecoder().decode(await fetched(name)));

async function begun() {
  const about = await json("about.json");
  const had = {}, files = ["model.onnx", "ort.wasm", ...(about.neighbours ? ["neighbours.bin"] : [])];
  const [model, runtime, near] = await Promise.all(files.map(name => fetched(name, bytes => {
    had[name] = bytes;
    postMessage({ loaded: Object.values(had).reduce((a, b) => a + b), of: about.bytes });
  })));
  const threads = crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 4) : 1;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = runtime;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const pictures = about.examples ? await json("examples.json") : {};
  postMessage({ ready: { threads, known: about, pictures } });
  return { about, session, near: near && kept(near, about.neighbours) };
}
const started = begun();
started.catch(error => postMessage({ failed: error.message }));

// A photograph small, and a frame in it around what the network sees, see fgvc_jax/figures/framed.py.
async function framed(picture, { fit, share }) {
  const { width, height } = picture, scale = PICTURE / Math.max(width, height);
  const [across, down] = [width, height].map(length => Math.max(1, Math.round(length * scale)));
  const small = await createImageBitmap(picture, {
    resizeWidth: across, resizeHeight: down, resizeQuality: "high",
  });
  const [left, top, right, bottom] =
    seen(width, height, fit, share).map(edge => Math.round(edge * scale));
  const frame = { left, top, right: Math.max(right, left + 1), bottom: Math.max(bottom, top + 1) };
  const whole = frame.right - left === across && frame.bottom - top === down;
  return { small, frame, whole };
}

// {pixels: the square of a file, RGB, as the network is shown it, turned as its EXIF tag says;
// small, frame, whole: see `framed`}.
async function shown(file, about) {
  let picture;
  try {
    picture = await createImageBitmap(file, {
      imageOrientation: "from-image", colorSpaceConversion: "none",
    });
  } catch {
    throw new Error(NO_PHOTOGRAPH);
  }
  try {
    const { width, height } = picture;
    if (width * height > MAX_PIXELS) throw new Error("it has more than 80 megapixels.");
    const start = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const scaled = about.scaled && start[0] === 0xff && start[1] === 0xd8; // a JPEG
    const canvas = new OffscreenCanvas(1, 1);
    const drawn = canvas.getContext("2d", { willReadFrequently: true });
    const read = (left, top, across, down) => {
      if (canvas.width !== across || canvas.height !== down) {
        [canvas.width, canvas.height] = [across, down];
      }
      drawn.globalCompositeOperation = "copy";
      drawn.drawImage(picture, left, top, across, down, 0, 0, across, down);
      return drawn.getImageData(0, 0, across, down);
    };
    const pixels = square(read, width, height, { ...about, scaled });
    return { pixels, ...await framed(picture, about) };
  } finally {
    picture.close();
  }
}

async function asked({ about, session }, pixels) {
  const { side } = about;
  const images = new ort.Tensor("uint8", pixels, [1, side, side, 3]);
  const start = performance.now();
  const found = await session.run({ images });
  return {
    probabilities: found.probabilities.data, members: found.members.data,
    strangeness: found.strangeness.data, embedding: found.embedding?.data,
    seconds: (performance.now() - start) / 1000,
  };
}

const largest = values => values.reduce((best, v, i) => (v > values[best] ? i : best), 0);

// The softmax of log-probabilities / temperature.
function calibrated(probabilities, temperature) {
  const powers = probabilities.map(p => Math.max(p, 1e-38) ** (1 / temperature));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}

// A key of about.sure.
function sureness(share, calibration) {
  if (!calibration) return "unknown";
  if (calibration.acceptFrom === null) return "never";
  return share >= calibration.acceptFrom ? "sure" : "unsure";
}

// How far the answer climbs, as fgvc_jax/evaluation/families.py has it: {level, group, probability}
// of the finest level that is safe; a level beyond the last where none is.
function climb(probabilities, { groups, temperature, threshold }) {
  const shares = calibrated(Array.from(probabilities), temperature), leaf = largest(probabilities);
  let probability = 0;
  for (const [level, of] of groups.entries()) {
    const mass = shares.reduce((sum, share, c) => (of[c] === of[leaf] ? sum + share : sum), 0);
    probability = Math.max(probability, mass);
    if (probability > threshold) return { level, group: of[leaf], probability };
  }
  return { level: groups.length, group: -1, probability: 1 };
}

// The share of known images that are as strange or stranger, as fgvc_jax/evaluation/novelty.py has
// it, up to where that is unusual; 1 where it is not known.
function typicality(strangeness, novelty) {
  if (!novelty) return 1;
  const stranger = novelty.strangest.filter(known => known >= strangeness[novelty.column]).length;
  return (1 + stranger) / (1 + novelty.count);
}

function told({ probabilities, members, strangeness }, { calibration, families, novelty }) {
  const count = probabilities.length, fitted = calibration
    && calibrated(Array.from(probabilities), calibration.temperature);
  const shares = calibration?.shown ? fitted : Array.from(probabilities);
  const order = shares.map((_, c) => c).sort((a, b) => shares[b] - shares[a] || a - b);
  const votes = Array.from({ length: members.length / count }, (_, n) =>
    largest(members.subarray(n * count, (n + 1) * count)));
  return {
    classes: order.slice(0, CANDIDATES).map(number => ({ number, probability: shares[number] })),
    agree: votes.filter(vote => vote === order[0]).length,
    sure: sureness(fitted && fitted[order[0]], calibration),
    typicality: typicality(strangeness, novelty),
    climbed: families && climb(probabilities, families),
  };
}

// A picture's file as an address; not by a FileReaderSync, which takes 2 ms for each.
function address(bytes) {
  const letters = btoa(String.fromCharCode(...bytes)); // some kilobytes
  return `data:image/${bytes[0] === 0xff ? "jpeg" : "webp"};base64,${letters}`;
}

// The training photographs of a class that are nearest, as addresses; none where none are known.
function like({ near }, embedding, label) {
  if (!near) return [];
  const files = nearest(near, embedding, label, NEAREST).map(near.picture);
  return files.filter(bytes => bytes.length).map(address);
}

async function answer(file) {
  const begin = performance.now(), ready = await started, { about } = ready;
  const { pixels, ...photograph } = await shown(file, about), found = await asked(ready, pixels);
  const { classes, ...answered } = told(found, about);
  const beside = classes.map(each =>
    ({ ...each, nearest: like(ready, found.embedding, each.number) }));
  const seconds = (performance.now() - begin) / 1000;
  return { ...answered, ...photograph, classes: beside, probabilities: found.probabilities,
    seconds: { session: found.seconds, all: seconds } };
}

// What the kept photographs are answered with, beside what they were answered with at home.
async function selfTest() {
  const kept = await json("selftest.json");
  let difference = 0;
  for (const { photograph, probabilities } of kept.examples) {
    const bytes = Uint8Array.from(atob(photograph), letter => letter.charCodeAt());
    const found = await answer(new Blob([bytes]));
    probabilities.forEach((p, c) => {
      difference = Math.max(difference, Math.abs(p - found.probabilities[c]));
    });
  }
  return { count: kept.examples.length, difference, within: kept.within };
}

// One after the other, as the runtime has it.
let last = Promise.resolve();
onmessage = ({ data: { id, file, test } }) => {
  last = last.then(() => (test ? selfTest() : answer(file)))
    .then(found => postMessage({ id, found }), error => postMessage({ id, error: error.message }));
};
