// Small conveniences; every page works without them.
"use strict";

// A form, sent without leaving the page. Its code is of one session; whoever has signed in anew since, as in another tab,
// gets another one, and what they said here is sent with that. Of somebody else it would bear the wrong name.
const post = async (path, body) => {
  const send = () => fetch(path, { method: "POST", body, headers: { "x-part": "1" }, redirect: "error" });
  const reply = await send();
  if (reply.status !== 403) return reply;
  const fresh = await fetch("/sign-in/code", { redirect: "error" });
  const said = fresh.ok ? await fresh.json() : {};
  if (!fresh.ok || said.visitor !== document.documentElement.dataset.visitor || said.code === body.get("code")) return reply;
  for (const field of document.querySelectorAll("input[name=code]")) field.value = said.code;
  body.set("code", said.code);
  return send();
};

// What a reply that is a page says went wrong; and where to sign in, if that is needed.
const fault = async (reply) => {
  const page = new DOMParser().parseFromString(await reply.text(), "text/html");
  const found = [...page.querySelectorAll(".notice .reason, .notice .mend")].map((one) => one.textContent.trim());
  const link = reply.status === 401 ? page.querySelector('.notice a[href="/sign-in"]') : null;
  if (link) Object.assign(link, { target: "_blank", rel: "noopener", className: "" });
  return { why: found.join(" ") || `HTTP ${reply.status}`, link };
};

// What lives is loaded anew now and then, while somebody looks, and put in place unless they are at work in it.
const live = document.querySelector("[data-live]");
if (live) {
  let shown = live.innerHTML;
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(live.dataset.live, { headers: { accept: "text/html" }, redirect: "error" });
      if (!answer.ok) return;
      const text = await answer.text();
      if (text === shown || live.contains(document.activeElement)) return;
      const open = [...live.querySelectorAll("details[open][id]")].map((one) => one.id);
      const ran = live.querySelector(".cycle-now");
      live.innerHTML = shown = text;
      // A cycle has ended: the history below has a line more.
      if (ran && !live.querySelector(".cycle-now")) location.replace(location.pathname);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    } catch {
      // the service is away; it is asked again
    }
  };
  setInterval(refresh, 2000);
}

// A menu that is open closes by Escape, and by a click elsewhere.
const menus = () => document.querySelectorAll("details.menu[open], details.act[open]");
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of menus()) {
    menu.removeAttribute("open");
    menu.querySelector("summary").focus();
  }
});
document.addEventListener("click", (event) => {
  for (const menu of menus()) if (!menu.contains(event.target)) menu.removeAttribute("open");
});
document.addEventListener("toggle", (event) => {
  const field = event.target.open && event.target.matches("details.act") && event.target.querySelector("textarea, input:not([type=hidden]), select");
  if (field) field.focus();
}, true);

// A page that shows what is still being found out looks again.
const again = document.querySelector("[data-again]");
if (again) setTimeout(() => location.reload(), Number(again.dataset.again) * 1000);

// The tab that is shown is in view on narrow screens; scrollIntoView would also move where Tab begins.
const tab = document.querySelector(".top nav [aria-current]");
if (tab) {
  const bar = tab.closest("nav");
  bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;
}
