// Tables sorted by a click on a heading, or by Enter and Space on it.

function keyOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.key ?? cell.textContent.trim();
}

// Missing values stay below, in both directions.
function compareKeys(a, b, direction) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const [x, y] = [Number(a), Number(b)];
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  return direction * order;
}

function sortBy(table, column, direction) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({ row, place, key: keyOf(row, column) }));
  rows.sort((a, b) => compareKeys(a.key, b.key, direction) || a.place - b.place);
  body.append(...rows.map(({ row }) => row));
}

function sortable(table, number) {
  const heads = [...table.tHead.rows[0].cells];
  const key = `sort ${number}`;
  heads.forEach((head, column) => {
    head.querySelector("button.sort")?.addEventListener("click", () => {
      // Numbers begin with the largest, ranks and words with the first.
      const first = head.classList.contains("number") && column > 0 ? -1 : 1;
      const now = { ascending: 1, descending: -1 }[head.getAttribute("aria-sort")];
      const direction = now ? -now : first;
      sortBy(table, column, direction);
      keep(key, [column, direction]);
      const way = direction > 0 ? "ascending" : "descending";
      say(`sorted by ${head.querySelector("button").textContent.trim()}, ${way}`);
    });
  });
  const before = kept(key, null);
  if (before) sortBy(table, ...before);
}

function say(text) {
  document.getElementById("announcement").textContent = text;
}

// ------------------------------------------------------------------------------------------ definitions
// The definition of a term beside it, while the pointer is on it or it has the focus; Escape hides it.
function definitions() {
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (term) => {
    const source = document.getElementById(term.dataset.tip);
    if (!source) return;
    tip.replaceChildren(...[...source.childNodes].map((node) => node.cloneNode(true)));
    tip.hidden = false;
    const [at, size] = [term.getBoundingClientRect(), tip.getBoundingClientRect()];
    const below = at.bottom + 8 + size.height <= innerHeight;
    tip.style.left = `${Math.max(8, Math.min(at.left, innerWidth - size.width - 8))}px`;
    tip.style.top = `${below ? at.bottom + 8 : Math.max(8, at.top - size.height - 8)}px`;
  };
  for (const term of document.querySelectorAll("[data-tip]")) {
    term.addEventListener("mouseenter", () => show(term));
    term.addEventListener("mouseleave", hide);
    term.addEventListener("focus", () => show(term));
    term.addEventListener("blur", hide);
  }
  addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, { passive: true, capture: true });
}
