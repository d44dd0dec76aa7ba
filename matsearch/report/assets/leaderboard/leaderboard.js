"use strict";
(() => {
  // Sorting: every header of a board is a button; cells without a value stay last.
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
  };
  const sort = (table, column, descending) => {
    const body = table.tBodies[0];
    const sign = descending ? -1 : 1;
    const rows = [...body.rows];
    rows.sort((first, second) => {
      const [a, b] = [value(first, column), value(second, column)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const [x, y] = [Number(a), Number(b)];
      return sign * (Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
    });
    body.replaceChildren(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, number) => {
      if (number === column) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
  };
  for (const table of document.querySelectorAll("table.board")) {
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const before = cell.getAttribute("aria-sort");
        sort(table, column, before ? before === "ascending" : cell.dataset.better === "max");
      });
    });
  }

  // Weights: the score is the weighted mean of the shares of the other lines that a line stands before.
  const inputs = [...document.querySelectorAll(".weights input")];
  const score = () => {
    for (const table of document.querySelectorAll("table.ranked")) {
      const rows = [...table.tBodies[0].rows];
      const titles = [...table.tHead.rows[0].cells];
      const used = inputs
        .map((input) => [titles.findIndex((cell) => cell.dataset.key === input.name), Math.max(0, Number(input.value) || 0)])
        .filter(([column, weight]) => column >= 0 && weight > 0);
      const total = used.reduce((sum, [, weight]) => sum + weight, 0);
      const points = (row, column) => {
        const { rank } = row.cells[column].dataset;
        return rank === undefined ? 0 : rows.length === 1 ? 1 : (rows.length - Number(rank)) / (rows.length - 1);
      };
      for (const row of rows) {
        const sum = used.reduce((all, [column, weight]) => all + weight * points(row, column), 0);
        const cell = row.querySelector(".score");
        cell.dataset.value = total ? String(sum / total) : "";
        cell.textContent = total ? (sum / total).toFixed(2) : "–";
      }
      const column = titles.findIndex((cell) => cell.dataset.key === "score");
      sort(table, column, true);
      [...table.tBodies[0].rows].forEach((row, number) => {
        const place = row.querySelector(".place");
        place.dataset.value = String(number + 1);
        place.textContent = String(number + 1);
      });
    }
  };
  inputs.forEach((input) => input.addEventListener("input", score));
  document.querySelectorAll(".weights").forEach((one) => { one.hidden = false; });

  // Colours: as the system has them, or the other ones.
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  const paint = () => { root.dataset.theme = chosen ?? (system.matches ? "dark" : "light"); };
  system.addEventListener("change", paint);
  paint();
  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => { chosen = root.dataset.theme === "dark" ? "light" : "dark"; paint(); });
})();
