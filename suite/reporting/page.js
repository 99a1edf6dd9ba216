"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const panels = [...document.querySelectorAll(".panel")].map((node) => ({ node, facets: JSON.parse(node.dataset.facets) }));
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // Widths in pixels: a character of a legend's text, and what plotly puts around a legend's entry.
  const CHARACTER = 6.9;
  const AROUND = 48;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function trace(original, narrow) {
    const drawn = structuredClone(original);
    const shade = drawn.meta?.ink ? colour("--soft") : dark.matches ? drawn.meta?.dark : null;
    if (!shade) return drawn;
    for (const part of [drawn.line, drawn.marker, drawn.marker?.line]) if (part) part.color = shade;
    if (drawn.textfont) drawn.textfont = { color: colour("--ink"), size: narrow ? 9 : 11 };
    return drawn;
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

  function slopes(node, figure, layout) {
    const size = node.querySelector(".nsewdrag")?.getBoundingClientRect();
    if (!size || !layout.annotations?.length) return;
    const ceilings = figure.data.filter((each) => each.meta?.ink && each.mode === "lines");
    const turned = (note, i) => (note.name.startsWith("slope") ? label(layout, size, ceilings[i], note) : note);
    Plotly.relayout(node, { annotations: layout.annotations.map(turned) });
  }

  function draw(node) {
    const figure = figures[node.dataset.chart];
    const width = node.clientWidth;
    const names = figure.data.filter((each) => each.showlegend !== false).map((each) => each.name);
    const lines = names.map((name) => name.split("<br>"));
    const entry = Math.max(...lines.flat().map((line) => line.length)) * CHARACTER;
    const columns = Math.max(1, Math.floor((width - 110) / (entry + AROUND)));
    const rows = Math.ceil(lines.flat().length / columns);
    const plot = Math.max(270, Math.min(380, width * 0.62));
    const narrow = width < 480;
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--soft"), tickcolor: colour("--soft") };
    const layout = structuredClone(figure.layout);
    Object.assign(layout.xaxis, axis);
    Object.assign(layout.yaxis, axis);
    layout.font = { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 };
    layout.margin.b = 66 + 20 * rows;
    layout.height = layout.margin.t + plot + layout.margin.b;
    Object.assign(layout.legend, { y: -60 / plot, entrywidth: entry, entrywidthmode: "pixels", font: { size: 12 } });
    layout.hoverlabel = { bgcolor: colour("--raised"), bordercolor: colour("--soft"), font: { color: colour("--ink") }, align: "left" };
    for (const note of layout.annotations ?? []) note.font = { color: colour("--soft"), size: narrow ? 9 : 11 };
    const options = { displaylogo: false, typesetMath: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
    node.dataset.width = width;
    Plotly.react(node, figure.data.map((each) => trace(each, narrow)), layout, options).then(() => slopes(node, figure, layout));
  }

  function visible() {
    return document.querySelectorAll(".panel:not([hidden]) .chart");
  }

  function show(panel) {
    for (const each of panels) each.node.hidden = each !== panel;
    for (const select of selects) select.value = panel.facets[select.dataset.facet];
    for (const node of visible()) if (Number(node.dataset.width) !== node.clientWidth) draw(node);
  }

  // Of the panels that have the value just chosen, the one that shares most other choices.
  function choose(changed) {
    const shared = (panel) => selects.filter((select) => panel.facets[select.dataset.facet] === select.value).length;
    const fitting = panels.filter((panel) => panel.facets[changed.dataset.facet] === changed.value);
    show(fitting.reduce((best, panel) => (shared(panel) > shared(best) ? panel : best)));
  }

  const selects = [...document.querySelectorAll("#facets select")];
  for (const select of selects) select.addEventListener("change", () => choose(select));
  document.getElementById("facets")?.addEventListener("submit", (event) => event.preventDefault());
  if (panels.length) show(panels[0]);
  dark.addEventListener("change", () => {
    for (const node of document.querySelectorAll(".chart[data-width]")) delete node.dataset.width;
    visible().forEach(draw);
  });
  let waiting;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const node of visible()) if (Number(node.dataset.width) !== node.clientWidth) draw(node);
    }, 150);
  });

  function sort(header) {
    const table = header.closest("table");
    const column = header.cellIndex;
    const descending = header.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      // Empty cells stay last whichever way the rest is sorted.
      if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
      const order = header.classList.contains("number") ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
      return descending ? -order : order;
    };
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  }

  for (const header of document.querySelectorAll("table.sortable th")) {
    header.querySelector("button").addEventListener("click", () => sort(header));
  }

  const filter = document.getElementById("filter");
  const rows = [...document.querySelectorAll('[aria-labelledby="cases"] tbody tr')];
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += row.hidden ? 0 : 1;
    }
    document.getElementById("shown").textContent = words.length ? `${count} of ${rows.length} rows` : "";
  });
})();
