// The table of all cases: columns that are unpacked once; a hundred rows in the page at a time.
const PAGE_ROWS = 100;
const MOST_COPIED = 1000;
const cases = { columns: [], rows: 0, order: [], shown: 0 };
const visibleColumns = () => cases.columns.filter((column) => column.label);
const valueOf = (column, row) => (column.kind === "text" ? column.words[column.at[row]] : column.values[row]);

function textOf(column, row) {
  const value = valueOf(column, row);
  if (column.kind === "text") return value;
  return column.kind === "count" ? (value === null ? "" : value.toLocaleString("en")) : written(value);
}

// What a permalink names: the case, its timing, its launch and, of several runs, its run.
function keyOf(row) {
  const named = (name) => cases.columns.find((column) => column.name === name);
  const parts = ["case", "mode", "launch", "run"].map(named).map((column) => (column ? valueOf(column, row) : ""));
  return parts.map(String).join(" ").trim();
}

// A row is kept when each word is in one of its texts, or is one of its counts.
function matches(words) {
  const tests = words.map((word) =>
    cases.columns.map((column) => {
      if (column.kind !== "text") return (row) => column.kind === "count" && String(column.values[row]) === word;
      const hits = column.words.map((each) => each.toLowerCase().includes(word));
      return (row) => column.label !== "" && hits[column.at[row]];
    }),
  );
  return (row) => tests.every((columns) => columns.some((test) => test(row)));
}

function filterCases() {
  const words = find("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const picks = [...document.querySelectorAll("#picks select")].filter((select) => select.value !== "");
  const fits = matches(words);
  const picked = picks.map((select) => [cases.columns.find((each) => each.name === select.name), Number(select.value)]);
  cases.order = [...Array(cases.rows).keys()].filter((row) => picked.every(([column, at]) => column.at[row] === at) && fits(row));
  sortCases();
}

// Numbers by size, texts as people sort them; what is empty stays last whichever way the rest goes.
function sortCases() {
  const header = document.querySelector("#cases-table th[aria-sort]");
  const column = header && cases.columns.find((each) => each.name === header.dataset.name);
  if (column) {
    const down = header.getAttribute("aria-sort") === "descending" ? -1 : 1;
    let rank = column.values;
    if (column.kind === "text") {
      const sorted = [...column.words].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
      const places = new Map(sorted.map((word, i) => [word, i]));
      rank = column.at.map((at) => (column.words[at] === "" ? null : places.get(column.words[at])));
    }
    const last = (row) => (rank[row] === null ? 1 : 0);
    cases.order.sort((a, b) => last(a) - last(b) || (last(a) ? a - b : down * (rank[a] - rank[b]) || a - b));
  } else {
    cases.order.sort((a, b) => a - b);
  }
  cases.shown = Math.min(PAGE_ROWS, cases.order.length);
  find("cases-body").replaceChildren(...cases.order.slice(0, cases.shown).map(rowOf));
  tellCount();
}

function rowOf(row) {
  const cells = visibleColumns().map((column) => {
    const text = textOf(column, row);
    const cell = element("td", column.kind === "text" ? {} : { class: "number" });
    if (column.name === "reason") cell.className = "long";
    if (column.name === "implementation") cell.append(element("a", { href: `#case=${encodeURIComponent(keyOf(row))}` }, text));
    else cell.append(text);
    return cell;
  });
  return element("tr", {}, ...cells);
}

function tellCount() {
  const all = cases.rows.toLocaleString("en");
  const kept = cases.order.length.toLocaleString("en");
  find("shown").textContent = cases.order.length === cases.rows ? `${all} rows` : `${kept} of ${all} rows`;
  find("more").hidden = cases.shown === cases.order.length;
  find("more").textContent = `Show ${Math.min(PAGE_ROWS, cases.order.length - cases.shown)} more rows`;
}

function showMore() {
  const next = cases.order.slice(cases.shown, cases.shown + PAGE_ROWS);
  find("cases-body").append(...next.map(rowOf));
  cases.shown += next.length;
  tellCount();
}

function turnHeader(header) {
  const before = header.getAttribute("aria-sort");
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", before === "ascending" ? "descending" : "ascending");
  sortCases();
}

function headers() {
  return visibleColumns().map((column) => {
    const button = element("button", { type: "button" }, column.label);
    const header = element("th", { scope: "col", "data-name": column.name }, button);
    if (column.kind !== "text") header.className = "number";
    button.addEventListener("click", () => turnHeader(header));
    return header;
  });
}

function pickers() {
  return cases.columns
    .filter((column) => column.choose && column.words.length > 1 && column.words.length <= 200)
    .map((column) => {
      const options = column.words.map((word, i) => [word, i]).sort((a, b) => a[0].localeCompare(b[0]));
      const select = element("select", { name: column.name }, element("option", { value: "" }, "all"));
      for (const [word, i] of options) select.append(element("option", { value: i }, word || "–"));
      select.addEventListener("change", filterCases);
      return element("label", {}, column.label, select);
    });
}

function asMarkdown() {
  const cell = (text) => text.replace(/([\\`*_|[\]<>&#~])/g, "\\$1");
  const columns = visibleColumns();
  const line = (cells) => `| ${cells.join(" | ")} |`;
  const rule = columns.map((column) => (column.kind === "text" ? "---" : "--:"));
  const rows = cases.order.slice(0, MOST_COPIED).map((row) => line(columns.map((column) => cell(textOf(column, row)))));
  return [line(columns.map((column) => cell(column.label))), line(rule), ...rows, ""].join("\n");
}

// A text that a spreadsheet would take for a formula begins with an apostrophe.
function asCsv() {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (value) => (typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value ?? ""));
  const line = (values) => values.map((value) => quoted(cell(value))).join(",");
  const rows = cases.order.map((row) => line(cases.columns.map((column) => valueOf(column, row))));
  return [line(cases.columns.map((column) => column.name)), ...rows, ""].join("\r\n");
}

async function asJson() {
  const rows = [];
  for (const row of cases.order) {
    const own = Object.fromEntries(cases.columns.map((column) => [column.name, valueOf(column, row)]));
    rows.push({ ...own, ...(await detailOf(row)) });
  }
  return JSON.stringify(rows, null, 1);
}

async function startCases() {
  Object.assign(cases, await unpack(find("cases-data")));
  find("cases-head").replaceChildren(...headers());
  find("picks").replaceChildren(...pickers());
  find("filter").addEventListener("input", filterCases);
  find("more").addEventListener("click", showMore);
  find("copy").addEventListener("click", async () => {
    await copy(asMarkdown());
    const count = Math.min(MOST_COPIED, cases.order.length).toLocaleString("en");
    find("said").textContent = `${count} rows copied as Markdown`;
  });
  find("csv").addEventListener("click", () => download("cases.csv", "text/csv", asCsv()));
  find("json").addEventListener("click", async () => download("cases.json", "application/json", await asJson()));
  filterCases();
  openFromHash();
}

// Tables that are written out in the page sort their own rows.
function sortTable(header) {
  const column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);
    const order = header.classList.contains("number") ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
    return down ? -order : order;
  };
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = header.closest("table").tBodies[0];
  body.append(...[...body.rows].sort(compare));
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => sortTable(header));
}
