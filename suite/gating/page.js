"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const symbols = ["circle", "diamond-open"];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A band over the whole width, between two levels.
  function band(low, high, fill, opacity) {
    return { type: "rect", xref: "paper", x0: 0, x1: 1, y0: low, y1: high, fillcolor: fill, opacity, line: { width: 0 }, layer: "below" };
  }

  function shapes(figure) {
    const { ratio, low, high, margin } = figure;
    const drawn = margin === null ? [] : [band(-margin, margin, colour("--soft"), 0.18)];
    if (low !== null && high !== null) drawn.push(band(low, high, colour("--accent"), 0.22));
    if (ratio === null) return drawn;
    const line = { color: colour("--accent"), width: 1.5 };
    return [...drawn, { type: "line", xref: "paper", x0: 0, x1: 1, y0: ratio, y1: ratio, line }];
  }

  function draw(node) {
    const figure = figures[node.id];
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--soft"), tickcolor: colour("--soft"), zerolinecolor: colour("--soft") };
    const last = Math.max(...figure.series.flatMap((each) => each.x));
    const ink = [colour("--ink"), colour("--accent")];
    const traces = figure.series.map((each, i) => ({
      ...each, type: "scatter", mode: "markers", marker: { size: 7, symbol: symbols[i], color: ink[i] },
      hovertemplate: `${figure.x} %{x}: %{y:+.2f} %<extra>${each.name}</extra>`,
    }));
    const layout = {
      xaxis: { ...axis, title: { text: figure.x }, dtick: last > 16 ? 4 : 1, tick0: 1, range: [0.5, last + 0.5], zeroline: false },
      yaxis: { ...axis, title: { text: "change, %" }, automargin: true, zeroline: true },
      margin: { l: 56, r: 16, t: 8, b: 40 },
      height: node.clientHeight,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
      showlegend: figure.series.length > 1, legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      shapes: shapes(figure),
    };
    Plotly.react(node, traces, layout, { displaylogo: false, displayModeBar: false, responsive: true });
    node.dataset.drawn = dark.matches;
  }

  // A page may hold hundreds of charts: each is drawn when it comes into view.
  const nodes = document.querySelectorAll(".chart.rounds");
  const watch = new IntersectionObserver((seen) => {
    for (const each of seen) if (each.isIntersecting && each.target.dataset.drawn !== String(dark.matches)) draw(each.target);
  }, { rootMargin: "400px" });
  nodes.forEach((node) => watch.observe(node));
  dark.addEventListener("change", () => nodes.forEach((node) => node.dataset.drawn && draw(node)));
})();
