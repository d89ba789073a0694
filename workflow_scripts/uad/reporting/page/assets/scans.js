// The table of single scans: one place and arm at a time, filtered, sorted, a hundred rows at once.
"use strict";

(function () {
  const source = document.getElementById("scan-places");
  if (!source) return;
  const places = JSON.parse(source.textContent);
  const AT_ONCE = 100;

  const by = (name) => document.getElementById(`scans-${name}`);
  const [placeChoice, armChoice, filter, table, more] = ["place", "arm", "filter", "table", "more"].map(by);
  const extremes = document.querySelectorAll("#scans button.extreme");
  const [headRow, body] = [table.tHead.rows[0], table.tBodies[0]];
  let data = null;
  let shown = AT_ONCE;
  let sorted = { column: null, ascending: false };
  let round = 0; // raised by every choice, so that a load that comes late changes nothing

  const place = () => places[Number(placeChoice.value)];
  const arm = () => data.arms[Number(armChoice.value)];
  const heads = () => ["Subject", "Site", ...data.columns.map((column) => column.title)];

  function valueOf(index, column) {
    if (column === 0) return data.subjects[index];
    return column === 1 ? data.sites[index] : arm().values[column - 2][index];
  }

  function compare(a, b) {
    const [x, y] = [valueOf(a, sorted.column), valueOf(b, sorted.column)];
    if (x === null || y === null) return (x === null) - (y === null); // no value: last, either way
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return sorted.ascending ? order : -order;
  }

  function rowsToShow() {
    const wanted = filter.value.trim().toLowerCase();
    const found = data.subjects.map((_, index) => index).filter(
      (index) => `${data.subjects[index]} ${data.sites[index]}`.toLowerCase().includes(wanted),
    );
    return sorted.column === null ? found : found.sort(compare);
  }

  const cell = (tag, content) => {
    const made = document.createElement(tag);
    made.append(content);
    return made;
  };

  function button(text, title, action) {
    const made = cell("button", text);
    made.type = "button";
    made.title = title;
    made.addEventListener("click", action);
    return made;
  }

  function printed(value, decimals) {
    if (value === null) return "–";
    return decimals === null ? String(value) : value.toFixed(decimals);
  }

  function rowOf(index) {
    const [row, subject] = [document.createElement("tr"), data.subjects[index]];
    const open = uadbench.viewerHas?.(place().file, subject, arm().label);
    const name = open
      ? button(subject, "Open in the viewer", () => uadbench.show(place().file, subject, arm().label)) : subject;
    const head = cell("th", name);
    head.scope = "row";
    const site = cell("td", data.sites[index]);
    site.className = "stub";
    const values = data.columns.map((column, at) => cell("td", printed(arm().values[at][index], column.decimals)));
    row.append(head, site, ...values);
    return row;
  }

  function draw() {
    const rows = rowsToShow();
    by("caption").textContent = `${place().title}, ${arm().label}: scores of single scans`;
    body.replaceChildren(...rows.slice(0, shown).map(rowOf));
    by("message").textContent = `${Math.min(shown, rows.length)} of ${rows.length} scans`;
    more.hidden = rows.length <= shown;
    Array.from(headRow.cells).forEach((head, column) => {
      head.removeAttribute("aria-sort");
      if (column === sorted.column) head.setAttribute("aria-sort", sorted.ascending ? "ascending" : "descending");
    });
    const found = place().arms[Number(armChoice.value)].extremes;
    extremes.forEach((one) => {
      const subject = found[one.dataset.extreme];
      one.disabled = !(subject && uadbench.viewerHas?.(place().file, subject, arm().label));
    });
    table.hidden = false;
  }

  function sortBy(column) {
    const first = column < 2; // names: A first; numbers: the highest first
    if (sorted.column !== column) sorted = { column, ascending: first };
    else if (sorted.ascending === first) sorted = { column, ascending: !first };
    else sorted = { column: null, ascending: false };
    draw();
  }

  function drawHeads() {
    headRow.replaceChildren(...heads().map((title, column) => {
      const head = cell("th", button(title, "Sort by this column", () => sortBy(column)));
      head.scope = "col";
      if (column < 2) head.className = "stub";
      return head;
    }));
  }

  async function choosePlace() {
    const turn = ++round;
    const kept = armChoice.selectedOptions[0]?.textContent;
    armChoice.replaceChildren(...place().arms.map((entry, at) => new Option(entry.label, at)));
    armChoice.value = Math.max(place().arms.findIndex((entry) => entry.label === kept), 0);
    by("message").textContent = "Loading …";
    try {
      const rows = await uadbench.load(`scans/${place().file}`);
      if (turn !== round) return;
      data = rows;
    } catch (error) {
      by("message").textContent = error.message;
      return;
    }
    sorted = { column: null, ascending: false };
    drawHeads();
    restart();
  }

  function restart() {
    shown = AT_ONCE;
    draw();
  }

  uadbench.whenNear(document.getElementById("scans"), () => {
    placeChoice.replaceChildren(...places.map((entry, at) => new Option(entry.title, at)));
    placeChoice.addEventListener("change", choosePlace);
    armChoice.addEventListener("change", restart);
    filter.addEventListener("input", restart);
    more.addEventListener("click", () => {
      shown += AT_ONCE;
      draw();
    });
    extremes.forEach((one) => one.addEventListener("click", () => {
      uadbench.show(place().file, place().arms[Number(armChoice.value)].extremes[one.dataset.extreme], arm().label);
    }));
    by("controls").hidden = false;
    choosePlace();
  });
})();
