let asking = null;

function seen({ classes, members, agreement, sure, image: src }) {
  const agree = Math.round(agreement * members.length);
  const many = members.length > 1 ? ` Members that say so: ${agree} of ${members.length}.` : "";
  const picture = image(src, "the photograph, as the members see it");
  return verdict({ classes, sure: { ...sure, words: sure.words + many } }, picture,
    "as the members see it");
}

function looks({ members }) {
  const view = ({ number, says, probability, attention, evidence }) => make("div", {},
    make("p", {}, `Member ${number} says `, name(says), " ", soft(percent(probability))),
    make("div", { className: "maps" },
      figure(image(attention, `where member ${number} looks`), soft("where it looks")),
      figure(image(evidence, `what speaks to member ${number} for the first class`),
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
      figure(image(why.evidence, `what speaks for ${first}`), "for ", name(first)),
      figure(image(why.contrast, `what speaks for ${first} rather than ${why.against}`),
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
    shown.replaceChildren(seen(answer), looks(answer), comparison(answer));
    shown.hidden = false;
    tell(file.name);
    shown.querySelector("h2").focus();
  } catch (error) {
    if (!mine.signal.aborted) tell("The program does not answer: is it still running?", "stops");
  }
}
