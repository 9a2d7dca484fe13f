// What pages with a place for a photograph share; `ask` answers for a file, or for none.
const drop = document.querySelector(".drop"), input = drop.querySelector("input");
const told = document.querySelector(".told"), shown = document.querySelector("#shown");

function make(tag, properties, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}
const soft = (...inside) => make("span", { className: "soft" }, ...inside);
// As the templates have it: best broken between its words.
const name = text => make("bdi", { className: "name" },
  ...text.split(/(?<=[_/])/).flatMap((part, n) => (n ? [make("wbr", {}), part] : [part])));
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

// The likeliest classes beside the picture that they were found in; sure: {level, badge, words}.
function verdict({ classes, sure }, picture, words) {
  return make("section", { className: "answer" },
    figure(picture, soft(words)),
    make("div", {},
      make("div", { className: "heading" },
        make("h2", { tabIndex: -1 }, name(classes[0].name)),
        ...(sure.badge ? [make("span", { className: `badge ${sure.level}` }, sure.badge)] : [])),
      make("p", { className: "soft" }, sure.words),
      ...(classes[0].nearest ? [make("p", { className: "soft" }, "Beside each class: its " +
        "training photographs that look most like this one to the members.")] : []),
      make("ol", { className: "named" }, ...classes.map(candidate))));
}

input.addEventListener("change", () => { ask(input.files[0]); input.value = ""; });
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
