// Draws every <div class="vega-chart"> of a page with the vendored Vega libraries, in the page's theme, and puts under
// it: its choices, downloads (SVG, PNG, CSV), its data as a table, and links to the code and results it came from.
// The libraries are loaded only on pages that have a chart, and from this folder: no other host is asked.
(() => {
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const MOST_ROWS = 200; // of a table in the page; the CSV has all

  const colour = (name, fallback) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim() || fallback;

  function config() {
    const text = colour("--pst-color-text-base", "#222");
    const muted = colour("--pst-color-text-muted", "#666");
    const line = colour("--pst-color-border", "#ccc");
    const font = getComputedStyle(document.body).fontFamily;
    return {
      background: "transparent",
      font,
      axis: { labelColor: text, titleColor: text, domainColor: muted, tickColor: muted, gridColor: line },
      legend: { labelColor: text, titleColor: text },
      header: { labelColor: text, titleColor: text },
      title: { color: text },
      view: { stroke: line },
    };
  }

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // Returns the columns and rows of all tables a specification carries.
  function table(spec) {
    const tables = Object.values(spec.datasets || {});
    JSON.stringify(spec, (key, value) => {
      if (key === "data" && value && Array.isArray(value.values)) tables.push(value.values);
      return key === "datasets" ? undefined : value;
    });
    const rows = tables.flat().filter((row) => row && typeof row === "object");
    const columns = new Set(rows.flatMap(Object.keys));
    columns.delete("href"); // a link of a point, not a number
    return { columns: [...columns], rows };
  }

  const missing = (value) => value === null || value === undefined;

  function csv({ columns, rows }) {
    const field = (value) => {
      const text = missing(value) ? "" : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
    };
    return [columns, ...rows.map((row) => columns.map((column) => row[column]))]
      .map((values) => values.map(field).join(",") + "\n")
      .join("");
  }

  // Text only, never markup: what stands in the data is shown as it is.
  function htmlTable({ columns, rows }, description) {
    const shown = (value) =>
      missing(value) ? "" : typeof value === "number" && !Number.isInteger(value) ? String(+value.toPrecision(4)) : String(value);
    const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col", textContent: column.replace(/_/g, " ") })));
    const body = rows.slice(0, MOST_ROWS).map((row) => {
      const cells = columns.map((column) => make("td", { textContent: shown(row[column]) }));
      if (row.href) cells[0].replaceChildren(make("a", { href: row.href, textContent: cells[0].textContent }));
      return make("tr", {}, ...cells);
    });
    const text = rows.length > MOST_ROWS ? `${description} The first ${MOST_ROWS} of ${rows.length} rows; the CSV has all.` : description;
    const all = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
    const box = make("div", { className: "chart-table", tabIndex: 0 }, all);
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Data of the chart");
    return [make("p", { textContent: text }), box];
  }

  function save(name, href) {
    make("a", { href, download: name }).click();
  }

  async function savePicture(element, name, kind) {
    const view = element.chartView;
    view.background(colour("--pst-color-background", "#fff")); // transparent, it would be unreadable elsewhere
    const href = await view.toImageURL(kind, kind === "png" ? 2 : 1);
    view.background("transparent");
    save(`${name}.${kind}`, href);
  }

  function tools(element, spec) {
    const name = element.closest("[id]")?.id || "chart";
    const data = table(spec);
    const button = (kind, run) => {
      const made = make("button", { type: "button", textContent: kind, onclick: run });
      made.setAttribute("aria-label", `Download ${name} as ${kind}`);
      return made;
    };
    const bar = make(
      "div",
      { className: "chart-tools" },
      button("SVG", () => savePicture(element, name, "svg")),
      button("PNG", () => savePicture(element, name, "png")),
      button("CSV", () => save(`${name}.csv`, URL.createObjectURL(new Blob([csv(data)], { type: "text/csv" })))),
    );
    const from = spec.usermeta || {};
    const link = (href, text) => make("a", { href: `${here}../${href}`, textContent: text });
    if (from.code) bar.append(link(`book/api.html#${from.code}`, "code"));
    for (const path of from.results || []) bar.append(link(path, path.replace(/^results\//, "")));
    const unfold = make("details", { className: "chart-data" }, make("summary", { textContent: "Data" }));
    unfold.addEventListener("toggle", () => {
      if (unfold.open && !unfold.querySelector("table")) unfold.append(...htmlTable(data, spec.description));
    });
    element.append(bar, unfold);
  }

  // What the reader chose, so that another theme does not undo it.
  function choices(view, spec) {
    return (spec.params || []).filter((parameter) => "value" in parameter).map(({ name }) => [name, view.signal(name)]);
  }

  async function draw(element) {
    const spec = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
    const chosen = element.chartView ? choices(element.chartView, spec) : [];
    let controls = element.querySelector(".chart-controls");
    if (!controls) {
      controls = make("div", { className: "chart-controls" });
      // Outside the picture, whose role would hide them from screen readers.
      element.append(controls);
      tools(element, spec);
    }
    controls.replaceChildren();
    const { view } = await window.vegaEmbed(element.querySelector(".vega-stage"), spec, {
      config: config(),
      actions: false, // their "editor" would post the specification to a web site; ours are under the chart
      bind: controls,
      renderer: "svg",
    });
    element.chartView = view;
    chosen.forEach(([name, value]) => view.signal(name, value));
    await view.runAsync();
    const stage = element.querySelector(".vega-stage");
    if (stage.scrollWidth > stage.clientWidth) stage.tabIndex = 0; // what scrolls must scroll by keyboard too
    element.dataset.drawn = document.documentElement.dataset.theme;
  }

  function start() {
    const charts = [...document.querySelectorAll(".vega-chart")];
    if (!charts.length) return;
    const script = document.createElement("script");
    script.src = here + "vega.js";
    script.onload = () => {
      let theme = document.documentElement.dataset.theme;
      const all = () => charts.forEach((chart) => draw(chart).catch((error) => console.error(error)));
      all();
      new MutationObserver(() => {
        if (theme === document.documentElement.dataset.theme) return;
        theme = document.documentElement.dataset.theme;
        all();
      }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    };
    document.head.append(script);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
