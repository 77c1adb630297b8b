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
      axis: { labelColor: text, titleColor: text, domainColor: muted, tickColor: muted, gridColor: line, labelFontSize: 12, titleFontSize: 12 },
      legend: { labelColor: text, titleColor: text, titleLimit: 400, labelFontSize: 12, titleFontSize: 12 },
      header: { labelColor: text, titleColor: text },
      title: { color: text },
      text: { color: text },
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
    const unfold = make("details", { className: "chart-data" }, make("summary", { textContent: "Data" }));
    const tables = (from.results || []).map((path) => link(path, path.replace(/^results\//, "")));
    if (tables.length) unfold.append(make("div", { className: "chart-tools" }, "Tables that this page has read:", ...tables));
    unfold.addEventListener("toggle", () => {
      if (unfold.open && !unfold.querySelector("table")) unfold.append(...htmlTable(data, spec.description));
    });
    element.append(bar, unfold);
  }

  // What the reader chose, so that another theme does not undo it.
  function choices(view, spec) {
    return (spec.params || []).filter((parameter) => "value" in parameter).map(({ name }) => [name, view.signal(name)]);
  }

  // How wide the panels of a row are together, as the specification has them.
  function breadth(spec, columns = spec.columns) {
    if (spec.facet) return (columns || 1) * breadth(spec.spec);
    if (spec.concat && columns > 1) return spec.concat.slice(0, columns).reduce((sum, panel) => sum + breadth(panel), 0);
    if (spec.hconcat) return spec.hconcat.reduce((sum, panel) => sum + breadth(panel), 0);
    return spec.vconcat || spec.concat ? Math.max(...(spec.vconcat || spec.concat).map((panel) => breadth(panel))) : spec.width || 200;
  }

  // Panels that would be narrower than four fifths of what was asked for move to another row, and so does a legend on a phone.
  function wrap(spec, room) {
    const panels = spec.facet?.sort?.length;
    let columns = panels || spec.columns; // where there is room, all in one row
    while (columns > 1 && 0.8 * breadth(spec, columns) + 55 * columns > room) columns -= 1;
    if (panels) columns = Math.ceil(panels / Math.ceil(panels / columns)); // three and two, not four and one
    const fewer = (key, value) => {
      if (key === "labelLimit") return Math.min(value, room - 40); // a name above its mark must not widen the chart
      return key === "legend" && value?.columns > 1 ? { ...value, columns: Math.min(value.columns - 1, room < 300 ? 1 : 2) } : value;
    };
    const narrow = room < 420 ? JSON.parse(JSON.stringify(spec), fewer) : spec;
    return columns ? { ...narrow, columns } : narrow;
  }

  // Make the panels fill the room, or fit into it; axes and legends keep their size.
  async function fit(view, spec, room) {
    const all = Object.keys(view.getState({ signals: (name) => /(^|_)(width|childWidth)$/.test(name), data: () => false }).signals);
    const names = all.length > 1 ? all.filter((name) => name !== "width") : all;
    const asked = (view.widths ||= names.map((name) => view.signal(name))); // as the specification has them
    const resize = (width) => {
      names.forEach((name, i) => view.signal(name, width(asked[i])));
      return view.resize().runAsync();
    };
    await resize((width) => 4 * width); // so wide that no legend is wider: what is left over is axes and gaps
    const row = breadth(spec);
    const kept = view.container().querySelector("svg").viewBox.baseVal.width - 4 * row;
    const factor = Math.min(1.6, (room - kept) / row);
    const stacked = spec.concat && spec.columns === 1;
    const scale = (by) => resize((width) => Math.max(40, Math.floor((stacked ? row : width) * by)));
    await scale(factor);
    const over = () => view.container().querySelector("svg").viewBox.baseVal.width - room;
    for (let by = factor; over() > 0 && by > 0.5 * factor; await scale(by)) by -= Math.max(over() / row, 0.01); // a long title in a narrow panel
  }

  // A slider over places shows the training step of its place, and can be played.
  function slider(element, view, name, ticks) {
    const input = element.querySelector(`.chart-controls input[name=${name}]`);
    const shown = make("output", { className: "chart-step" });
    const show = (_, place) => {
      shown.textContent = ticks[place];
      input.setAttribute("aria-valuetext", String(ticks[place]));
    };
    const move = (place) => view.signal(name, place).runAsync();
    const button = make("button", { type: "button", className: "chart-play", textContent: "Play" });
    const stop = () => {
      clearInterval(element.playing);
      element.playing = 0;
      button.textContent = "Play";
    };
    button.onclick = () => {
      if (element.playing) return stop();
      if (view.signal(name) >= ticks.length - 1) move(0);
      button.textContent = "Pause";
      element.playing = setInterval(() => {
        if (view.signal(name) >= ticks.length - 1) stop();
        else move(view.signal(name) + 1);
      }, 500);
    };
    input.addEventListener("input", () => element.playing && stop());
    input.after(shown, button);
    view.addSignalListener(name, show);
    show(name, view.signal(name));
  }

  // A click or a drag on a mark sets controls from the mark's data.
  function pick(view, fields, ticks) {
    const set = (item) => {
      const found = Object.entries(fields).filter(([, field]) => item?.datum && item.mark.marktype !== "group" && field in item.datum);
      for (const [name, field] of found) view.signal(name, ticks[name] ? ticks[name].indexOf(item.datum[field]) : item.datum[field]);
      if (found.length) view.runAsync();
    };
    view.addEventListener("pointerdown", (_, item) => set(item));
    view.addEventListener("pointermove", (event, item) => event.buttons === 1 && set(item));
  }

  // A parameter holds the address of the page of what is on show, or nothing.
  function link(element, view, name) {
    const anchor = make("a", { className: "chart-page", textContent: "Open the notebook of this checkpoint" });
    const show = (_, href) => {
      anchor.hidden = !href;
      if (href) anchor.href = href;
    };
    element.querySelector(".chart-controls").append(anchor);
    view.addSignalListener(name, show);
    show(name, view.signal(name));
  }

  // Buttons that set several parameters at once; the one whose values are all on show is pressed.
  function scenes(element, view, named) {
    const buttons = Object.entries(named).map(([textContent, values]) => {
      const button = make("button", { type: "button", className: "chart-scene", textContent });
      const set = Object.entries(values);
      button.onclick = () => {
        set.forEach(([name, value]) => view.signal(name, value));
        view.runAsync();
      };
      const show = () => button.setAttribute("aria-pressed", String(set.every(([name, value]) => view.signal(name) === value)));
      set.forEach(([name]) => view.addSignalListener(name, show));
      show();
      return button;
    });
    element.querySelector(".chart-controls").prepend(...buttons);
  }

  function enliven(element, view, { ticks = {}, pick: fields, link: page, scenes: named }) {
    if (named) scenes(element, view, named);
    for (const [name, steps] of Object.entries(ticks)) slider(element, view, name, steps);
    if (fields) pick(view, fields, ticks);
    if (page) link(element, view, page);
    element.classList.toggle("chart-alive", Boolean(fields));
  }

  async function draw(element) {
    const asked = specification(element);
    const kept = element.chartView ? choices(element.chartView, asked) : [];
    clearInterval(element.playing);
    element.playing = 0;
    let controls = element.querySelector(".chart-controls");
    if (!controls) {
      controls = make("div", { className: "chart-controls" });
      controls.addEventListener("change", () => refit(element, element.chartView));
      // Outside the picture, whose role would hide them from screen readers.
      element.append(controls);
      tools(element, asked);
    }
    controls.replaceChildren();
    const stage = element.querySelector(".vega-stage");
    const spec = wrap(asked, stage.clientWidth);
    const { view } = await window.vegaEmbed(stage, spec, {
      config: config(),
      actions: false, // their "editor" would post the specification to a web site; ours are under the chart
      bind: controls,
      renderer: "svg",
    });
    element.chartView = view;
    kept.forEach(([name, value]) => view.signal(name, value));
    await apply(element, view);
    await fit(view, spec, stage.clientWidth);
    enliven(element, view, asked.usermeta || {});
    element.dataset.room = stage.clientWidth;
    if (stage.scrollWidth > stage.clientWidth) stage.tabIndex = 0; // what scrolls must scroll by keyboard too
    element.dataset.drawn = document.documentElement.dataset.theme;
  }

  // One choice of dimension, statements and suite for all figures of a page that offer it; it stays in sight.
  const SHARED = ["dimension", "statements", "suite"];

  function picker(charts) {
    const offers = (name) =>
      charts.flatMap((chart) => specification(chart).params?.filter((param) => param.name === name && param.bind?.options) || []);
    const lists = SHARED.map((name) => [name, offers(name)]).filter(([, found]) => found.length > 1);
    if (!lists.length) return;
    const bar = make("div", { className: "chart-picker" }, make("span", { textContent: "Choose for all figures that offer it:" }));
    bar.setAttribute("role", "group");
    bar.setAttribute("aria-label", "Choices for all figures");
    for (const [name, found] of lists) {
      const named = new Map(found.flatMap(({ bind }) => bind.options.map((value, i) => [value, bind.labels?.[i] ?? value])));
      const list = make("select", { name: `all-${name}` }, ...[...named].map(([value, textContent]) => make("option", { value, textContent })));
      list.value = chosen[name] = found[0].value;
      document.body.classList.add(`one-${name}`);
      list.onchange = () => {
        chosen[name] = list.value;
        const drawn = charts.filter((chart) => chart.chartView);
        drawn.forEach((chart) => apply(chart, chart.chartView).then(() => refit(chart, chart.chartView)));
      };
      bar.append(make("label", { textContent: `${name} ` }, list));
    }
    const page = document.querySelector(".bd-article section");
    page.insertBefore(bar, [...page.children].find((part) => part.contains(charts[0])));
  }

  const chosen = {};
  const specification = (chart) => JSON.parse(chart.querySelector('script[type="application/json"]').textContent);

  // What was chosen for all figures, where this one offers it.
  function apply(element, view) {
    const offered = (specification(element).params || []).filter(({ name, bind }) => name in chosen && bind?.options);
    const [lists, others] = [true, false].map((has) => offered.filter(({ name, bind }) => bind.options.includes(chosen[name]) === has));
    lists.forEach(({ name }) => view.signal(name, chosen[name]));
    const label = ({ name, bind }) => bind.labels?.[bind.options.indexOf(view.signal(name))] ?? view.signal(name);
    if (others.length) element.dataset.note = `Not measured for that choice. Still shown: ${others.map(label).join(", ")}.`;
    else delete element.dataset.note;
    return view.runAsync();
  }

  // A choice may bring longer numbers on an axis: the picture takes the room they need, and the panels give way.
  async function refit(element, view) {
    await view.resize().runAsync();
    const stage = element.querySelector(".vega-stage");
    if (stage.scrollWidth > stage.clientWidth) await fit(view, specification(element), stage.clientWidth);
  }

  // The theme gives an arrow that unfolds pages in the side bar no name.
  function nameArrows() {
    document.querySelectorAll("summary:has(> .toctree-toggle)").forEach((arrow) => arrow.setAttribute("aria-label", "Pages below"));
  }

  function start() {
    nameArrows();
    const charts = [...document.querySelectorAll(".vega-chart")];
    if (!charts.length) return;
    const script = document.createElement("script");
    script.src = here + "vega.js";
    script.onload = () => {
      let theme = document.documentElement.dataset.theme;
      let waiting = 0;
      const drawAll = (some) => some.forEach((chart) => draw(chart).catch((error) => console.error(error)));
      const all = () => drawAll(charts);
      picker(charts);
      all();
      const changed = (chart) => +chart.dataset.room !== chart.querySelector(".vega-stage").clientWidth;
      window.addEventListener("resize", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => drawAll(charts.filter(changed)), 200);
      });
      // What is folded has no width until it is opened.
      document.addEventListener("toggle", () => drawAll(charts.filter(changed)), true);
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
