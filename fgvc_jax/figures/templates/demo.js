const drop = document.querySelector(".drop"), input = drop.querySelector("input");
const told = document.querySelector(".told"), shown = document.querySelector("#shown");
let asking = null;

function make(tag, properties, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside);
  return element;
}
const soft = (...inside) => make("span", { className: "soft" }, ...inside);
const name = text => make("bdi", { className: "name" }, text);
const percent = share => `${(100 * share).toFixed(1)}%`;
const figure = (src, alt, ...caption) =>
  make("figure", {}, make("img", { src, alt }), make("figcaption", {}, ...caption));

function tell(words, kind = "soft") {
  told.textContent = words;
  told.className = `told ${kind}`;
}

function candidate({ name: title, probability, nearest, examples }) {
  const bar = make("i", {});
  bar.style.width = percent(probability);
  return make("li", {},
    make("div", {},
      make("div", { className: "said" }, name(title), soft(percent(probability))),
      make("div", { className: "meter", ariaHidden: "true" }, bar)),
    make("div", { className: "examples" },
      ...examples.map(src => make("img",
        { src, alt: `${nearest ? "a training photograph" : "an image"} of ${title}` }))));
}

function verdict({ classes, members, agreement, sure, image }) {
  const agree = Math.round(agreement * members.length);
  const many = members.length > 1 ? ` Members that say so: ${agree} of ${members.length}.` : "";
  return make("section", { className: "answer" },
    figure(image, "the photograph, as the members see it", soft("as the members see it")),
    make("div", {},
      make("div", { className: "heading" },
        make("h2", { tabIndex: -1 }, name(classes[0].name)),
        ...(sure.badge ? [make("span", { className: `badge ${sure.level}` }, sure.badge)] : [])),
      make("p", { className: "soft" }, sure.words + many),
      ...(classes[0].nearest ? [make("p", { className: "soft" }, "Beside each class: its " +
        "training photographs that look most like this one to the members.")] : []),
      make("ol", { className: "named" }, ...classes.map(candidate))));
}

function looks({ members }) {
  const view = ({ number, says, probability, attention, evidence }) => make("div", {},
    make("p", {}, `Member ${number} says `, name(says), " ", soft(percent(probability))),
    make("div", { className: "maps" },
      figure(attention, `where member ${number} looks`, soft("where it looks")),
      figure(evidence, `what speaks to member ${number} for the first class`,
        soft("what speaks for the first class"))));
  return make("section", {},
    make("h2", {}, members.length > 1 ? "What the members see" : "What the network sees"),
    make("p", { className: "soft" }, "Coloured is what counts; outlined, what counts more than " +
      "half as much as the most."),
    make("div", { className: "views" }, ...members.map(view)));
}

function comparison({ classes, why }) {
  if (!why) return "";
  const first = classes[0].name;
  return make("section", {},
    make("h2", {}, "Why not ", name(why.against), "?"),
    make("p", { className: "soft" }, "On the right, only what speaks for the one more than for " +
      "the other."),
    make("div", { className: "maps" },
      figure(why.evidence, `what speaks for ${first}`, "for ", name(first)),
      figure(why.contrast, `what speaks for ${first} rather than ${why.against}`,
        "for ", name(first), " rather than ", name(why.against))));
}

async function ask(file) {
  if (!file) return tell("That was no file: choose, drop or paste a photograph itself.", "stops");
  asking?.abort();
  const mine = asking = new AbortController();
  shown.hidden = true;
  if (file.size > Number(drop.dataset.most)) return tell(drop.dataset.large, "stops");
  tell(`Looking at ${file.name} ...`, "soft busy");
  try {
    const response = await fetch("answer", { method: "POST", body: file, signal: mine.signal });
    const answer = await response.json();
    if (answer.error) return tell(`${file.name}: ${answer.error}`, "stops");
    shown.replaceChildren(verdict(answer), looks(answer), comparison(answer));
    shown.hidden = false;
    tell(file.name);
    shown.querySelector("h2").focus();
  } catch (error) {
    if (!mine.signal.aborted) tell("The program does not answer: is it still running?", "stops");
  }
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
