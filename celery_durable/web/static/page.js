// What a page does beyond HTML: times in the viewer's zone, and what is live. Without it all else works.
"use strict";

const shortTime = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const longTime = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "2-digit",
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

// How long ago a time is, in its largest unit: as `coarse` of celery_durable.view.formatting.
function coarse(milliseconds) {
  const seconds = Math.abs(milliseconds) / 1000;
  for (const [unit, letter] of [[86400, "d"], [3600, "h"], [60, "m"]]) {
    if (seconds >= unit) return Math.floor(seconds / unit) + letter;
  }
  return Math.floor(seconds) + "s";
}

// A duration in its two largest units: as `span` of celery_durable.view.formatting, in whole seconds.
function span(milliseconds) {
  const seconds = Math.floor(Math.max(milliseconds, 0) / 1000);
  const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  const two = (number) => String(number).padStart(2, "0");
  if (days) return `${days}d ${hours % 24}h`;
  if (hours) return `${hours}h ${two(minutes % 60)}m`;
  return minutes ? `${minutes}m ${two(seconds % 60)}s` : `${seconds}s`;
}

// How far the clock of the page's server is ahead of the viewer's.
const [{ responseStart }] = performance.getEntriesByType("navigation");
const ahead = new Date(document.documentElement.dataset.now) - performance.timeOrigin - responseStart;

// Show every <time datetime> below `root` in the viewer's zone, without the date if it is today; one
// with `data-ago` says how long ago that is. What has `data-since` in a picture says it too, and what
// has `data-until`, how far off that is.
function localTimes(root) {
  const today = new Date().toDateString();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const text = "ago" in element.dataset ? coarse(Date.now() + ahead - at)
      : (at.toDateString() === today ? shortTime : longTime).format(at);
    if (element.textContent !== text) element.textContent = text;
    element.title = fullTime.format(at);
  }
  const now = Date.now() + ahead;
  for (const element of root.querySelectorAll("[data-since], [data-until]")) {
    const { since, until } = element.dataset;
    const text = span(since ? now - new Date(since) : new Date(until) - now);
    if (element.textContent !== text) element.textContent = text;
  }
}

// A form is left alone while it is being filled in.
function isFilledIn(form) {
  return form.contains(document.activeElement) || [...form.elements].some(isChanged);
}

function isChanged(field) {
  if (field.type === "checkbox" || field.type === "radio") return field.checked !== field.defaultChecked;
  if (field.nodeName === "SELECT") {
    const chosen = [...field.options].findIndex((one) => one.defaultSelected);
    return field.selectedIndex !== Math.max(chosen, 0);
  }
  return field.defaultValue !== undefined && field.value !== field.defaultValue;
}

// What a viewer has done to an element, or a script: it stays as it is.
const OWN = { DETAILS: ["open"], DIALOG: ["open"], TIME: ["title"] };

// Change the children of `old` into those of `new_`: elements that stay are kept, and with them what
// is open, scrolled to, selected or has the focus. One that were moved would lose the focus.
function morph(old, new_) {
  const known = new Map([...old.children].filter((one) => one.id).map((one) => [one.id, one]));
  const wanted = new Set([...new_.children].map((one) => one.id).filter(Boolean));
  let at = old.firstChild;
  for (const made of [...new_.childNodes]) {
    let same = made.id ? known.get(made.id) : at;
    if (same && (same.nodeName !== made.nodeName || (same.id || "") !== (made.id || ""))) same = null;
    if (!same) {
      old.insertBefore(made, at);
      continue;
    }
    while (at && at !== same && !wanted.has(at.id)) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    if (same.nodeType !== Node.ELEMENT_NODE) {
      if (same.data !== made.data) same.data = made.data;
    } else if (!same.isEqualNode(made)) become(same, made);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function become(old, made) {
  if (old.nodeName === "FORM" && isFilledIn(old)) return;
  const own = OWN[old.nodeName] || [];
  for (const { name } of [...old.attributes]) {
    if (!made.hasAttribute(name) && !own.includes(name) && name !== "data-loaded") old.removeAttribute(name);
  }
  for (const { name, value } of [...made.attributes]) {
    if (old.getAttribute(name) !== value && !own.includes(name)) old.setAttribute(name, value);
  }
  if ("loaded" in old.dataset) {
    const summary = old.querySelector(":scope > summary");
    if (summary) morph(summary, made.querySelector(":scope > summary"));
  } else morph(old, made);
}

function show(element, html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  localTimes(made.content);
  morph(element, made.content);
  lazy(element);
}

// Load what an element with `data-src` shows: at once, or each time that a <details> is opened.
function lazy(root) {
  for (const element of root.querySelectorAll("[data-src]:not([data-lazy])")) {
    element.dataset.lazy = "";
    if (element.nodeName !== "DETAILS") load(element);
    else element.addEventListener("toggle", () => element.open && load(element));
  }
}

async function load(element) {
  const summary = element.querySelector(":scope > summary");
  const body = document.createElement("div");
  try {
    const answer = await fetch(element.dataset.src, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) throw new Error(answer.status);
    body.innerHTML = await answer.text();
  } catch {
    body.innerHTML = "<p>It could not be loaded. Reload the page.</p>";
  }
  localTimes(body);
  element.dataset.loaded = "";
  for (const one of [...element.childNodes]) if (one !== summary) one.remove();
  element.append(body);
}

const RETRY_AFTER = 30000; // when the server takes no more streams, or answers with an error

// Follow the events of `data-live`: see celery_durable/web/live.py. A page that nobody sees follows
// nothing: browsers open six connections to one host, in all of their tabs.
function follow(element) {
  let source = null;
  let timer = 0;
  let isOver = false;
  const say = (text) => {
    const state = document.getElementById("live");
    if (state && state.textContent !== text) state.textContent = text;
  };
  const stop = (text) => { clearTimeout(timer); source?.close(); source = null; say(text); };
  const begin = () => {
    if (source || isOver || document.hidden) return;
    source = new EventSource(element.dataset.live);
    source.addEventListener("open", () => say("live"));
    source.addEventListener("parts", (event) => { show(element, event.data); say("live"); });
    source.addEventListener("trouble", (event) => say(event.data ? `not live: ${event.data}` : "live"));
    source.addEventListener("again", () => { stop("live"); begin(); });
    source.addEventListener("end", (event) => { isOver = true; stop(event.data); });
    source.addEventListener("error", () => {
      say("not live: reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      stop("not live: reload to see what has changed");
      timer = setTimeout(begin, RETRY_AFTER);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? stop("") : begin()));
  addEventListener("pagehide", () => stop(""));
  addEventListener("pageshow", begin);
  begin();
}

setInterval(() => localTimes(document), 1000);
lazy(document);
localTimes(document);
for (const element of document.querySelectorAll("[data-live]")) follow(element);
