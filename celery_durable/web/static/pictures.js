// Opens and closes the folds of a run's pictures in place. Without it they are links, and the page is
// loaded again with the fold open.
"use strict";

let asked = 0;
let shown = location.search.slice(1);

const pictures = () => document.querySelectorAll("[data-pictures]");

// Have the pictures show what `query` says is open. What has the focus keeps it.
async function draw(query) {
  const number = ++asked;
  const answer = await fetch(`${pictures()[0].dataset.pictures}?${query}`, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) throw new Error(answer.status);
  const made = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (asked !== number) return; // a later one is on its way
  shown = query;
  const fold = document.activeElement?.dataset?.fold;
  for (const picture of pictures()) {
    picture.replaceChildren(...made.getElementById(picture.id).childNodes);
    picture.querySelector(`[data-fold="${CSS.escape(fold ?? "")}"]`)?.focus({ preventScroll: true });
  }
}

// From now on the pictures are drawn here: `data-loaded` keeps a live page from changing what is in
// them, and a change of `data-mark` says that the run has changed.
function take() {
  for (const picture of pictures()) {
    if ("loaded" in picture.dataset) continue;
    picture.dataset.loaded = "";
    new MutationObserver(() => draw(shown).catch(() => {}))
      .observe(picture, { attributeFilter: ["data-mark"] });
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
if (shown && pictures().length) take();
