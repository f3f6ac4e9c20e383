"use strict";
document.documentElement.classList.add("loading");  // one layout at the end, instead of several on the way
// The rows are in the page. This selects, folds and searches them, and draws the lines of what is in view.
function start() {
  const byId = name => document.getElementById(name);
  const model = JSON.parse(byId("model").textContent);
  const scroll = byId("scroll"), sheet = byId("rows"), svg = sheet.querySelector("svg"), detail = byId("detail");
  const tip = byId("tip"), map = byId("map"), find = byId("find"), all = byId("all");
  const rows = model.records.map((_, n) => byId("n" + n));
  const folds = [...sheet.querySelectorAll(".fold")];
  const heads = [...document.querySelectorAll(".head")];
  const findings = [...document.querySelectorAll(".finding")];
  const LOSS = 0.6, MARGIN = 900, NAMES = ["role", "term", "vote", "leader", "log", "commit", "applied"];
  document.querySelector("h1").textContent = document.title;
  heads.forEach(head => head.style.setProperty("--c", head.dataset.c));

  // Messages: from a row and column to a row and column; `end` is arrived, lost or on its way.
  const sent = new Map(model.sends.map(([n, c, id, to, family, text]) => [id, {n, c, to, family, text, m: n, end: "way"}]));
  const messages = [...sent.values()], arrivals = new Map();
  model.records.forEach(([, kind, id], n) => {
    const message = id ? sent.get(id) : undefined;
    if (!message) return;
    arrivals.set(n, message);
    if (message.end === "way") Object.assign(message, {m: n, end: kind === "loss" ? "lost" : "arrived"});
    else messages.push({...message, m: n, again: true});  // it came twice
  });

  // Geometry. A record in a closed fold stands at the fold's row.
  let tops = [], lefts = [], visible = [];
  const foldOf = new Map();
  folds.forEach(fold => fold.nextElementSibling.querySelectorAll(".row").forEach(row => foldOf.set(row, fold)));
  const shut = row => { const fold = foldOf.get(row); return fold && !fold.classList.contains("open") ? fold : null; };
  function measure() {
    visible = [...sheet.querySelectorAll(".row, .fold")].filter(row => !shut(row));
    const places = new Map(visible.map(row => [row, row.offsetTop + (row.classList.contains("fold") ? 8 : 10)]));
    for (const fold of folds)
      if (fold.classList.contains("open")) fold.nextElementSibling.querySelectorAll(".row").forEach(row => places.set(row, row.offsetTop + 10));
    tops = rows.map(row => places.get(shut(row) || row));
    lefts = heads.map(head => head.offsetLeft + 10);
    draw(); drawMap();
  }

  // Drawing.
  let drawn = null, here = null;
  function draw() {
    const from = scroll.scrollTop - MARGIN, to = scroll.scrollTop + scroll.clientHeight + MARGIN;
    drawn = scroll.scrollTop;
    const chosen = here && here.classList.contains("row") ? +here.dataset.n : -1, out = [];
    for (const [c, first, last, role] of model.periods) {
      const a = Math.max(tops[first], from), b = Math.min(last === rows.length - 1 ? tops[last] + 12 : tops[last], to);
      if (b > a) out.push(`<line x1="${lefts[c]}" x2="${lefts[c]}" y1="${a}" y2="${b}" stroke="var(--${role})" stroke-width="${role === "follower" ? 2 : 5}" stroke-linecap="round"/>`);
    }
    for (const message of messages) {
      const y1 = tops[message.n], lost = message.end === "lost", way = message.end === "way";
      const mine = message.n === chosen || (!way && message.m === chosen);
      if (!mine && message.family === "beat" && (shut(rows[message.n]) || shut(rows[message.m]))) continue;
      const x1 = lefts[message.c], aim = lefts[message.to], sign = aim > x1 ? 1 : -1;
      const y2 = way ? y1 + 9 : tops[message.m];
      if (Math.max(y1, y2) < from || Math.min(y1, y2) > to) continue;
      const x2 = way ? x1 + 30 * sign : lost ? x1 + (aim - x1) * LOSS : aim - 6 * sign;
      const colour = `var(--${lost ? "bad" : message.family})`, opacity = mine ? 1 : chosen >= 0 ? .38 : .6;
      const dash = lost ? "4 3" : way ? "2 3" : message.again ? "7 3" : "none";
      out.push(`<g opacity="${opacity}" stroke="${colour}" fill="${colour}"><line x1="${x1 + 5 * sign}" y1="${y1}" x2="${x2}" y2="${y2}" stroke-width="${mine ? 2.4 : 1.2}" stroke-dasharray="${dash}"/>`
        + (lost ? `<path d="M${x2 - 4} ${y2 - 4}l8 8m-8 0l8 -8" stroke-width="2"/>` : `<path d="M${x2 + 2 * sign} ${y2}l${-7 * sign} -3.5v7z" stroke="none"/>`) + "</g>");
    }
    svg.setAttribute("width", sheet.clientWidth); svg.setAttribute("height", sheet.clientHeight);
    svg.innerHTML = out.join("");
  }
  function drawMap() {
    const ratio = devicePixelRatio || 1, width = map.clientWidth, height = map.clientHeight, pen = map.getContext("2d");
    const style = getComputedStyle(document.documentElement), ink = name => style.getPropertyValue("--" + name);
    map.width = width * ratio; map.height = height * ratio; pen.scale(ratio, ratio);
    const scale = height / Math.max(sheet.offsetHeight, scroll.clientHeight), wide = Math.min(9, (width - 12) / Math.max(1, heads.length));
    pen.fillStyle = ink("here"); pen.fillRect(0, scroll.scrollTop * scale, width, Math.max(4, scroll.clientHeight * scale));
    for (const [c, first, last, role] of model.periods) {
      pen.fillStyle = ink(role);
      pen.fillRect(6 + c * wide, tops[first] * scale, wide - 2, Math.max(1, (tops[last] - tops[first]) * scale));
    }
    pen.fillStyle = ink("bad");
    model.records.forEach(([c, kind], n) => { if (kind === "crash" && c >= 0) pen.fillRect(5 + c * wide, tops[n] * scale - 1, wide, 3); });
    for (const n of model.violations) pen.fillRect(0, tops[n] * scale - 1, width, 3);
  }

  // The selected event.
  function stateUpTo(n, c) {
    for (let at = n; at >= 0; at--) {
      const [column, kind, , state] = model.records[at];
      if (column !== c) continue;
      if (kind === "crash") return "down";
      if (state) return state;
    }
    return null;
  }
  const node = (tag, text, name) => { const made = document.createElement(tag); made.textContent = text; if (name) made.className = name; return made; };
  const words = state => [state[0].replace("_", "-"), state[1], state[2] || "–", state[3] || "–", `${state[4]}–${state[5]}`, state[6], state[7]];
  function link(text, n) { const made = node("a", text); made.href = "#n" + n; made.onclick = event => { event.preventDefault(); reveal(rows[n]); select(rows[n], true); }; return made; }
  const name = n => rows[n].querySelector(".when b").textContent;
  const changed = (old, now) => old === undefined || String(old) === String(now) ? node("td", now) : node("td", `${old} → ${now}`, "moved");
  function show(n) {
    const [c, , , state, effects] = model.records[n], row = rows[n], left = node("div"), middle = node("div"), right = node("div");
    left.append(node("h3", `step ${name(n)}` + (row.querySelector(".when i") ? `, time ${row.querySelector(".when i").textContent}` : "") + (c >= 0 ? `, node ${model.nodes[c]}` : "")));
    left.append(node("p", row.querySelector(".label").textContent, "event"));
    const came = arrivals.get(n);
    if (came) { const p = node("p", "sent in "); p.append(link(`step ${name(came.n)}`, came.n), ` by node ${model.nodes[came.c]}`); left.append(p); }
    if (state) {
      const before = stateUpTo(n - 1, c), old = Array.isArray(before) ? words(before) : undefined, table = node("table");
      const now = words(state), half = (NAMES.length + 1) >> 1;
      const cells = i => i < NAMES.length ? [node("td", NAMES[i]), changed(old?.[i], now[i])] : [];
      for (let i = 0; i < half; i++) { const tr = node("tr"); tr.append(...cells(i), ...cells(i + half)); table.append(tr); }
      middle.append(node("h3", "state after it"), table);
    }
    const mine = messages.filter(message => message.n === n && !message.again);
    if (effects.length || mine.length) right.append(node("h3", "effects and messages"));
    effects.forEach(text => right.append(node("p", text)));
    for (const message of mine) {
      const p = node("p", `to ${model.nodes[message.to]}: ${message.text} `);
      if (message.end === "way") p.append("(on its way)"); else p.append(link(message.end === "lost" ? `lost in step ${name(message.m)}` : `arrives in step ${name(message.m)}`, message.m));
      right.append(p);
    }
    detail.replaceChildren(left, middle, right);
  }
  function showFold(fold) {
    detail.replaceChildren(node("p", fold.textContent + (fold.classList.contains("open") ? ": Enter folds them" : ": Enter unfolds them")));
  }
  function select(row, centred) {
    if (here) { here.classList.remove("here"); here.removeAttribute("aria-selected"); }
    here = row; row.classList.add("here"); row.setAttribute("aria-selected", "true");
    const n = +row.dataset.n;
    if (row.classList.contains("fold")) showFold(row); else show(n);
    const at = findings.findIndex(finding => +finding.dataset.n === n);
    if (at >= 0) showFinding(at);
    heads.forEach((head, c) => {
      const state = stateUpTo(n, c), span = head.querySelector("span");
      span.className = state === "down" ? "down" : state ? state[0] : "";
      span.textContent = state === "down" ? "down" : state ? `${state[0].replace("_", "-")}, term ${state[1]}, commit ${state[6]}` : "";
    });
    const top = row.offsetTop, height = scroll.clientHeight - 40;
    if (centred) scroll.scrollTop = top - height * .62;
    else if (top < scroll.scrollTop + 30) scroll.scrollTop = top - 30;
    else if (top + row.offsetHeight > scroll.scrollTop + height) scroll.scrollTop = top + row.offsetHeight - height + 10;
    draw(); drawMap();
  }
  function showFinding(at) {
    findings.forEach((finding, place) => finding.classList.toggle("shown", place === at));
    const named = new Set([...findings[at].querySelectorAll(".node")].map(one => one.textContent));
    heads.forEach((head, c) => head.classList.toggle("named", named.has(String(model.nodes[c]))));
  }

  // Folds.
  function setFold(fold, open) { fold.classList.toggle("open", open); fold.nextElementSibling.hidden = !open; }
  function reveal(row) { const fold = shut(row); if (fold) { setFold(fold, true); measure(); } }
  function toggle(row) {
    if (row.classList.contains("fold")) { setFold(row, !row.classList.contains("open")); showFold(row); } else row.classList.toggle("open");
    measure();
  }
  function toggleAll() {
    const open = all.getAttribute("aria-pressed") !== "true";
    all.setAttribute("aria-pressed", open);
    folds.forEach(fold => setFold(fold, open));
    measure();
    if (here) select(shut(here) || here, true);
  }

  // Moving.
  const seen = () => find.value ? visible.filter(row => row.classList.contains("hit")) : visible;
  function move(by) {
    const among = seen(), at = among.indexOf(here);
    if (!among.length) return;
    if (at >= 0) return select(among[Math.min(among.length - 1, Math.max(0, at + by))]);
    const y = here ? here.offsetTop : 0, next = among.findIndex(row => row.offsetTop > y);
    select(among[next < 0 ? among.length - 1 : Math.max(0, by > 0 ? next : next - 1)]);
  }
  function violation(by) {
    const all = model.violations, n = here ? +here.dataset.n : -1;
    if (!all.length) return;
    const next = by > 0 ? all.find(at => at > n) : all.findLast(at => at < n);
    select(rows[next ?? (by > 0 ? all[0] : all.at(-1))], true);
  }
  const keys = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1), n: () => violation(1), p: () => violation(-1),
    Enter: () => here && toggle(here), a: toggleAll, Home: () => select(visible[0]), End: () => select(visible.at(-1)), "/": () => find.focus(),
    PageDown: () => move(20), PageUp: () => move(-20),
  };
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === find) {
      if (event.key === "Enter") { event.preventDefault(); move(event.shiftKey ? -1 : 1); }
      if (event.key === "Escape") { find.value = ""; search(); scroll.focus(); }
      return;
    }
    if (event.key === "Enter" && event.target.closest("button, summary, a")) return;
    if (Object.hasOwn(keys, event.key) && visible.length) { event.preventDefault(); keys[event.key](); }
  });
  function search() {
    const wanted = find.value.toLowerCase();
    sheet.classList.toggle("searching", wanted !== "");
    rows.forEach(row => row.classList.toggle("hit", wanted !== "" && row.textContent.toLowerCase().includes(wanted)));
  }
  find.addEventListener("input", search);
  all.addEventListener("click", toggleAll);
  sheet.addEventListener("click", event => {
    const row = event.target.closest(".row, .fold");
    if (!row) return;
    if (row.classList.contains("fold")) toggle(row);
    select(row);
  });
  sheet.addEventListener("dblclick", event => { const row = event.target.closest(".row"); if (row) toggle(row); });
  sheet.addEventListener("mousemove", event => {
    const label = event.target.closest(".row")?.querySelector(".label");
    tip.hidden = !label || label.scrollWidth <= label.clientWidth;
    if (tip.hidden) return;
    tip.textContent = label.textContent;
    tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8) + "px";
  });
  sheet.addEventListener("mouseleave", () => { tip.hidden = true; });
  document.querySelectorAll(".finding a").forEach(a => a.addEventListener("click", event => { event.preventDefault(); select(rows[+a.closest(".finding").dataset.n], true); }));
  document.querySelectorAll(".copy").forEach(button => button.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(button.previousSibling.textContent); button.textContent = "copied";
  }));
  const jump = event => { scroll.scrollTop = event.offsetY / map.clientHeight * sheet.offsetHeight - scroll.clientHeight / 2; };
  map.addEventListener("pointerdown", event => { map.setPointerCapture(event.pointerId); jump(event); });
  map.addEventListener("pointermove", event => { if (event.buttons) jump(event); });
  scroll.addEventListener("scroll", () => { if (Math.abs(scroll.scrollTop - drawn) > MARGIN / 2) draw(); drawMap(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);

  document.documentElement.classList.remove("loading");
  measure();
  if (model.violations.length) select(rows[model.violations[0]], true);
  else if (visible.length) select(visible.at(-1));
  scroll.focus();
  addEventListener("resize", measure);
  document.documentElement.dataset.opened = Math.round(performance.now());
}
