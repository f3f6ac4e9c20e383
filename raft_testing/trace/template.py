"""The style and script of a trace's page, with places for `html` to fill in.

One text without external resources, so the page can be kept and sent as a single file.
"""

from __future__ import annotations

from typing import Final

__all__ = ["PAGE"]

PAGE: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title><style>
body { margin: 0; font: 12px/1.35 system-ui, "DejaVu Sans", sans-serif; color: #222; background: #fff; }
header { position: sticky; top: 0; z-index: 2; background: #fff; border-bottom: 1px solid #ccc; }
.bar { padding: 7px 12px 3px; } .bar b { font-size: 15px; margin-right: 10px; }
.bar label { margin-left: 14px; white-space: nowrap; }
.legend span { margin-left: 12px; white-space: nowrap; } .legend i { display: inline-block; width: 18px; height: 0;
  border-top: 3px solid; vertical-align: middle; margin-right: 4px; }
.heads { position: relative; height: 22px; } .head { position: absolute; top: 2px; font-weight: 600; font-size: 13px; }
.broken { display: inline-block; color: #fff; background: #c62828; padding: 1px 8px; border-radius: 3px;
  margin-right: 6px; text-decoration: none; } .quiet { color: #2e7d32; }
pre { font: 12px/1.4 "DejaVu Sans Mono", monospace; margin: 0; padding: 10px 12px; overflow-x: auto;
  background: #fff5f5;
  border-bottom: 1px solid #ccc; }
svg { display: block; font: 11px "DejaVu Sans", system-ui, sans-serif; }
svg text { paint-order: stroke; stroke: #fff; stroke-width: 3px; stroke-linejoin: round; pointer-events: none; }
.row { fill: #fff; } .row:nth-of-type(even) { fill: #fafaf8; } .row.here { fill: #fff3c4; }
.paper { fill: #fff; opacity: .8; pointer-events: none; }
.step { fill: #999; font-size: 10px; } .time { fill: #bbb; }
.event { fill: #777; font-size: 10px; } .local { fill: #333; font-size: 10px; font-weight: 600; }
.note { fill: #6a1b9a; font-style: italic; }
.state { font-size: 11px; fill: #555; } .state .new { font-weight: 700; fill: #111; }
.state.leader .new { fill: #1b5e20; } .state.candidate .new, .state.pre_candidate .new { fill: #b35900; }
.life { stroke-width: 2; stroke: #b0bec5; } .life.leader { stroke: #43a047; stroke-width: 6; }
.life.candidate { stroke: #fb8c00; stroke-width: 4; } .life.pre_candidate { stroke: #ffcc80; stroke-width: 4; }
.dot { fill: #78909c; stroke: #fff; } .dot.leader { fill: #2e7d32; } .dot.candidate { fill: #ef6c00; }
.dot.pre_candidate { fill: #ffa726; }
.arrow line { stroke-width: 1.2; } .arrow path { stroke: none; } .arrow { opacity: .75; }
.arrow.vote { stroke: #ef6c00; fill: #ef6c00; } .arrow.data { stroke: #1565c0; fill: #1565c0; }
.arrow.reply { stroke: #64b5f6; fill: #64b5f6; } .arrow.beat { stroke: #cfd8dc; fill: #b0bec5; }
.arrow.lost { stroke: #d32f2f; fill: #d32f2f; stroke-dasharray: 4 3; } .arrow.pending { stroke-dasharray: 2 3; }
.arrow[data-again] { stroke-dasharray: 7 3; } .arrow:hover, .arrow.here { opacity: 1; stroke-width: 3px; }
.arrow.here line, .arrow:hover line { stroke-width: 3; }
.dim .arrow:not(.here) { opacity: .13; } .nobeat .beat { display: none; }
.lost { fill: #d32f2f; font-weight: 700; } .crash { fill: #c62828; font-size: 17px; } .restart { fill: #2e7d32;
  font-size: 14px; } .violation { fill: #ffcdd2; pointer-events: none; }
.violated { fill: #b71c1c; font-weight: 700; font-size: 13px; }
#tell { position: fixed; right: 10px; bottom: 10px; width: 460px; max-height: 46vh; overflow: auto; background: #fffef6;
  border: 1px solid #999; border-radius: 5px; box-shadow: 0 2px 10px #0003; padding: 8px 11px; display: none;
  z-index: 3; }
#tell p { margin: 2px 0; overflow-wrap: anywhere; } #tell p:first-child { color: #888; } #tell .bad { color: #b71c1c;
  font-weight: 700; } #tell .what { font-weight: 600; }
</style></head><body>
<header><div class="bar"><b>@TITLE@</b> @COUNT@ &nbsp; @SUMMARY@
<label><input type="checkbox" id="beats" checked> heartbeats</label></div>
<div class="bar legend"><span style="margin-left:0"><i style="color:#43a047;border-top-width:6px"></i>leader</span>
<span><i style="color:#fb8c00;border-top-width:4px"></i>candidate</span>
<span><i style="color:#ffcc80;border-top-width:4px"></i>pre-candidate</span>
<span><i style="color:#b0bec5"></i>follower</span>
<span><i style="color:#ef6c00"></i>votes</span><span><i style="color:#1565c0"></i>entries, commit</span>
<span><i style="color:#64b5f6"></i>acknowledgement</span><span><i style="color:#b0bec5"></i>heartbeat</span>
<span><i style="color:#d32f2f;border-top-style:dashed"></i>lost</span>
<span>✖ crash</span><span>▲ restart</span>
<span>t term &nbsp; v vote &nbsp; c commit &nbsp; a applied; bold: changed</span></div>
<div class="heads">@HEADS@</div></header>@PICTURES@
<svg width="@WIDTH@" height="@HEIGHT@" viewBox="0 0 @WIDTH@ @HEIGHT@">
@BODY@
</svg>
<div id="tell"></div>
<script>
const details = @DETAILS@, tell = document.getElementById("tell"), svg = document.querySelector("svg");
const rows = [...document.querySelectorAll(".row")], arrows = [...document.querySelectorAll(".arrow")];
let pinned = null;
const tops = rows.map(row => row.y.baseVal.value);
function clear() {
  rows.forEach(row => row.classList.remove("here"));
  arrows.forEach(arrow => arrow.classList.remove("here"));
  svg.classList.remove("dim"); tell.style.display = "none";
}
function show(n) {
  clear();
  rows[n].classList.add("here");
  tell.replaceChildren(...details[n].map((line, place) => {
    const p = document.createElement("p"); p.textContent = line;
    p.className = place === 1 ? "bad" : place === 2 ? "what" : ""; return p;
  }));
  tell.style.display = "block";
  const y = tops[n] + 9; let any = false;
  for (const arrow of arrows) {
    const line = arrow.firstElementChild;
    if (line.y1.baseVal.value === y || line.y2.baseVal.value === y) { arrow.classList.add("here"); any = true; }
  }
  svg.classList.toggle("dim", any);
}
function rowAt(event) {
  const y = event.clientY - svg.getBoundingClientRect().top;
  let low = 0, high = tops.length - 1;
  while (low < high) { const mid = (low + high + 1) >> 1; if (tops[mid] <= y) low = mid; else high = mid - 1; }
  return low;
}
svg.addEventListener("mousemove", event => { if (pinned === null && tops.length) show(rowAt(event)); });
svg.addEventListener("mouseleave", () => { if (pinned === null) clear(); });
svg.addEventListener("click", event => { pinned = pinned === null && tops.length ? rowAt(event) : null;
  if (pinned === null) clear(); else show(pinned); });
document.getElementById("beats").addEventListener("change", event =>
  svg.classList.toggle("nobeat", !event.target.checked));
</script></body></html>
"""
