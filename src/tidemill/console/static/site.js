// Small conveniences; every page works without them.
"use strict";

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
