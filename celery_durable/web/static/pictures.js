// Opens and closes the folds of a run's pictures in place. Without it they are links, and the page is
// loaded again with the fold open.
"use strict";

let asked = 0;
let shown = location.search.slice(1);

const pictures = () => document.querySelectorAll("[data-pictures]");

// Have the pictures show what `query` says is open. What has the focus keeps it.
async function draw(query) {
  const number = ++asked;
  shown = query; // a change of the run that comes meanwhile shows that, too
  const answer = await fetch(`${pictures()[0].dataset.pictures}?${query}`, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) throw new Error(answer.status);
  const made = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (asked !== number) return; // a later one is on its way
  localTimes(made);
  const fold = document.activeElement?.dataset?.fold;
  for (const picture of pictures()) {
    morph(picture, made.getElementById(picture.id));
    picture.querySelector(`[data-fold="${CSS.escape(fold ?? "")}"]`)?.focus({ preventScroll: true });
  }
}

const changes = new MutationObserver(() => draw(shown).catch(() => {}));

// From now on the pictures are drawn here: `data-loaded` keeps a live page from changing what is in
// them, and a change of `data-mark` says that the run has changed.
function take() {
  for (const picture of pictures()) {
    if ("loaded" in picture.dataset) continue;
    picture.dataset.loaded = "";
    changes.observe(picture, { attributeFilter: ["data-mark"] });
  }
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-fold]");
  if (!link?.closest("[data-pictures]") || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const address = new URL(link.getAttribute("href"), location.href);
  take();
  try {
    await draw(address.search.slice(1));
    history.replaceState(null, "", address);
  } catch {
    location.assign(address);
  }
});

// A picture that is wider than its box is shown around the node that matters, or around its middle.
function look(picture) {
  const node = picture.querySelector(".moves, .waiting, .failed")?.getBoundingClientRect();
  const box = picture.getBoundingClientRect();
  const middle = node ? node.x + node.width / 2 - box.x : picture.scrollWidth / 2;
  picture.scrollLeft = middle - box.width / 2;
}

const graph = document.getElementById("graph-picture");
if (graph) look(graph);

// Of a timeline, bars are seen in half of its box at least, however wide the names before them are.
const timeline = document.getElementById("timeline-picture");
const axis = timeline?.querySelector(".tick")?.getBoundingClientRect();
if (axis) timeline.scrollLeft = axis.x - timeline.getBoundingClientRect().x - timeline.clientWidth / 2;
if (shown && pictures().length) take();
