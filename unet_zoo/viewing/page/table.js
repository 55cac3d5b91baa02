// The table of objects: only the rows in sight exist, so that any number will do.

const ROW = 26; // height of a row, as in page.css

function makeTable(place, tell) {
  const scroller = place.querySelector(".scroller");
  const head = place.querySelector("thead tr");
  const body = place.querySelector("tbody");
  const counter = place.querySelector("#count");
  let names = [];
  let data = []; // columns
  let rows = 0;
  let hidden = new Set(); // columns that say nothing
  let order = []; // rows that are shown, sorted
  let passing = new Uint8Array(0); // of every row: whether it passes the filters
  let chosen = new Set(); // rows
  let current = -1;
  let frame = null; // show rows of this frame only; null: of all
  let sort = { column: "", down: false };
  let filters = new Map(); // column: [least, most]

  const column = (name) => data[names.indexOf(name)];
  const numeric = (values) =>
    values.some((value) => typeof value === "number") &&
    values.every((value) => value === null || typeof value === "number");

  function show(found, columns) {
    names = found.columns;
    data = columns;
    rows = found.rows;
    hidden = new Set(["image"]);
    if (new Set(column("frame") || []).size < 2) hidden.add("frame");
    chosen = new Set();
    current = -1;
    filters = new Map([...filters].filter(([name]) => names.includes(name)));
    if (!names.includes(sort.column)) sort = { column: "", down: false };
    drawHead();
    arrange();
    scroller.scrollTop = 0;
  }

  function drawHead() {
    head.replaceChildren();
    names.forEach((name, index) => {
      if (hidden.has(name)) return;
      const cell = document.createElement("th");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name.replaceAll("_", " ");
      button.title = `Sort by ${name}`;
      button.addEventListener("click", () => {
        const again = sort.column === name;
        sortBy(name, again ? !sort.down : false);
        tell.sorted();
      });
      cell.dataset.column = name;
      cell.scope = "col";
      cell.append(button);
      cell.classList.toggle("number", numeric(data[index]));
      // Widths must not depend on which rows are in sight.
      let longest = button.textContent.length + 2;
      for (const value of data[index]) {
        longest = Math.max(longest, written(value).length);
      }
      cell.style.minWidth = `${Math.min(longest, 40)}ch`;
      head.append(cell);
    });
    marks();
  }

  function marks() {
    for (const cell of head.children) {
      const name = cell.dataset.column;
      const way = sort.down ? "descending" : "ascending";
      if (name === sort.column) cell.setAttribute("aria-sort", way);
      else cell.removeAttribute("aria-sort");
      cell.classList.toggle("filtered", filters.has(name));
    }
  }

  function sortBy(name, down) {
    if (!names.includes(name)) return;
    sort = { column: name, down };
    arrange();
    if (current >= 0) reveal(current);
  }

  function arrange() {
    const limits = [...filters].map(([name, range]) => [column(name), ...range]);
    passing = new Uint8Array(rows);
    order = [];
    const times = frame === null ? null : column("frame");
    for (let row = 0; row < rows; row++) {
      const passes = limits.every(
        ([values, least, most]) =>
          values[row] !== null && values[row] >= least && values[row] <= most,
      );
      passing[row] = passes ? 1 : 0;
      if (passes && (!times || times[row] === frame)) order.push(row);
    }
    const values = column(sort.column);
    if (values) {
      const way = sort.down ? -1 : 1;
      const compare = numeric(values)
        ? (a, b) => a - b
        : (a, b) => String(a).localeCompare(String(b), undefined, { numeric: true });
      order.sort((one, other) => {
        const [a, b] = [values[one], values[other]];
        // What was not measured comes last, whichever way.
        if (a === null || b === null) return (a === null) - (b === null) || one - other;
        return way * compare(a, b) || one - other;
      });
    }
    marks();
    const of = order.length === rows ? "" : ` of ${rows}`;
    counter.textContent = `${order.length}${of} object${rows === 1 ? "" : "s"}`;
    draw();
  }

  function written(value) {
    if (value === null) return "";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return String(value);
    const size = Math.abs(value);
    return size >= 1e6 || size < 1e-3
      ? value.toExponential(2)
      : value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4);
  }

  function draw() {
    const seen = Math.ceil(scroller.clientHeight / ROW);
    const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 8);
    const last = Math.min(order.length, first + seen + 24);
    const parts = [spacer(first)];
    for (let at = first; at < last; at++) parts.push(line(order[at], at));
    parts.push(spacer(order.length - last));
    body.replaceChildren(...parts);
    place.querySelector("table").setAttribute("aria-rowcount", order.length + 1);
  }

  function spacer(count) {
    const row = document.createElement("tr");
    row.className = "spacer";
    row.setAttribute("aria-hidden", "true");
    row.style.height = `${count * ROW}px`;
    return row;
  }

  function line(row, at) {
    const drawn = document.createElement("tr");
    drawn.dataset.row = row;
    drawn.dataset.object = column("label")[row];
    drawn.id = `row-${row}`;
    drawn.setAttribute("aria-rowindex", at + 2);
    drawn.setAttribute("aria-selected", chosen.has(row));
    drawn.classList.toggle("current", row === current);
    names.forEach((name, index) => {
      if (hidden.has(name)) return;
      const cell = document.createElement("td");
      cell.textContent = written(data[index][row]);
      cell.classList.toggle("number", typeof data[index][row] === "number");
      drawn.append(cell);
    });
    return drawn;
  }

  function reveal(row) {
    const at = order.indexOf(row);
    if (at < 0) return;
    const top = at * ROW;
    const room = scroller.clientHeight - head.offsetHeight;
    if (top < scroller.scrollTop || top + ROW > scroller.scrollTop + room) {
      scroller.scrollTop = Math.max(0, top - room / 2);
    }
    draw();
  }

  function choose(next, latest) {
    chosen = next;
    current = latest;
    scroller.removeAttribute("aria-activedescendant");
    if (current >= 0) {
      scroller.setAttribute("aria-activedescendant", `row-${current}`);
      reveal(current);
    }
    draw();
  }

  scroller.addEventListener("scroll", draw);
  new ResizeObserver(draw).observe(scroller);
  body.addEventListener("click", (event) => {
    const found = event.target.closest("tr[data-row]");
    if (!found) return;
    const row = Number(found.dataset.row);
    if (event.shiftKey && current >= 0) {
      const [a, b] = [order.indexOf(current), order.indexOf(row)].sort((x, y) => x - y);
      tell.range(order.slice(Math.max(a, 0), b + 1), row);
    } else tell.chosen(row, event.ctrlKey || event.metaKey);
  });
  scroller.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(scroller.clientHeight / ROW) - 2);
    const last = order.length - 1;
    const at = order.indexOf(current);
    const next = {
      ArrowDown: Math.min(at + 1, last),
      ArrowUp: Math.max(at - 1, 0),
      PageDown: Math.min(at + page, last),
      PageUp: Math.max(at - page, 0),
      Home: 0,
      End: last,
      Enter: at,
    }[event.key];
    if (next === undefined || next < 0 || event.target !== scroller) return;
    event.preventDefault();
    tell.chosen(order[next], false);
  });

  // As people's programs read it: every column, every digit that there is.
  function csv() {
    const quoted = (value) => {
      const text = value === null ? "" : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const said = (value) => (value === true ? "True" : value === false ? "False" : value);
    const lines = order.map((row) => data.map((each) => quoted(said(each[row]))));
    return [names.map(quoted), ...lines].map((line) => `${line.join(",")}\n`).join("");
  }

  return {
    show,
    choose,
    csv,
    sortBy,
    value: (name, row) => column(name)?.[row],
    rows: () => rows,
    passes: (row) => passing[row] === 1,
    sort: () => sort,
    filters: () => filters,
    numbers: () => names.filter((name) => !hidden.has(name) && numeric(column(name))),
    filter(name, least, most) {
      if (least === -Infinity && most === Infinity) filters.delete(name);
      else filters.set(name, [least, most]);
      arrange();
    },
    clear() {
      filters.clear();
      arrange();
    },
    only(time) {
      frame = time;
      arrange();
      if (current >= 0) reveal(current);
    },
  };
}
