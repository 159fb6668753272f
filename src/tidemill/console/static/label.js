// One key an answer, the next sample at hand; without this script the same forms load the page anew.
"use strict";

const desk = document.getElementById("desk");
const now = document.getElementById("now");
const next = document.getElementById("next");
const done = document.getElementById("done");
const told = document.getElementById("told");
const undo = document.getElementById("undo");
const at = (box) => box.querySelector("article");
const unsent = new Set();

const focus = () => now.querySelector("[data-first]")?.focus();
const query = () => {
  const found = new URLSearchParams();
  if (desk.dataset.as) found.set("as", desk.dataset.as);
  if (desk.dataset.purpose) found.set("purpose", desk.dataset.purpose);
  for (const article of document.querySelectorAll("article.question")) found.append("besides", article.dataset.question);
  for (const one of unsent) found.append("besides", one);
  return found;
};

// The question after the one that is shown, fetched before it is needed.
let fetching = null;
const preload = () => {
  if (at(next) || fetching) return fetching;
  fetching = (async () => {
    try {
      const answer = await fetch(`/label/question?${query()}`, { redirect: "error" });
      if (answer.status === 200 && !at(next)) next.innerHTML = await answer.text();
    } catch {
      // the service is away: it is asked again with the next answer
    } finally {
      fetching = null;
    }
  })();
  return fetching;
};

const advance = async (from) => {
  if (!at(next)) await preload();
  if (at(now) !== from || from.dataset.back) return; // meanwhile it came back, as it could not be sent
  const article = at(next);
  now.replaceChildren(...(article ? [article] : []));
  next.replaceChildren();
  done.hidden = Boolean(article);
  focus();
  preload();
};

// Back to what was shown before: what is shown goes to the front of what comes.
const bring = (article) => {
  const shown = at(now);
  if (shown && shown !== article) next.replaceChildren(shown);
  now.replaceChildren(article);
  done.hidden = true;
  focus();
};

const send = async (form, submitter) => {
  const article = form.closest("article");
  const body = new FormData(form, submitter);
  const name = article.dataset.question;
  unsent.add(name);
  told.textContent = "";
  delete article.dataset.back;
  if (at(now) === article) advance(article);
  let why = "", link = null;
  try {
    const reply = await post("/label", body);
    if (reply.ok) {
      const said = await reply.json();
      told.textContent = said.disputed ? desk.dataset.torn : said.kept ? desk.dataset.kept : "";
    } else ({ why, link } = await fault(reply));
  } catch {
    why = navigator.onLine ? desk.dataset.away : desk.dataset.offline;
  }
  unsent.delete(name);
  if (!why) return;
  // Nothing that was said is lost: the question comes back as it was left.
  article.querySelector(".fault")?.remove();
  const word = document.createElement("p");
  word.className = "fault";
  word.setAttribute("role", "alert");
  word.textContent = `${desk.dataset.lost} ${why} `;
  if (link) word.append(link);
  form.prepend(word);
  article.dataset.back = "1";
  bring(article);
};

desk.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, event.submitter);
});

undo.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const reply = await post("/label/undo", new FormData(undo));
    if (reply.status === 200) {
      const box = document.createElement("template");
      box.innerHTML = await reply.text();
      const article = box.content.querySelector("article");
      if (at(next)?.dataset.question === article.dataset.question) next.replaceChildren();
      bring(article);
    } else if (reply.status !== 204) {
      const { why, link } = await fault(reply);
      told.textContent = `${why} `;
      if (link) told.append(link);
    }
  } catch {
    told.textContent = navigator.onLine ? desk.dataset.away : desk.dataset.offline;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing) return;
  const place = [now, undo].find((box) => box.querySelector(`[data-key="${CSS.escape(event.key)}"]`));
  if (!place) return;
  if (event.key === "Enter" && event.target.matches("button, a, summary")) return;
  event.preventDefault();
  const target = place.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  target.click();
  if (event.key === "n") target.closest("details")?.querySelector("textarea")?.focus();
});

focus();
if (at(now)) preload();
