// folds code: a button over each cell, one for all at the head of the page; what was chosen for all is remembered
document.addEventListener("DOMContentLoaded", () => {
  const cells = [...document.querySelectorAll("div.cell_input")].filter(c => !c.closest("details"));
  if (!cells.length) return;
  const set = (cell, folded) => {
    cell.classList.toggle("folded", folded);
    const button = cell.querySelector(".fold"),
      lines = cell.textContent.trim().split("\n").length;
    button.textContent = folded ? "▸ code" : "▾ code";
    button.setAttribute("aria-expanded", String(!folded));
  };
  for (const cell of cells) {
    const button = document.createElement("button");
    button.className = "fold";
    button.type = "button";
    button.addEventListener("click", () => set(cell, !cell.classList.contains("folded")));
    cell.prepend(button);
    set(cell, false);
  }
  const all = document.createElement("button");
  all.className = "fold-all";
  all.type = "button";
  let folded = false;
  const setAll = to => {
    folded = to;
    all.textContent = to ? "Show all code" : "Fold all code";
    cells.forEach(c => set(c, to));
    try {
      localStorage.setItem("folded", to ? "1" : "");
    } catch (e) {
      /* private mode */
    }
  };
  all.addEventListener("click", () => setAll(!folded));
  document.querySelector("article h1").after(all);
  let remembered = false;
  try {
    remembered = Boolean(localStorage.getItem("folded"));
  } catch (e) {
    /* private mode */
  }
  setAll(remembered);
});
