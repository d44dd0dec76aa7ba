"use strict";
// A click on a header sorts by that column; empty cells stay at the end.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const body = table.tBodies[0];
  for (const [column, header] of [...table.tHead.rows[0].cells].entries()) {
    header.addEventListener("click", () => {
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => {
        const text = row.cells[column].textContent.trim();
        return { row, text, value: Number(text.replace("−", "-")) };
      });
      keyed.sort((a, b) => {
        if (!a.text || !b.text) return (a.text ? 0 : 1) - (b.text ? 0 : 1);
        const order = header.classList.contains("n") ? a.value - b.value : a.text.localeCompare(b.text);
        return sign * order;
      });
      body.append(...keyed.map((one) => one.row));
    });
  }
}
const filter = document.getElementById("filter");
if (filter) {
  filter.hidden = false;
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of document.querySelector("#candidates tbody").rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}
