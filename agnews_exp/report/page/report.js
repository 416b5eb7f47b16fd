"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  let chosen = null;
  try { chosen = window.localStorage.getItem("agnews-report-theme"); } catch { chosen = null; }

  const isDark = () => (chosen === null ? dark.matches : chosen === "dark");
  const colours = () => {
    const style = getComputedStyle(root);
    return { text: style.getPropertyValue("--text").trim(), line: style.getPropertyValue("--line").trim() };
  };
  const themed = () => {
    const { text, line } = colours();
    return {
      "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font.color": text,
      "xaxis.gridcolor": line, "yaxis.gridcolor": line, "xaxis.linecolor": line, "yaxis.linecolor": line,
    };
  };

  function showTheme() {
    root.dataset.theme = isDark() ? "dark" : "light";
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark()));
  }
  function followTheme() {
    showTheme();
    for (const place of plots) if (place.dataset.drawn) window.Plotly.relayout(place, themed());
  }
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    try { window.localStorage.setItem("agnews-report-theme", chosen); } catch { /* a page from a file may have no storage */ }
    followTheme();
  });
  dark.addEventListener("change", followTheme);
  showTheme();

  function draw(place) {
    const spec = specs[place.dataset.chart];
    const { text, line } = colours();
    const layout = spec.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { color: text, size: 12, family: "system-ui, sans-serif" };
    for (const axis of [layout.xaxis, layout.yaxis]) { axis.gridcolor = line; axis.linecolor = line; }
    place.parentElement.classList.add("live");
    try {
      window.Plotly.newPlot(place, spec.data, layout, { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
      place.dataset.drawn = "yes";
    } catch (error) {
      place.parentElement.classList.remove("live"); // the still picture stays
      console.error(place.dataset.chart, error);
    }
  }
  if (window.Plotly) plots.forEach(draw);

  const number = (cell) => (cell.dataset.v === undefined ? null : Number(cell.dataset.v));
  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    if (x !== null && y !== null) return x - y;
    if (x !== null) return -1; // numbers before dashes
    if (y !== null) return 1;
    return a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const numeric = head.classList.contains("n");
        const before = head.getAttribute("aria-sort");
        const down = before === null ? numeric : before === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        const empty = (row) => row.cells[column].textContent === "–";
        rows.sort((a, b) => {
          if (empty(a) !== empty(b)) return empty(a) ? 1 : -1;
          return (down ? -1 : 1) * compare(a.cells[column], b.cells[column]);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  const narrow = window.matchMedia("(max-width: 800px)");
  const contents = document.getElementById("contents");
  const fold = () => { contents.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  const links = new Map([...document.querySelectorAll("nav li a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((a) => a.classList.remove("here"));
      links.get(entry.target.id)?.classList.add("here");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main section").forEach((section) => seen.observe(section));

  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details.stored").forEach((d) => { d.dataset.was = d.open; d.open = true; });
  });
  window.addEventListener("afterprint", () => {
    document.querySelectorAll("details.stored").forEach((d) => { d.open = d.dataset.was === "true"; });
  });
})();
