const SERVED = "Opened as a file, this page cannot work: browsers let it read its network only from " +
  "a server. Put the folder on any web server with https, or, on this machine, run " +
  "“python -m http.server” in the folder and open http://localhost:8000/.";
const OLD = "This browser cannot run the page, which needs one of 2023 or later; or a file of the " +
  "page is missing.";
const INSECURE = "Not here: browsers keep a page for that only if it is served over https.";
const place = document.querySelector("#self-test");
const waiting = new Map(); // by number, what takes the worker's answer
let about = null, examples = {}, worker = null, number = 0, busy = false;

function stop(words) {
  busy = true; // what is still loading has nothing to say any more
  tell(words, "stops");
  drop.hidden = true;
}

// The worker's answer, once it has one: {found} or {error}.
const sent = message => new Promise(done => {
  waiting.set(++number, done);
  worker.postMessage({ id: number, ...message });
});

async function ready({ threads, known, pictures }) {
  [about, examples] = [known, pictures];
  document.querySelector("#names").replaceChildren(
    ...about.names.map(text => make("li", {}, name(text))));
  if (!busy) tell("Ready.");
  document.documentElement.dataset.threads = threads;
  // Only now, so that what the page itself needs comes first.
  const keeping = navigator.serviceWorker?.register("service.js");
  keeping?.catch(error => console.info(`not kept for offline use: ${error.message}`));
}

function begin() {
  if (location.protocol === "file:") return stop(SERVED);
  worker = new Worker("worker.js", { type: "module" });
  worker.onerror = () => stop(OLD);
  worker.onmessage = ({ data }) => {
    if (data.failed) return stop(`The page's files could not be loaded: ${data.failed}.`);
    if (data.ready) return ready(data.ready);
    if (data.of) return busy || tell(`Loading ${percent(data.loaded / data.of)} ...`, "soft busy");
    waiting.get(data.id)(data);
    waiting.delete(data.id);
  };
  tell("Loading ...", "soft busy");
  if (!isSecureContext) document.querySelector("#offline").textContent = INSECURE;
  if (location.hash === "#self-test") selfTest();
}

// What the network is shown, as a picture.
function looked({ pixels, side }) {
  const canvas = make("canvas", { width: side, height: side, role: "img",
    ariaLabel: "the photograph, as the network sees it" });
  const drawn = new ImageData(side, side);
  for (let from = 0, to = 0; from < pixels.length; from += 3, to += 4) {
    drawn.data.set([pixels[from], pixels[from + 1], pixels[from + 2], 255], to);
  }
  canvas.getContext("2d").putImageData(drawn, 0, 0);
  return canvas;
}

function agreed(agree, members) {
  if (members === 1) return "";
  if (agree === members) return ` All ${members} networks say so.`;
  return ` ${agree || "None"} of ${members} networks ${agree === 1 ? "says" : "say"} so by itself.`;
}

function answered(found) {
  const sure = about.sure[found.sure];
  const classes = found.classes.map(({ number: c, probability }) =>
    ({ name: about.names[c], probability, examples: examples[c] ?? [] }));
  const words = sure.words + agreed(found.agree, about.members);
  return verdict({ classes, sure: { ...sure, words } }, looked(found), "as the network sees it");
}

async function ask(file) {
  if (!worker) return;
  if (!file) return tell("That was no file: choose, drop or paste a photograph itself.", "stops");
  busy = true;
  shown.hidden = true;
  tell(`Looking at ${file.name} ...`, "soft busy");
  const asked = sent({ file }), mine = number;
  const { found, error } = await asked;
  if (mine !== number) return; // another one was asked for meanwhile
  if (error) return tell(`${file.name}: ${error}`, "stops");
  shown.replaceChildren(answered(found));
  shown.hidden = false;
  tell(file.name);
  shown.querySelector("h2").focus();
}

async function selfTest() {
  place.hidden = false;
  place.textContent = "self-test: running";
  const { found, error } = await sent({ test: true });
  if (error) return place.textContent = `self-test: failed, ${error}`;
  const { count, difference, within } = found;
  const good = difference < within ? "ok" : "failed";
  place.textContent = `self-test: ${good} ${count}, largest difference ${difference.toExponential(1)}`;
}
window.addEventListener("hashchange", () => {
  if (worker && location.hash === "#self-test") selfTest();
});
begin();
