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
  drop.parentElement.hidden = true;
}

// The worker's answer, once it has one: {found} or {error}.
const sent = message => new Promise(done => {
  waiting.set(++number, done);
  worker.postMessage({ id: number, ...message });
});

async function ready({ threads, known, pictures }) {
  [about, examples] = [known, pictures];
  know(about.names, examples);
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

// The photograph, darker outside of a frame around what the network sees of it.
function looked({ small, frame: { left, top, right, bottom }, whole }) {
  const { width, height } = small;
  const canvas = make("canvas", { width, height, role: "img", ariaLabel: "the photograph" });
  const drawn = canvas.getContext("2d");
  drawn.drawImage(small, 0, 0);
  if (whole) return canvas;
  const outside = new Path2D();
  outside.rect(0, 0, width, height);
  outside.rect(left, top, right - left, bottom - top);
  drawn.fillStyle = "rgb(0 0 0 / 55%)";
  drawn.fill(outside, "evenodd");
  ["#ffffff", "#1d1f21"].forEach((colour, out) => {
    drawn.strokeStyle = colour;
    drawn.strokeRect(left + 0.5 - out, top + 0.5 - out, right - left - 1 + 2 * out,
      bottom - top - 1 + 2 * out);
  });
  return canvas;
}

// What of an answer that climbs is shown, see `coarsely`.
function climbed(found) {
  if (!found.climbed || found.climbed.level === 0 || found.sure === "sure") return null;
  const { level, group, probability } = found.climbed, { names, levels } = about.families;
  return { name: names[level]?.[group] ?? "", level: levels[level] ?? "", probability };
}

function answered(found) {
  const strange = about.novelty && found.typicality <= about.novelty.unusual;
  const sure = about.sure[strange ? "strange" : found.sure];
  const classes = found.classes.map(({ number: c, probability, nearest }) => ({
    name: about.names[c], probability, nearest: nearest.length > 0,
    examples: nearest.length ? nearest : examples[c] ?? [],
  }));
  const many = Math.round(1 / found.typicality);
  const words = sure.words.replace("{many}", many) + agreed(found.agree, about.members);
  return { classes, sure: { ...sure, words }, coarser: climbed(found) };
}

// Ask the worker, and show the answer; `what` is asked about, `say` what is told of the answer.
async function look(file, what, say) {
  busy = true;
  shown.hidden = true;
  tell(`Looking at ${what} ...`, "soft busy");
  const asked = sent({ file }), mine = number;
  const { found, error } = await asked;
  if (mine !== number) return; // another one was asked for meanwhile
  if (error) return tell(`${what}: ${error}`, "stops");
  const answer = answered(found);
  shown.replaceChildren(verdict(answer, looked(found), found.whole));
  shown.hidden = false;
  tell(say(answer));
  shown.querySelector("h2").focus();
}

function ask(file) {
  if (!worker) return;
  if (!file) return tell("That was no file: choose, drop or paste a photograph itself.", "stops");
  look(file, file.name, () => file.name);
}

function askKept(_, title, src) {
  const bytes = Uint8Array.from(atob(src.split(",")[1]), letter => letter.charCodeAt());
  look(new Blob([bytes]), ofKept(title), answer => judged(title, answer));
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
