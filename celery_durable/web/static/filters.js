// Filters of lists that a viewer has saved, in this browser.
"use strict";

{
  const KEY = "durable.filters " + document.querySelector("form.filters").getAttribute("action");
  const list = document.getElementById("saved");
  const form = document.getElementById("save");

  function saved() {
    try {
      const found = JSON.parse(localStorage.getItem(KEY));
      return Array.isArray(found) ? found.filter((one) => one.name && typeof one.query === "string") : [];
    } catch {
      return [];
    }
  }

  function keep(filters) {
    localStorage.setItem(KEY, JSON.stringify(filters));
    draw();
  }

  function draw() {
    const filters = saved();
    list.hidden = filters.length === 0;
    list.replaceChildren(...filters.map((one) => {
      const item = document.createElement("span");
      item.className = "row";
      const link = document.createElement("a");
      link.className = "button";
      link.href = "?" + one.query;
      link.textContent = one.name;
      if (one.query === list.dataset.query) link.setAttribute("aria-current", "true");
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "link";
      remove.textContent = "Remove";
      remove.setAttribute("aria-label", `Remove ${one.name}`);
      remove.addEventListener("click", () => {
        keep(saved().filter((other) => other.name !== one.name));
        document.getElementById("filters").querySelector("summary").focus();
      });
      item.append(link, remove);
      return item;
    }));
  }

  form.hidden = !list.dataset.query;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = document.getElementById("save-name").value.trim();
    if (!name) return;
    keep([...saved().filter((one) => one.name !== name), { name, query: list.dataset.query }]);
    form.reset();
  });
  draw();
}
