// What pages with a place for a photograph share; `ask` answers for a file, or for none, `askKept`
// for the photograph of a class that is shown before any question: its number, name and address.
const SOME = 12, FEW = 18; // classes that are shown of many, and that all are of less
const LEAST = 2, NOTHING = 0.01; // classes that an answer names at least; a probability that is none
const drop = document.querySelector(".drop");
const told = document.querySelector(".told"), shown = document.querySelector("#shown");

function make(tag, properties, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}
const soft = (...inside) => make("span", { className: "soft" }, ...inside);
// As the templates have it: best broken between its words.
const name = text => make("bdi", { className: "name" },
  ...text.split(/(?<=[_/]|^\d+\.)/).flatMap((part, n) => (n ? [make("wbr", {}), part] : [part])));
const percent = share => `${(100 * share).toFixed(1)}%`;
const chance = share =>
  (share < 0.0005 ? "under 0.1%" : share < 0.9995 ? percent(share) : "over 99.9%");
const image = (src, alt) => make("img", { src, alt });
const figure = (picture, ...caption) =>
  make("figure", {}, picture, make("figcaption", {}, ...caption));

function tell(words, kind = "soft") {
  told.textContent = words;
  told.className = `told ${kind}`;
}

function candidate({ name: title, probability, nearest, examples }) {
  const what = nearest ? "a training photograph" : "an image";
  const bar = make("i", {});
  bar.style.width = percent(probability);
  return make("li", {},
    make("div", {},
      make("div", { className: "said" }, name(title), soft(chance(probability))),
      make("div", { className: "meter", ariaHidden: "true" }, bar)),
    make("div", { className: "examples" },
      ...examples.map(src => image(src, `${what} of ${title}`))));
}

function agreed(agree, members) {
  if (members === 1) return "";
  if (agree === members) return ` All ${members} networks say so.`;
  return ` ${agree || "None"} of ${members} networks ${agree === 1 ? "says" : "say"} so by itself.`;
}

// What is safe to say where the class is not: {name, level, probability}, without a name where
// nothing is; nothing where the class is safe, or no families are known.
function coarsely(coarser) {
  if (!coarser) return [];
  const { name: title, level, probability } = coarser;
  return [make("p", { className: "coarser" }, ...(title ?
    [`Safe to say by ${level}: `, make("b", {}, name(title)), " ", soft(chance(probability))] :
    [soft("Nor is it safe to say of which larger group it is.")]))];
}

// The likeliest classes beside the photograph that they were found in, whole or with a frame around
// what is seen of it; sure: {level, badge, words, about}; coarser: see `coarsely`.
function verdict({ classes, sure, coarser }, picture, whole) {
  return make("section", { className: "answer" },
    figure(picture, soft(whole ? "All of it is looked at." :
      "Only what is inside of the frame is looked at.")),
    make("div", {},
      make("div", { className: "heading" },
        make("h2", { tabIndex: -1 }, name(classes[0].name)),
        ...(sure.badge ? [make("span",
          { className: `badge ${sure.level}`, title: sure.about ?? "" }, sure.badge)] : [])),
      make("p", { className: "soft" }, sure.words),
      ...coarsely(coarser),
      ...(classes[0].nearest ? [make("p", { className: "soft" }, "Beside each class: its " +
        "training photographs that look most like this one to the network.")] : []),
      make("ol", { className: "named" }, ...classes
        .filter(({ probability }, n) => n < LEAST || probability >= NOTHING).map(candidate))));
}

const ofKept = title => `a test photograph of ${title}`;
const judged = (title, { classes }) => `A test photograph of ${title}: ` +
  (classes[0].name === title ? "named rightly." : "taken for another one.");

function kind(number, title, src) {
  if (!src) return make("li", {}, name(title));
  const button = make("button", { type: "button", ariaLabel: `Ask about ${ofKept(title)}` },
    image(src, ofKept(title)), name(title));
  button.addEventListener("click", () => askKept(number, title, src));
  return make("li", {}, button);
}

// What is shown before any question: some classes, at even distances, and all of them in a fold.
function know(names, pictures) {
  const known = document.querySelector("#known"), fold = known.querySelector("details");
  const [some, all] = known.querySelectorAll("ul"), find = known.querySelector("[type=search]");
  const made = number => kind(number, names[number], pictures[number]?.[0]);
  const pictured = [...names.keys()].filter(number => pictures[number]?.length);
  const count = pictured.length > FEW ? SOME : pictured.length;
  some.replaceChildren(...Array.from({ length: count }, (_, n) =>
    made(pictured[Math.floor(n * pictured.length / count)])));
  some.parentElement.hidden = !count;
  all.replaceChildren(...[...names.keys()].map(made));
  all.classList.toggle("plain", !count);
  fold.hidden = count === names.length;
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    names.forEach((title, n) => {
      all.children[n].hidden = !title.toLowerCase().includes(wanted);
    });
  });
  known.hidden = false;
}

for (const input of document.querySelectorAll("[type=file]")) {
  input.addEventListener("change", () => { ask(input.files[0]); input.value = ""; });
}
document.addEventListener("paste", event => ask(event.clipboardData.files[0]));
document.addEventListener("dragover", event => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  ask(event.dataTransfer.files[0]);
});
