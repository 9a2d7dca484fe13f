"""The page of `python -m fgvc_jax.demo`: a place for a photograph, and the script that has it
answered. What the answer says is put on the page as text, never as HTML."""

from fgvc_jax.figures.page import escape, name, page

STYLE = """
[hidden] { display: none !important; }
.drop { display: block; margin-top: 1.25rem; padding: 1.6rem 1.25rem; text-align: center;
  border: 2px dashed var(--soft); border-radius: 12px; background: var(--card); cursor: pointer; }
.drop:hover, .drop.over { border-color: var(--accent); }
.drop:focus-within { outline: 2px solid var(--accent); outline-offset: 2px; }
.drop input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.drop u { color: var(--accent); text-underline-offset: .15em; }
.told { min-height: 1.5em; margin-top: .8rem; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.busy::before { content: ""; display: inline-block; width: .85em; height: .85em;
  border: 2px solid var(--line); border-top-color: var(--accent); border-radius: 50%;
  margin-right: .5em; vertical-align: -.08em; animation: turn 1s linear infinite; }
@keyframes turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .busy::before { animation: none; } }
figure { width: auto; } figure img { height: auto; aspect-ratio: 1; object-fit: cover; }
.answer { display: grid; grid-template-columns: minmax(0, 18rem) minmax(0, 1fr); gap: 1.5rem; }
.answer h2 { font-size: 1.4rem; }
.answer h2:focus { outline: none; }
.named { list-style: none; margin: 1rem 0 0; padding: 0; }
.named li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: .3rem 1rem;
  padding: .6rem 0; border-top: 1px solid var(--line); align-items: center; }
.said { display: flex; justify-content: space-between; gap: .8rem; align-items: baseline; }
.said .soft { font-variant-numeric: tabular-nums; white-space: nowrap; }
.meter { height: .5rem; border-radius: 3px; background: var(--line); overflow: hidden;
  margin-top: .35rem; } .meter i { display: block; height: 100%; background: var(--accent); }
.examples { display: flex; gap: .35rem; }
.examples img { width: 3.5rem; height: 3.5rem; object-fit: cover; border-radius: 6px; }
.views { display: grid; gap: 1.2rem 1.6rem; margin-top: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
.views p { margin: 0 0 .4rem; } .maps { display: flex; gap: .6rem; margin-top: .6rem; }
.maps figure { flex: 1 1 0; min-width: 0; max-width: 15rem; }
@media (max-width: 34rem) { .answer { grid-template-columns: minmax(0, 1fr); gap: 1rem; }
  .examples img { width: 3rem; height: 3rem; } .examples img:nth-child(3) { display: none; }
  .drop { padding: 1.2rem .8rem; } }
"""

SCRIPT = """
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

function candidate({ name: title, probability, examples }) {
  const bar = make("i", {});
  bar.style.width = percent(probability);
  return make("li", {},
    make("div", {},
      make("div", { className: "said" }, name(title), soft(percent(probability))),
      make("div", { className: "meter", ariaHidden: "true" }, bar)),
    make("div", { className: "examples" },
      ...examples.map(src => make("img", { src, alt: `an image of ${title}` }))));
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
"""


def demo_page(workdir: str, classes: int, *, members: int, most_bytes: int) -> str:
    """The page as HTML.

    Args:
        workdir: what answers, as typed.
        classes: number of them that it knows.
        members: number of them.
        most_bytes: of a photograph that is sent.
    """
    who = f"{members} members" if members > 1 else "One network"
    large = f"The file has more than {most_bytes / 2**20:.0f} MiB: make it smaller."
    body = [
        "<header><h1>Which class is it?</h1>",
        f'<p class="soft">{who} of {name(workdir)}, trained on {classes:,} classes. '
        "Anything else is named like what it resembles, and may look sure.</p></header>",
        f'<label class="drop" data-most="{most_bytes}" data-large="{escape(large)}">'
        '<input type="file" accept="image/*"><b>Drop a photograph here</b>, paste one, or '
        "<u>choose a file</u>.<br>"
        '<span class="soft">It goes to the program on this address only, and is not stored.'
        "</span></label>",
        '<p class="told soft" role="status"></p>',
        '<div id="shown" hidden></div>',
        "<noscript><p>This page needs JavaScript, of its own only.</p></noscript>",
    ]
    return page(
        f"Ask {workdir}",
        "\n".join(body),
        style=STYLE,
        script=SCRIPT,
        connect="'self'",
    )


def sureness(unsure: bool | None, risk: float) -> dict[str, str]:
    """How sure an answer is, in words: {"level": a class of the page's style, "badge", "words"}.

    Args:
        unsure: whether it is to be left out to err on at most `risk`; None: not known.
        risk: share of answers.
    """
    level, badge, words = {
        None: ("note", "", "Whether it is sure is not known without a validation part."),
        True: ("look", "unsure", f"More than {100 * risk:.3g}% of answers like this may be wrong."),
        False: ("fine", "sure", f"At most {100 * risk:.3g}% of answers like this are wrong."),
    }[unsure]
    return {"level": level, "badge": badge, "words": words}
