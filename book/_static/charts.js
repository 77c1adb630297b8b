// Draws every <div class="vega-chart"> of a page with the vendored Vega libraries, in the page's theme.
// The libraries are loaded only on pages that have a chart, and from this folder: no other host is asked.
(() => {
  const here = document.currentScript.src.replace(/[^/]*$/, "");

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

  async function draw(element) {
    const spec = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
    let stage = element.querySelector(".vega-stage");
    if (!stage) {
      stage = document.createElement("div");
      stage.className = "vega-stage";
      element.append(stage);
    }
    await window.vegaEmbed(stage, spec, {
      config: config(),
      // "editor" would post the specification to a web site.
      actions: { export: true, source: false, compiled: false, editor: false },
      renderer: "svg",
    });
    // role=img hides what is inside from screen readers; controls inside must stay reachable.
    if (stage.querySelector(".vega-bindings")) element.setAttribute("role", "figure");
    element.dataset.drawn = "true";
  }

  function start() {
    const charts = [...document.querySelectorAll(".vega-chart")];
    if (!charts.length) return;
    const script = document.createElement("script");
    script.src = here + "vega.js";
    script.onload = () => {
      const all = () => charts.forEach((chart) => draw(chart).catch((error) => console.error(error)));
      all();
      new MutationObserver(all).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    };
    document.head.append(script);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
