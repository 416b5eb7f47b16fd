"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const drawn = JSON.parse(document.getElementById("drawn").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  let chosen = null;
  try { chosen = window.localStorage.getItem("agnews-report-theme"); } catch { chosen = null; }

  const isDark = () => (chosen === null ? dark.matches : chosen === "dark");
  const isShown = (place) => place.closest("details:not([open])") === null;

  function draw(place, printed = false) {
    const spec = structuredClone(drawn.charts[place.dataset.chart]);
    const config = drawn.themes[isDark() && !printed ? "dark" : "light"];
    const width = Math.max(300, Math.min(printed ? 680 : place.clientWidth, 900));
    if ("width" in spec) spec.width = width;
    if (width < 560) config.axis.labelLimit = 130;
    place.dataset.drawn = "yes";
    return window.agnewsDraw(place, spec, { ...config, background: "transparent" })
      .catch((error) => { place.textContent = "This chart cannot be drawn here; figures/ has it as a picture."; console.error(error); });
  }
  const drawShown = (again) => plots.forEach((place) => {
    if (isShown(place) && (again || !place.dataset.drawn)) draw(place);
    else if (again) delete place.dataset.drawn;
  });
  function showTheme() {
    root.dataset.theme = isDark() ? "dark" : "light";
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(isDark()));
  }
  function followTheme() { showTheme(); if (window.agnewsDraw) drawShown(true); }
  button.addEventListener("click", () => {
    chosen = isDark() ? "light" : "dark";
    try { window.localStorage.setItem("agnews-report-theme", chosen); } catch { /* a page from a file may have no storage */ }
    followTheme();
  });
  dark.addEventListener("change", followTheme);
  showTheme();
  if (window.agnewsDraw) {
    drawShown(false);
    document.querySelectorAll("details").forEach((d) => d.addEventListener("toggle", () => drawShown(false)));
    let wide = window.innerWidth, waiting = 0;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { if (window.innerWidth !== wide) { wide = window.innerWidth; drawShown(true); } }, 200);
    });
  }

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

  const folded = () => [...document.querySelectorAll("main details")];
  window.addEventListener("beforeprint", () => {
    folded().forEach((d) => { d.dataset.was = d.open; d.open = true; });
    if (window.agnewsDraw) plots.forEach((place) => draw(place, true));
  });
  window.addEventListener("afterprint", () => {
    folded().forEach((d) => { d.open = d.dataset.was === "true"; });
    if (window.agnewsDraw) drawShown(true);
  });
})();
