// Sorting of the tables, hints at wide ones, and what the other scripts share.
// Pages opened from disk may not fetch files, so data are scripts: each calls uadbench.put(name, data).
"use strict";

window.uadbench = (function () {
  const loaded = new Map();

  function run(path) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = path;
      script.onload = () => resolve(script.remove());
      script.onerror = () => reject(new Error(`${path} is missing; keep the report's folder together`));
      document.head.append(script);
    });
  }

  async function load(name) {
    if (!loaded.has(name)) await run(`${name}.js`);
    return loaded.get(name);
  }

  // What an element shows waits until the reader comes near.
  function whenNear(element, start) {
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      start();
    }, { rootMargin: "300px" }).observe(element);
  }

  return { put: (name, data) => loaded.set(name, data), load, run, whenNear };
})();

// A click on a head of the last header row sorts, most interesting values first; the third click undoes it.
(function () {
  const TICK = "✓";
  const text = (row, column) => row.cells[column].textContent.trim();

  const number = (cell) => {
    if (cell.dataset.sort !== undefined) return cell.dataset.sort === "" ? NaN : Number(cell.dataset.sort);
    return parseFloat(cell.textContent.trim().replace("−", "-").replace("∞", "Infinity"));
  };

  // What a column is ordered by: a function of a row, and which direction comes first.
  function keyOf(rows, column) {
    const filled = rows.map((row) => row.cells[column]).filter((cell) => cell && /[\w✓]/.test(cell.textContent));
    const ticks = filled.length > 0 && filled.every((cell) => cell.textContent.trim() === TICK);
    if (ticks) return { value: (row) => Number(text(row, column) === TICK), first: "descending" };
    const numeric = filled.some((cell) => !Number.isNaN(number(cell))) &&
      filled.every((cell) => !Number.isNaN(number(cell)) || cell.textContent.trim() === "missing");
    if (numeric) return { value: (row) => number(row.cells[column]), first: "descending" };
    return { value: (row) => text(row, column), first: "ascending" };
  }

  const isControl = (row) => row.cells[0].classList.contains("control");

  const compare = (value, direction) => (a, b) => {
    if (isControl(a) !== isControl(b)) return isControl(a) - isControl(b); // controls: last, either way
    const [x, y] = [value(a), value(b)];
    if (typeof x === "string") return direction * x.localeCompare(y);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // no value: last, either way
    return direction * (x - y || 0); // two infinite values are equal
  };

  const OTHER = { ascending: "descending", descending: "ascending" };

  function sortBy(table, rows, head) {
    const { value, first } = keyOf(rows, head.cellIndex);
    const before = head.getAttribute("aria-sort");
    const order = before === null ? first : before === first ? OTHER[first] : null;
    head.parentNode.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    if (order) head.setAttribute("aria-sort", order);
    const sorted = order ? rows.slice().sort(compare(value, order === "ascending" ? 1 : -1)) : rows;
    table.tBodies[0].append(...sorted);
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    const rows = Array.from(table.tBodies[0].rows);
    for (const head of table.tHead.rows[table.tHead.rows.length - 1].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(table, rows, head));
      head.append(button);
    }
  });

  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const box = target.closest(".scroll");
      box.previousElementSibling.hidden = box.scrollWidth <= box.clientWidth + 1;
    }
  });
  document.querySelectorAll(".scroll, .scroll > table").forEach((element) => sizes.observe(element));

  const closed = [];
  addEventListener("beforeprint", () => {
    closed.push(...document.querySelectorAll("details:not([open])"));
    closed.forEach((details) => { details.open = true; });
    for (const image of document.images) image.loading = "eager"; // pictures out of sight are printed too
  });
  addEventListener("afterprint", () => closed.splice(0).forEach((details) => { details.open = false; }));
})();
