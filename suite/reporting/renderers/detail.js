// A case's panel: what its record holds, its samples, its other launches, the command that measures it again.
const blocks = new Map();
const GROUPS = [
  ["Error against the oracle", (name) => name === "check" || name.startsWith("check_") || name === "naive_ratio"],
  ["Configuration", (name) => /^(configuration|tunable\.|axis\.)/.test(name)],
  ["Compiling and tuning", (name) => /^(compile|tuning|warmup)/.test(name)],
  ["Telemetry", (name) => name.startsWith("telemetry.")],
  ["Launches of kernels, counted", (name) => /^(profile|static)\./.test(name)],
  ["The record", () => true],
];

async function detailOf(row) {
  const number = Math.floor(row / cases.block);
  if (!blocks.has(number)) blocks.set(number, unpack(document.querySelectorAll(".case-block")[number]));
  const block = await blocks.get(number);
  const fields = Object.entries(block).map(([name, values]) => [name, values[row % cases.block]]);
  return Object.fromEntries(fields.filter(([, value]) => value !== null));
}

function told(value) {
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : written(value);
  if (Array.isArray(value)) return value.map(told).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([key, each]) => `${key} ${told(each)}`).join(", ");
  return String(value);
}

function pairs(title, entries) {
  if (!entries.length) return [];
  const list = element("dl");
  for (const [name, value] of entries) list.append(element("dt", {}, name), element("dd", {}, told(value)));
  return [element("h3", {}, title), list];
}

function grouped(detail) {
  const left = Object.entries(detail).filter(([name]) => !["samples", "samples_taken", "command"].includes(name));
  return GROUPS.flatMap(([title, holds]) => {
    const held = left.filter(([name]) => holds(name));
    for (const entry of held) left.splice(left.indexOf(entry), 1);
    // A check's errors stand one a line, by output and gradient.
    return pairs(title, held.flatMap(([name, value]) => (name === "check" ? Object.entries(value) : [[name, value]])));
  });
}

// The same case in other processes: what repeats between launches, and what does not.
function launches(row) {
  const named = (name) => cases.columns.find((column) => column.name === name);
  const [key, launch, time] = [named("case"), named("launch"), named("time_ms")];
  const alike = (other) =>
    key.at[other] === key.at[row] &&
    ["mode", "run"].map(named).every((column) => !column || valueOf(column, other) === valueOf(column, row));
  const found = launch && time ? [...Array(cases.rows).keys()].filter(alike) : [];
  const line = (other) => [`launch ${launch.values[other]}`, time.values[other] === null ? "no time" : `${written(time.values[other])} ms`];
  return found.length > 1 ? pairs("Launches: fresh processes", found.map(line)) : [];
}

function samplePlot(detail) {
  const numbers = (detail.samples ?? []).filter((value) => typeof value === "number");
  if (!numbers.length) return [];
  const kept = numbers.length < detail.samples_taken ? `, ${numbers.length} of them drawn` : "";
  const range = `${written(Math.min(...numbers))} to ${written(Math.max(...numbers))} ms`;
  const said = `${detail.samples_taken.toLocaleString("en")} samples in their order${kept}: ${range}`;
  const node = element("div", { role: "img", "aria-label": said, class: "samples" });
  const ink = { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 };
  const axis = { gridcolor: colour("--grid"), zeroline: false };
  const layout = {
    height: 200, margin: { l: 62, r: 12, t: 6, b: 36 }, font: ink, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", xaxis: { ...axis, title: { text: "sample" } }, yaxis: { ...axis, title: { text: "ms" } },
  };
  const step = (detail.samples_taken - 1) / Math.max(1, numbers.length - 1);
  const trace = {
    type: "scatter", mode: "markers", x: numbers.map((_, i) => Math.round(i * step) + 1), y: numbers,
    marker: { color: colour("--accent"), size: 5 }, hovertemplate: "sample %{x}: %{y} ms<extra></extra>",
  };
  requestAnimationFrame(() => Plotly.newPlot(node, [trace], layout, { displayModeBar: false, responsive: true }));
  return [element("h3", {}, "Samples"), node, element("p", { class: "soft" }, said)];
}

function copyButton(text, words) {
  const button = element("button", { type: "button" }, words);
  button.addEventListener("click", async () => {
    await copy(text);
    button.textContent = "Copied";
  });
  return button;
}

async function openCase(row, named) {
  const detail = await detailOf(row);
  // Who has gone on while the data was unpacked is not brought back.
  if (namedByHash() !== named) return;
  const column = (name) => textOf(cases.columns.find((each) => each.name === name), row);
  const filled = visibleColumns().map((each) => [each.label, textOf(each, row)]).filter(([, text]) => text !== "");
  const dialog = find("case");
  find("case-title").textContent = `${column("operator")}/${column("implementation")}: ${column("status")}`;
  find("case-body").replaceChildren(
    element("p", { class: "soft" }, column("case")),
    element("pre", { tabindex: "0" }, detail.command ?? ""),
    element("p", {}, copyButton(detail.command ?? "", "Copy the command"), " ", copyButton(location.href, "Copy a link to this case")),
    ...samplePlot(detail),
    ...launches(row),
    ...pairs("Figures", filled),
    ...grouped(detail),
  );
  if (!dialog.open) dialog.showModal();
  find("case-body").scrollTop = 0;
}

const namedByHash = () => (location.hash.startsWith("#case=") ? decodeURIComponent(location.hash.slice(6)) : "");

function openFromHash() {
  const wantedKey = namedByHash();
  if (!wantedKey) {
    find("case").close();
    return;
  }
  const rows = [...Array(cases.rows).keys()];
  const found = rows.find((row) => keyOf(row) === wantedKey) ?? rows.find((row) => keyOf(row).startsWith(`${wantedKey} `));
  if (found === undefined) find("said").textContent = `No case here is called ${wantedKey}`;
  else openCase(found, wantedKey);
}

window.addEventListener("hashchange", openFromHash);
find("case").addEventListener("close", () => {
  if (location.hash.startsWith("#case=")) history.replaceState(null, "", location.pathname + location.search);
});
find("case-close").addEventListener("click", () => find("case").close());
if (window.DecompressionStream) startCases();
