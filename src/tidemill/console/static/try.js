// An input that is drawn, dropped or pasted; and answers without a new page.
"use strict";

const form = document.getElementById("ask");
const answer = document.getElementById("answer");

// A pad of black paper and a white pen, as handwritten digits are stored.
for (const box of document.querySelectorAll("fieldset.image")) {
  const pad = box.querySelector("canvas");
  const file = box.querySelector("input[type=file]");
  const drop = box.querySelector(".drop");
  const choose = (files) => {
    const picture = [...files].find((one) => one.type.startsWith("image/"));
    if (!picture) return;
    const chosen = new DataTransfer();
    chosen.items.add(picture);
    file.files = chosen.files;
  };
  for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files); });
  document.addEventListener("paste", (event) => { if (event.clipboardData?.files.length) choose(event.clipboardData.files); });
  if (!pad) continue;

  const kept = box.querySelector("input[type=hidden]");
  const pen = pad.getContext("2d");
  const at = { x: pad.width / 2, y: pad.height / 2 };
  let down = false;
  const clear = () => {
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, pad.width, pad.height);
    kept.value = "";
  };
  const stroke = (x, y) => {
    pen.strokeStyle = "#fff";
    pen.lineWidth = pad.width / 12;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(at.x, at.y);
    pen.lineTo(x, y);
    pen.stroke();
    keep();
  };
  const keep = () => {
    const small = document.createElement("canvas");
    small.width = Number(box.dataset.width);
    small.height = Number(box.dataset.height);
    const to = small.getContext("2d");
    to.imageSmoothingQuality = "high";
    to.drawImage(pad, 0, 0, small.width, small.height);
    kept.value = small.toDataURL("image/png");
    file.value = "";
  };
  const place = (event) => {
    const frame = pad.getBoundingClientRect();
    return [((event.clientX - frame.left) * pad.width) / frame.width, ((event.clientY - frame.top) * pad.height) / frame.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    down = true;
    [at.x, at.y] = place(event);
    stroke(at.x, at.y);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!down) return;
    const [x, y] = place(event);
    stroke(x, y);
    [at.x, at.y] = [x, y];
  });
  for (const kind of ["pointerup", "pointercancel"]) pad.addEventListener(kind, () => { down = false; });
  // By keys: arrows move the pen, which writes while Space is held.
  let writes = false;
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  pad.addEventListener("keydown", (event) => {
    if (event.key === " ") { writes = true; stroke(at.x, at.y); }
    else if (event.key === "Backspace") clear();
    else if (ways[event.key]) {
      const [dx, dy] = ways[event.key].map((way) => (way * pad.width) / 28);
      const x = Math.min(Math.max(at.x + dx, 0), pad.width);
      const y = Math.min(Math.max(at.y + dy, 0), pad.height);
      if (writes) stroke(x, y);
      [at.x, at.y] = [x, y];
    } else return;
    event.preventDefault();
  });
  pad.addEventListener("keyup", (event) => { if (event.key === " ") writes = false; });
  box.querySelector(".clear").addEventListener("click", clear);
  clear();
}

const send = async (sent, target) => {
  const button = sent.submitter;
  button?.setAttribute("disabled", "");
  try {
    const reply = await post(sent.target.getAttribute("action"), new FormData(sent.target, button));
    if (reply.ok) {
      target.innerHTML = await reply.text();
    } else {
      const { why, link } = await fault(reply);
      const said = document.createElement("p");
      said.className = "fault";
      said.setAttribute("role", "alert");
      said.textContent = `${why} `;
      if (link) said.append(link);
      target.querySelector(".fault")?.remove();
      target.append(said);
    }
  } catch {
    HTMLFormElement.prototype.submit.call(sent.target); // as a plain form, which shows what is wrong
  } finally {
    button?.removeAttribute("disabled");
  }
};
form?.addEventListener("submit", (event) => { event.preventDefault(); send(event, answer); });
answer?.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event, document.getElementById("say"));
});
