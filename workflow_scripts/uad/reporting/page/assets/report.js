// Sorting of the tables: a click on a head of the last header row, most interesting values first.
"use strict";

(function () {
  const number = (cell) => {
    if (cell.dataset.sort !== undefined) return cell.dataset.sort === "" ? NaN : Number(cell.dataset.sort);
    return parseFloat(cell.textContent.trim().replace("−", "-").replace("∞", "Infinity"));
  };

  const isNumeric = (rows, column) => {
    const filled = rows.map((row) => row.cells[column]).filter((cell) => cell && /[\w✓]/.test(cell.textContent));
    return filled.some((cell) => !Number.isNaN(number(cell))) &&
      filled.every((cell) => !Number.isNaN(number(cell)) || cell.textContent.trim() === "missing");
  };

  const compare = (column, numeric, direction) => (a, b) => {
    const [left, right] = [a.cells[column], b.cells[column]];
    if (!numeric) return direction * left.textContent.trim().localeCompare(right.textContent.trim());
    const [x, y] = [number(left), number(right)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // no value: last, either way
    return direction * (x - y);
  };

  const sortBy = (table, head) => {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const numeric = isNumeric(rows, head.cellIndex);
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const order = before === first ? (numeric ? "ascending" : "descending") : first;
    head.parentNode.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    rows.sort(compare(head.cellIndex, numeric, order === "ascending" ? 1 : -1));
    body.append(...rows);
  };

  document.querySelectorAll("table.sortable").forEach((table) => {
    for (const head of table.tHead.rows[table.tHead.rows.length - 1].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sortBy(table, head));
      head.append(button);
    }
  });
})();
