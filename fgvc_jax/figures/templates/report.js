const search = document.querySelector(".search"), box = search.querySelector("input");
const told = search.querySelector("output");
const items = [...document.querySelectorAll("[data-item]")]
  .map(element => [element, element.textContent.toLowerCase()]);
const folded = [...document.querySelectorAll("details:has([data-item])")];
search.hidden = false;
function filter() {
  const wanted = box.value.trim().toLowerCase();
  let shown = 0;
  for (const [element, text] of items) {
    element.hidden = !text.includes(wanted);
    shown += !element.hidden;
  }
  for (const element of folded) element.open = wanted !== "";
  told.value = wanted && `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
}
let waiting;
box.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 80); });
box.addEventListener("keydown", event => {
  if (event.key === "Escape") { box.value = ""; filter(); }
});
// A thumbnail that is clicked is shown as large as it is kept, with all of its words.
const large = document.createElement("dialog");
document.body.append(large);
large.addEventListener("click", () => large.close());
document.addEventListener("click", event => {
  const figure = event.target.matches("figure img") && event.target.closest("figure");
  if (!figure || large.contains(figure)) return;
  const copy = figure.cloneNode(true);
  for (const span of copy.querySelectorAll(".clamp")) span.classList.remove("clamp");
  large.replaceChildren(copy);
  large.showModal();
});
for (const button of document.querySelectorAll("button.copy")) {
  if (!navigator.clipboard) continue;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "copied";
  });
}
