const SILENT = "The program does not answer: is it still running?";
let asking = null;

function seen({ classes, members, agreement, sure, image: src, whole }) {
  const many = agreed(Math.round(agreement * members.length), members.length);
  return verdict({ classes, sure: { ...sure, words: sure.words + many } },
    image(src, "the photograph"), whole);
}

function looks({ members }) {
  const view = ({ number, says, probability, attention, evidence }) => make("div", {},
    ...(members.length > 1 ? [make("p", {}, `Network ${number} says `, name(says), " ",
      soft(chance(probability)))] : []),
    make("div", { className: "maps" },
      figure(image(attention, `where network ${number} looks`), soft("where it looks")),
      figure(image(evidence, `what speaks to network ${number} for the first class`),
        soft("what speaks for the first class"))));
  return make("section", {},
    make("h2", {}, members.length > 1 ? "What the networks see" : "What the network sees"),
    make("p", { className: "soft" }, "The stronger the colour, the more a place counts; the white " +
      "line is around what counts more than half as much as the strongest place."),
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
      figure(image(why.evidence, `what speaks for ${first}`), "for ", name(first)),
      figure(image(why.contrast, `what speaks for ${first} rather than ${why.against}`),
        "for ", name(first), " rather than ", name(why.against))));
}

// Send a question, and show the answer; `what` is asked about, `say` what is told of the answer.
async function send(address, body, what, say) {
  asking?.abort();
  const mine = asking = new AbortController();
  shown.hidden = true;
  tell(`Looking at ${what} ...`, "soft busy");
  try {
    const response = await fetch(address, { method: "POST", body, signal: mine.signal });
    const answer = await response.json();
    if (answer.error) return tell(`${what}: ${answer.error}`, "stops");
    shown.replaceChildren(seen(answer), looks(answer), comparison(answer));
    shown.hidden = false;
    tell(say(answer));
    shown.querySelector("h2").focus();
  } catch (error) {
    if (!mine.signal.aborted) tell(SILENT, "stops");
  }
}

function ask(file) {
  if (!file) return tell("That was no file: choose, drop or paste a photograph itself.", "stops");
  if (file.size <= Number(drop.dataset.most)) return send("answer", file, file.name, () => file.name);
  asking?.abort();
  shown.hidden = true;
  tell(drop.dataset.large, "stops");
}

const askKept = (number, title) =>
  send(`kept/${number}`, undefined, ofKept(title), answer => judged(title, answer));

fetch("known").then(response => response.json())
  .then(({ names, pictures }) => know(names, pictures), () => tell(SILENT, "stops"));
