// Shows what fits the form and hides the rest, says how much is left, and keeps the choice in the address.
const form = document.querySelector("form.catalogue-filter");
const menus = [...form.querySelectorAll("select")];
const records = [...document.querySelectorAll("[data-entry]")];
const groups = [...document.querySelectorAll("[data-group]")];
const contents = [...document.querySelectorAll(".bd-sidebar-secondary a[href^='#']")];

// A loss may stand in several tables.
const count = (some) => new Set(some.map((record) => record.dataset.entry)).size;
const chosen = () => menus.filter((menu) => menu.value).map((menu) => [menu.name, menu.value]);
const fits = (record, choice) =>
  choice.every(([name, value]) => record.getAttribute(`data-${name}`).split(" ").includes(value));

// An answer that would leave nothing beside those of the other menus cannot be picked.
function offer(menu) {
  const others = chosen().filter(([name]) => name !== menu.name);
  for (const option of menu.options) {
    const choice = option.value ? [...others, [menu.name, option.value]] : [];
    option.disabled = !records.some((record) => fits(record, choice));
  }
}

function show() {
  const choice = chosen();
  for (const record of records) record.hidden = !fits(record, choice);
  for (const group of groups) group.hidden = !group.querySelector("[data-entry]:not([hidden])");
  for (const link of contents) {
    link.parentElement.hidden = Boolean(document.getElementById(link.hash.slice(1))?.closest("[hidden]"));
  }
  menus.forEach(offer);
  const [left, all] = [count(records.filter((record) => !record.hidden)), count(records)];
  form.querySelector("[role=status]").textContent =
    left === all ? `All ${all} are shown.`
    : left ? `${left} of ${all} ${left === 1 ? "is" : "are"} shown.`
    : "No loss that this course knows fits all of this: set one of the menus back to any.";
}

function keep() {
  show();
  const choice = new URLSearchParams(chosen()).toString();
  history.replaceState(null, "", choice ? `#${choice}` : location.pathname + location.search);
}

// The address holds a choice, robust=yes&convex=no, or names a place of the page, which must then be visible.
function restore() {
  const address = location.hash.slice(1);
  const place = document.getElementById(address);
  if (place && !place.closest("[hidden]")) return;
  const choice = new URLSearchParams(place ? "" : address);
  for (const menu of menus) {
    const value = choice.get(menu.name) ?? "";
    menu.value = [...menu.options].some((option) => option.value === value) ? value : "";
  }
  show();
  place?.scrollIntoView();
}

form.addEventListener("input", keep);
form.addEventListener("submit", (event) => event.preventDefault());
form.querySelector("button").addEventListener("click", () => {
  form.reset();
  keep();
});
window.addEventListener("hashchange", restore);
restore();
