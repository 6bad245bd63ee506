// What the pages do beyond plain HTML and htmx: copy, dialogs, theme, clocks, toasts. One listener
// a kind on the document, so that parts htmx brings in later work at once.

const SECOND_MS = 1000;
const UNITS = [["day", 86400], ["h", 3600], ["min", 60], ["s", 1]];
const TOAST_STAYS_MS = 8000;

// A session may outlive its page; a button that spins for ever after "back" is worse than two clicks.
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll(".button[data-sending]")) {
    button.removeAttribute("aria-busy");
    button.removeAttribute("data-sending");
  }
});

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  const opener = on("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens)?.showModal();
  on("[data-closes]")?.closest("dialog")?.close();
  on("[data-dismisses]")?.closest(".notice")?.remove();
  const copier = on("[data-copy]");
  if (copier) copy(copier);
  const theme = on("[data-theme-choice]");
  if (theme) chooseTheme(theme.dataset.themeChoice);
  if (event.target instanceof HTMLDialogElement && event.target.open) closeOutside(event);
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = event.target.closest?.(".menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method === "dialog") return;
  const button = event.submitter;
  if (!button?.matches(".button")) return;
  if (button.hasAttribute("data-sending")) return event.preventDefault();
  button.setAttribute("data-sending", "");
  button.setAttribute("aria-busy", "true");
});

// A form with data-guard: leaving the page with something typed and not sent asks first.
document.addEventListener("input", (event) => {
  event.target.form?.matches("[data-guard]") && event.target.form.setAttribute("data-typed", "");
});
document.addEventListener("submit", (event) => {
  if (!event.defaultPrevented) event.target.removeAttribute("data-typed");
});
addEventListener("beforeunload", (event) => {
  if (document.querySelector("form[data-guard][data-typed]")) event.preventDefault();
});

function closeOutside(event) {
  const box = event.target.getBoundingClientRect();
  const inside = event.clientX >= box.left && event.clientX <= box.right
    && event.clientY >= box.top && event.clientY <= box.bottom;
  // A key press on a button inside reports 0,0 but has the button as its target, not the dialog.
  if (!inside) event.target.close();
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    return toast("Could not copy: the browser refused. Select the text instead.", "stopped");
  }
  button.setAttribute("data-copied", "");
  announce("Copied");
  setTimeout(() => button.removeAttribute("data-copied"), 1500);
}

function announce(text) {
  const place = document.getElementById("announcer");
  if (place) place.textContent = text;
  setTimeout(() => { if (place) place.textContent = ""; }, 1500);
}

function toast(text, tone) {
  const shown = document.getElementById("toast-form")?.content.firstElementChild.cloneNode(true);
  if (!shown) return;
  shown.dataset.tone = tone;
  shown.querySelector(".notice-text").textContent = text;
  document.getElementById("toasts").append(shown);
  if (tone !== "stopped") setTimeout(() => shown.remove(), TOAST_STAYS_MS);
}

// Theme: kept in a cookie so that the server draws the first paint right.
function chooseTheme(choice) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  const root = document.documentElement;
  const year_s = 31536000;
  if (choice === "system") {
    root.removeAttribute("data-theme");
    document.cookie = `reclaim-theme=; Path=/; Max-Age=0; SameSite=Lax${secure}`;
  } else {
    root.dataset.theme = choice;
    document.cookie = `reclaim-theme=${choice}; Path=/; Max-Age=${year_s}; SameSite=Lax${secure}`;
  }
  showTheme();
}

function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "system";
  for (const button of document.querySelectorAll("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === chosen));
  }
}

// Instants in the reader's own zone, in the page's language; the server's UTC stays in the title.
const language = document.documentElement.lang;
const withTime = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const dateOnly = new Intl.DateTimeFormat(language, { dateStyle: "medium" });

function localise(root) {
  for (const time of root.querySelectorAll("time.instant:not([data-local])")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.valueOf())) continue;
    time.textContent = (time.hasAttribute("data-date") ? dateOnly : withTime).format(at);
    time.setAttribute("data-local", "");
  }
}

// The same words as `distance_words` on the server.
function distanceWords(left_s, past) {
  const seconds = Math.floor(Math.abs(left_s));
  for (const [name, size] of UNITS) {
    const count = Math.floor(seconds / size);
    if (!count) continue;
    const unit = name === "day" && count !== 1 ? "days" : name;
    return left_s > 0 ? `in ${count} ${unit}` : `${count} ${unit} ${past}`;
  }
  return "now";
}

function tick() {
  for (const clock of document.querySelectorAll("[data-clock]")) {
    const left_s = (new Date(clock.dateTime) - Date.now()) / SECOND_MS;
    const isQuiet = clock.hasAttribute("data-quiet");
    const said = distanceWords(left_s, isQuiet ? "ago" : "overdue");
    if (clock.textContent !== said) clock.textContent = said;
    if (left_s < 0 && !isQuiet) clock.dataset.tone = "stopped";
  }
}

// A stacked table shows its column's name beside each value, and keeps its roles: browsers drop a
// table's meaning with display: block.
function labelCells(root) {
  for (const table of root.querySelectorAll("table[data-stack]:not([data-labelled])")) {
    const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent.trim());
    table.setAttribute("role", "table");
    for (const part of table.querySelectorAll("thead, tbody")) part.setAttribute("role", "rowgroup");
    for (const row of table.rows) {
      row.setAttribute("role", "row");
      [...row.cells].forEach((cell, column) => {
        const isHead = cell.closest("thead");
        cell.setAttribute("role", isHead ? "columnheader" : cell.tagName === "TH" ? "rowheader" : "cell");
        if (cell.tagName === "TD" && names[column] && !cell.dataset.label) {
          cell.dataset.label = names[column];
        }
      });
    }
  }
}

function prepare(root) {
  localise(root);
  labelCells(root);
}

// htmx: parts that arrive, and requests that fail.
document.addEventListener("htmx:afterSettle", () => prepare(document));
document.addEventListener("htmx:responseError", (event) => {
  const status = event.detail.xhr.status;
  const cause = status === 403 ? "You may not do this (403)." : `The server answered ${status}.`;
  toast(`${cause} Nothing was changed; reload the page and try again.`, "stopped");
});
document.addEventListener("htmx:sendError", () => {
  toast("The server cannot be reached. Nothing was changed; check the connection.", "stopped");
});
document.addEventListener("toast", (event) => {
  toast(event.detail.text ?? event.detail.value, event.detail.tone ?? "good");
});

prepare(document);
showTheme();
tick();
setInterval(tick, SECOND_MS);
