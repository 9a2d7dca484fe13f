const SILENT = "The program does not answer: is it still running?";
let asking = null;

function seen({ classes, members, agreement, sure, coarser, image: src, whole }) {
  const many = agreed(Math.round(agreement * members.length), members.length);
  return verdict({ classes, sure: { ...sure, words: sure.words + many }, coarser },
    image(src, "the photograph"), whole);
}

const map = (src, alt, ...caption) => figure(image(src, alt), ...caption);

function looks({ classes, members, why }) {
  const view = ({ number, says, probability, attention, evidence }) => {
    const alone = members.length === 1, who = alone ? "the network" : `network ${number}`;
    const said = alone ? [] : [make("p", {}, `Network ${number} says `, name(says), " ",
      soft(chance(probability)))];
    return make("div", {}, ...said, make("div", { className: "maps" },
      map(attention, `where ${who} looks`, soft("where it looks")),
      map(evidence, `what speaks to ${who} for ${classes[0].name}`,
        soft("what speaks for "), name(classes[0].name)),
      ...(alone && why ? [rather(classes, why)] : [])));
  };
  return make("section", {},
    make("h2", {}, members.length > 1 ? "What the networks see" : "What the network sees"),
    make("p", { className: "soft" }, "The stronger the colour, the more a place counts; the white " +
      "line is around what counts more than half as much as the strongest place."),
    make("div", { className: "views" }, ...members.map(view)));
}

const rather = ([{ name: first }], { against, contrast }) =>
  map(contrast, `what speaks for ${first} rather than ${against}`,
    soft("for "), name(first), soft(" rather than "), name(against));

// Of one network it stands beside what it sees.
function comparison({ classes, members, why }) {
  if (!why || members.length === 1) return "";
  const first = classes[0].name;
  return make("section", {},
    make("h2", {}, "Why not ", name(why.against), "?"),
    make("p", { className: "soft" }, "On the right, only what speaks for the one more than for " +
      "the other."),
    make("div", { className: "maps" },
      map(why.evidence, `what speaks for ${first}`, soft("for "), name(first)),
      rather(classes, why)));
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
