"""The page's own style and script. The script takes its data from the element `figures`; it makes no request."""

STYLE = """
:root { color-scheme: light; --ink: #1f2937; --soft: #4b5563; --line: #d8dee6; --best: #c2255c; --ground: #f5f7fa; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 16px; }
h1 { font-size: 1.4rem; margin: 0 0 2px; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 0 0 4px; }
h3 { font-size: 1rem; margin: 12px 0 0; }
p { margin: 4px 0 8px; }
.soft, caption { color: var(--soft); font-size: 0.9rem; }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 14px; margin: 14px 0; }
.answer { border-top: 4px solid var(--best); }
.answer .value { font-size: 1.9rem; font-weight: 700; color: var(--best); line-height: 1.2; }
.values { display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0; padding: 0; list-style: none; }
.values li { background: var(--ground); border: 1px solid var(--line); border-radius: 6px; padding: 2px 8px; }
.answer ul.said { margin: 2px 0 10px; padding-left: 20px; }
code, pre { font: 0.85rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; background: var(--ground); padding: 8px; border-radius: 6px; margin: 6px 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 12px; }
.plot { width: 100%; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top;
  max-width: 26rem; min-width: 2rem; overflow-wrap: anywhere; }
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 14rem; }
th { font-weight: 600; white-space: nowrap; }
tr.best td { font-weight: 700; }
select { font: inherit; max-width: 100%; padding: 4px 6px; margin: 4px 0; }
details { margin: 0; } summary { cursor: pointer; }
.pictures { display: grid; grid-template-columns: repeat(5, 1fr); gap: 8px; margin: 8px 0; max-width: 620px; }
figure { margin: 0; padding: 4px; text-align: center; font-size: 0.85rem; border: 3px solid transparent;
  border-radius: 8px; }
figure.wrong { border-color: var(--best); }
figure img { width: 100%; image-rendering: pixelated; background: #000; display: block; border-radius: 4px; }
@media (max-width: 520px) { main { padding: 8px; } section { padding: 10px; } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

SCRIPT = """
"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    displaylogo: false, responsive: true, showTips: false, plotlyServerURL: "", showSendToCloud: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  // On a touch screen a finger on a plot scrolls the page.
  function layoutOf(name) {
    const layout = figures[name].layout;
    if (touch) {
      layout.dragmode = false;
      for (const key of Object.keys(layout)) if (/^[xy]axis/.test(key)) layout[key].fixedrange = true;
    }
    return layout;
  }

  // A tapped trial's line becomes the one that stands out.
  function choose(place, event) {
    const point = event.points[0], trial = point.customdata;
    if (trial === undefined) return;
    const first = point.data.customdata.indexOf(trial), x = [], y = [];
    for (let at = first; point.data.x[at] !== null; at++) { x.push(point.data.x[at]); y.push(point.data.y[at]); }
    Plotly.restyle(place, {x: [x], y: [y]}, [place.data.length - 1]);
    document.getElementById("chosen").textContent = point.data.meta[trial];
  }

  async function draw(place, name) {
    const bar = touch || name.startsWith("slice-") ? false : "hover";
    await Plotly.react(place, figures[name].data, layoutOf(name), {...config, displayModeBar: bar});
    place.dataset.drawn = name;
    if (name === "parallel") place.on("plotly_click", event => choose(place, event));
  }

  function drawOnce(place) {
    if (place.dataset.drawn) return;
    place.dataset.drawn = "soon";
    draw(place, place.dataset.figure);
  }

  const places = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); drawOnce(entry.target); }
  }, {rootMargin: "600px"});
  for (const place of places) seen.observe(place);
  addEventListener("beforeprint", () => places.forEach(drawOnce));
  for (const select of document.querySelectorAll("select[data-plot]"))
    select.addEventListener("change", () => draw(document.getElementById(select.dataset.plot), select.value));
})();
"""
