// Charts: drawn when their panel is shown, again when the scheme, the width or a selection changes.
const panels = [...document.querySelectorAll(".panel")].map((node) => ({ node, facets: JSON.parse(node.dataset.facets) }));
const facetSelects = [...document.querySelectorAll("select[data-facet]")];
const ownerSelects = [...document.querySelectorAll("select[data-owner]")];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
// A character of a legend's text, as a part of its size, and what plotly puts around a legend's entry, in pixels.
const CHARACTER = 0.575;
const AROUND = 48;
// Slower, as fast, faster.
const SPEED = { light: ["#b35806", "#f7f7f7", "#2166ac"], dark: ["#d9822b", "#2a3039", "#5a9fd6"] };

const chosen = (what) => ownerSelects.find((select) => select.dataset.owner === what)?.value ?? "";

// Whether a selection shows what belongs to this owner. An operator is shown beside the quadratic lines.
function wanted(owner) {
  if (owner?.shown === undefined) return true;
  if (chosen("device") && owner.device && owner.device !== chosen("device")) return false;
  if (!chosen("operator") || !owner.operator) return owner.shown;
  return owner.operator === chosen("operator") || (owner.quadratic && owner.shown);
}

const pick = (list, kept) => list.filter((_, i) => kept[i]);

// The traces that a selection shows, and what of notes, ceilings and rows of a heat map goes with them.
function selected(figure) {
  const data = figure.data.filter((trace) => wanted(trace.meta)).map((trace) => structuredClone(trace));
  const lines = new Set(data.map((trace) => trace.meta?.line).filter(Boolean));
  for (const owner of figure.rows?.filter(wanted) ?? []) lines.add(owner.line);
  const together = (of) => of.every((line) => lines.has(line));
  for (const trace of data) {
    if (trace.meta?.notes) {
      const kept = trace.meta.notes.map(together);
      for (const key of ["x", "y", "text", "textposition"]) trace[key] = pick(trace[key], kept);
      trace.marker.size = pick(trace.marker.size, kept);
      trace.marker.opacity = pick(trace.marker.opacity, kept);
    }
    if (trace.meta?.rows) {
      const kept = trace.meta.rows.map(wanted);
      for (const key of ["y", "z", "text", "hovertext"]) trace[key] = pick(trace[key], kept);
    }
  }
  return data.filter((trace) => together(trace.meta?.of ?? []));
}

// Rows that a selection empties are closed up; returns the lines of text of those that are left.
function closeRows(data, axis, rows) {
  const kept = rows.map(wanted);
  const place = new Map(pick(axis.tickvals, kept).map((row, i) => [row, i]));
  for (const trace of data) {
    if (trace.meta?.rows) trace.y = trace.y.map((_, i) => i);
    else trace.y = trace.y.map((y) => (place.get(Math.round(y)) ?? -9) + (y - Math.round(y)));
  }
  axis.ticktext = pick(axis.ticktext, kept);
  axis.tickvals = axis.ticktext.map((_, i) => i);
  axis.range = [axis.ticktext.length - 0.5, -0.5];
  return axis.ticktext.join("<br>").split("<br>").length;
}

function coloured(trace, narrow) {
  const shade = trace.meta?.ink ? colour("--soft") : dark.matches ? trace.meta?.dark : null;
  if (shade) {
    for (const part of [trace.line, trace.marker, trace.marker?.line, trace.error_x]) if (part) part.color = shade;
    if (trace.textfont) trace.textfont = { color: colour("--ink"), size: narrow ? 9 : 11 };
  }
  if (trace.type === "heatmap") trace.colorscale = SPEED[dark.matches ? "dark" : "light"].map((each, i) => [i / 2, each]);
  return trace;
}

// A slope's label runs along the line as it lies on this screen, which only the drawn size of the plot tells.
function label(layout, size, ceiling, note) {
  const part = (axis, ends) => Math.log10(ends[1] / ends[0]) / (axis.range[1] - axis.range[0]);
  const angle = Math.atan2(part(layout.yaxis, ceiling.y) * size.height, part(layout.xaxis, ceiling.x) * size.width);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const along = 10 + (note.text.length * note.font.size * 0.54) / 2;
  const across = note.name === "slope above" ? 10 : -10;
  const shift = { xshift: along * cos - across * sin, yshift: along * sin + across * cos };
  return { ...note, ...shift, xanchor: "center", yanchor: "middle", textangle: (-angle * 180) / Math.PI };
}

async function slopes(node, data, layout) {
  const size = node.querySelector(".nsewdrag")?.getBoundingClientRect();
  if (!size || !layout.annotations.some((note) => note.name.startsWith("slope"))) return;
  const ceilings = data.filter((trace) => trace.meta?.labelled);
  const turned = (note, i) => (note.name.startsWith("slope") ? label(layout, size, ceilings[i], note) : note);
  await Plotly.relayout(node, { annotations: layout.annotations.map(turned) });
}

// The height of the legend and of the plot, which the width and the names decide.
function arrange(layout, data, width, lines) {
  const names = layout.showlegend ? data.filter((each) => each.showlegend !== false).map((each) => each.name) : [];
  const parts = names.map((name) => name.split("<br>"));
  const size = names.length > 6 ? 11 : 12;
  const entry = Math.max(0, ...parts.flat().map((line) => line.length)) * CHARACTER * size;
  const columns = Math.max(1, Math.floor((width - 88) / (entry + AROUND)));
  // A row is as high as its entry with most lines.
  let legend = 0;
  for (let i = 0; i < parts.length; i += columns) {
    legend += 14 + 15 * Math.max(...parts.slice(i, i + columns).map((each) => each.length));
  }
  const plot = lines ? Math.max(120, 19 * lines + 24) : Math.max(270, Math.min(380, width * 0.62));
  layout.margin.b = (legend ? 60 : 48) + legend;
  layout.height = layout.margin.t + plot + layout.margin.b;
  Object.assign(layout.legend, { y: -60 / plot, entrywidth: entry, entrywidthmode: "pixels", maxheight: legend + 30, font: { size } });
}

async function draw(node, figures) {
  const figure = figures[node.dataset.chart];
  const width = node.clientWidth;
  const narrow = width < 480;
  const layout = structuredClone(figure.layout);
  const data = selected(figure).map((trace) => coloured(trace, narrow));
  const has = figure.rows ? figure.rows.some(wanted) : data.some((trace) => trace.meta?.line);
  node.closest("figure").hidden = !has;
  if (!has) return;
  const lines = figure.rows ? closeRows(data, layout.yaxis, figure.rows) : 0;
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--soft"), tickcolor: colour("--soft") };
  Object.assign(layout.xaxis, axis);
  Object.assign(layout.yaxis, axis);
  layout.font = { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 };
  if (lines) layout.yaxis.tickfont = { size: narrow ? 8 : 11 };
  arrange(layout, data, width, lines);
  layout.hoverlabel = {
    bgcolor: colour("--raised"), bordercolor: colour("--soft"), font: { color: colour("--ink") }, align: "left",
  };
  for (const note of layout.annotations) note.font = { color: colour("--soft"), size: narrow ? 9 : 11 };
  const options = { displaylogo: false, typesetMath: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  node.dataset.width = width;
  await Plotly.react(node, data, layout, options);
  // The label tells what is drawn; only the drawing's buttons are left to reach.
  for (const svg of node.querySelectorAll(".main-svg")) svg.setAttribute("aria-hidden", "true");
  await slopes(node, data, layout);
}

// Figures whose hover texts are lines of one list (suite/reporting/renderers/page.py).
async function unpackFigures(node) {
  const { lines, figures } = await unpack(node);
  const text = (at) => (Array.isArray(at[0]) ? at.map(text) : at.map((i) => lines[i]).join("<br>"));
  for (const trace of Object.values(figures).flatMap((figure) => figure.data)) {
    if (trace.hovertext) trace.hovertext = trace.hovertext.map(text);
  }
  return figures;
}

// One chart a frame, in their order, so that the first one is there at once; a newer call ends an older one.
let turn = 0;
async function drawShown(all = false) {
  const mine = ++turn;
  const panel = panels.find((each) => !each.node.hidden);
  if (!panel) return;
  panel.figures ??= unpackFigures(panel.node.querySelector("script"));
  const figures = await panel.figures;
  for (const node of panel.node.querySelectorAll(".chart")) {
    if (mine !== turn) return;
    const hidden = node.closest("figure").hidden;
    if (!all && (hidden || Number(node.dataset.width) === node.clientWidth)) continue;
    node.closest("figure").hidden = false;
    await draw(node, figures);
    await new Promise(requestAnimationFrame);
  }
  if (mine === turn) panel.node.dataset.drawn = turn;
}

function show(panel) {
  for (const each of panels) each.node.hidden = each !== panel;
  for (const select of facetSelects) select.value = panel.facets[select.dataset.facet];
  const state = ownerSelects.map((select) => select.value).join("\n");
  const stale = panel.state !== state;
  panel.state = state;
  return drawShown(stale);
}

// Of the panels that have the value just chosen, the one that shares most other choices.
function choose(changed) {
  const shared = (panel) => facetSelects.filter((select) => panel.facets[select.dataset.facet] === select.value).length;
  const fitting = panels.filter((panel) => panel.facets[changed.dataset.facet] === changed.value);
  show(fitting.reduce((best, panel) => (shared(panel) > shared(best) ? panel : best)));
}

for (const select of facetSelects) select.addEventListener("change", () => choose(select));
for (const select of ownerSelects) {
  select.addEventListener("change", () => show(panels.find((each) => !each.node.hidden)));
}
find("facets")?.addEventListener("submit", (event) => event.preventDefault());
dark.addEventListener("change", () => {
  for (const panel of panels) panel.state = undefined;
  if (panels.length) show(panels.find((each) => !each.node.hidden));
});
let waiting;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => drawShown(), 150);
});
if (!window.DecompressionStream) {
  find("unpacking").hidden = false;
} else if (panels.length) {
  show(panels[0]);
}
