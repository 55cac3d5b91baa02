// The page: what is chosen, and the parts that show it.

const byId = (id) => document.getElementById(id);
const manifest = stored("manifest");
const { images, colours } = manifest;
const state = { image: 0, frame: 0 };
let frame = null; // decoded
let chosen = new Set(); // "frame:label", also of objects without a row
let current = ""; // the latest of them
let rowOf = new Map();
let turn = 0; // counts what is being loaded; whoever is late gives up

const keyOf = (time, label) => `${time}:${label}`;
const parted = (key) => key.split(":").map(Number);
const keyOfRow = (row) => keyOf(table.value("frame", row) ?? 0, table.value("label", row));

const stage = makeStage(byId("stage"), colours, {
  chosen(rank, more) {
    if (rank) choose([keyOf(state.frame, frame.ids[rank - 1])], more);
    else if (!more) choose([], false);
  },
  hovered: hint,
});
const table = makeTable(byId("objects"), {
  chosen(row, more) {
    choose([keyOfRow(row)], more);
    if (current) goTo(current);
  },
  range(rows, row) {
    choose(rows.map(keyOfRow), true, keyOfRow(row));
  },
  sorted: remember,
});
const list = makeList(byId("images"), images, (number) => open(number, 0));

// === What is shown ===

async function open(number, time, object = 0) {
  const mine = ++turn;
  document.body.dataset.ready = "";
  byId("wait").hidden = false;
  const image = images[number];
  const changed = number !== state.image || !frame;
  state.image = number;
  state.frame = Math.min(Math.max(time, 0), image.frames - 1);
  list.mark(number);
  try {
    const found = await decoded(stored(`frame-${number}-${state.frame}`), colours);
    const rows = changed ? stored(`table-${number}`) : null;
    const columns = rows && JSON.parse(
      new TextDecoder().decode(await inflated(rows.data)),
    );
    if (mine !== turn) return;
    frame = found;
    if (changed) begin(image, rows, columns);
    stage.show(frame, !changed);
    byId("frame").value = state.frame + 1;
    byId("now").textContent = `${state.frame + 1} of ${image.frames}`;
    table.only(byId("only").checked && image.frames > 1 ? state.frame : null);
    mute();
    if (object) {
      choose([keyOf(state.frame, object)], false);
      goTo(current);
    } else show();
    byId("wait").hidden = true;
    document.body.dataset.ready = `${number + 1}/${state.frame + 1}`;
    remember();
  } catch (error) {
    const old = typeof DecompressionStream === "undefined";
    byId("wait").textContent = old
      ? "This browser is too old for this page: take one of 2023 or later."
      : String(error);
    throw error;
  }
}

function begin(image, rows, columns) {
  chosen = new Set();
  current = "";
  table.show(rows, columns);
  rowOf = new Map();
  for (let row = 0; row < rows.rows; row++) rowOf.set(keyOfRow(row), row);
  byId("time").hidden = byId("single").hidden = image.frames < 2;
  byId("frame").max = image.frames;
  const by = byId("by");
  const before = by.value;
  by.replaceChildren(
    ...table.numbers().map((name) => new Option(name.replaceAll("_", " "), name)),
  );
  by.value = table.numbers().includes(before)
    ? before
    : (table.numbers().find((name) => name === "area") ?? table.numbers()[0]);
  limits();
  about(image);
}

function about(image) {
  const smaller = frame.width < image.width || frame.height < image.height;
  const size = `${image.width} x ${image.height}`;
  const words = [`${image.name}, ${size}`];
  if (smaller) words.push(`shown at ${frame.width} x ${frame.height}`);
  byId("lead").textContent = words.join(", ");
  document.title = `${image.name}: ${manifest.title}`;
  byId("remark").textContent = image.remark;
  byId("remark").hidden = !image.remark;
  const total = images.reduce((sum, each) => sum + each.objects, 0);
  const facts = {
    images: images.length,
    objects: total,
    ...manifest.runs[image.run],
    page: "needs no network and no other file; made by unet-zoo",
  };
  byId("facts").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => {
      const [term, said] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      said.textContent = value;
      return [term, said];
    }),
  );
}

// === What is chosen ===

function choose(keys, more, latest = keys[0]) {
  const before = chosen;
  chosen = new Set(more ? before : []);
  for (const key of keys) {
    if (more && keys.length === 1 && before.has(key)) chosen.delete(key);
    else chosen.add(key);
  }
  current = chosen.has(latest) ? latest : ([...chosen].pop() ?? "");
  show();
  remember();
}

function show() {
  const here = new Set();
  for (const key of chosen) {
    const [time, label] = parted(key);
    const rank = time === state.frame && frame.rankOf.get(label);
    if (rank) here.add(rank);
  }
  stage.choose(here);
  const rows = new Set([...chosen].map((key) => rowOf.get(key)));
  table.choose(rows, rowOf.get(current) ?? -1);
  const said = chosen.size > 1 ? `${chosen.size} chosen` : `object ${parted(current)[1]} chosen`;
  byId("picked").textContent = chosen.size ? said : "";
  byId("copy").disabled = !chosen.size;
}

function goTo(key) {
  const [time, label] = parted(key);
  if (time !== state.frame) {
    open(state.image, time, label);
    return;
  }
  const rank = frame.rankOf.get(label);
  if (rank) stage.find(frame.boxes.subarray(4 * rank, 4 * rank + 4));
}

function mute() {
  const active = table.filters().size > 0;
  stage.mute((rank) => {
    if (!active) return false;
    const row = rowOf.get(keyOf(state.frame, frame.ids[rank - 1]));
    return row !== undefined && !table.passes(row);
  });
}

function hint(rank, x, y) {
  const place = byId("hint");
  place.hidden = !rank;
  if (!rank) return;
  const label = frame.ids[rank - 1];
  const row = rowOf.get(keyOf(state.frame, label));
  const area = row === undefined ? undefined : table.value("area", row);
  place.textContent = `${label}` + (area === undefined ? "" : `   area ${area}`);
  place.style.left = `${x + 14}px`;
  place.style.top = `${y + 14}px`;
}

// === Controls ===

const sliders = { outline: 100, fill: 0, brightness: 100, contrast: 100 };
for (const name of Object.keys(sliders)) {
  byId(name).addEventListener("input", () => {
    stage.look[name] = byId(name).value / 100;
    stage.draw();
    remember();
  });
}
byId("reset").addEventListener("click", () => {
  for (const [name, value] of Object.entries(sliders)) set(name, value);
});
byId("outlines").addEventListener("change", () => {
  stage.look.outlines = byId("outlines").checked;
  stage.draw();
});
byId("closer").addEventListener("click", () => stage.zoom(1.4));
byId("farther").addEventListener("click", () => stage.zoom(1 / 1.4));
byId("whole").addEventListener("click", stage.fit);
byId("frame").addEventListener("input", () => open(state.image, byId("frame").value - 1));
byId("only").addEventListener("change", () => {
  table.only(byId("only").checked ? state.frame : null);
});

function set(name, value) {
  byId(name).value = value;
  byId(name).dispatchEvent(new Event("input"));
}

function limits() {
  const [least, most] = table.filters().get(byId("by").value) ?? [-Infinity, Infinity];
  byId("least").value = Number.isFinite(least) ? least : "";
  byId("most").value = Number.isFinite(most) ? most : "";
}

function filter() {
  const limit = (id, free) => (byId(id).value === "" ? free : Number(byId(id).value));
  table.filter(byId("by").value, limit("least", -Infinity), limit("most", Infinity));
  mute();
  remember();
}
byId("by").addEventListener("change", limits);
byId("least").addEventListener("input", filter);
byId("most").addEventListener("input", filter);
byId("clear").addEventListener("click", () => {
  table.clear();
  limits();
  mute();
  remember();
});

byId("copy").addEventListener("click", async () => {
  const stack = images[state.image].frames > 1;
  const text = [...chosen]
    .map((key) => (stack ? parted(key).join(" ") : parted(key)[1]))
    .join("\n");
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Some browsers keep the clipboard from pages that no server sent.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  byId("picked").textContent = `${chosen.size} copied`;
});

byId("download").addEventListener("click", () => {
  const link = document.createElement("a");
  const file = new Blob([table.csv()], { type: "text/csv" });
  link.href = URL.createObjectURL(file);
  link.download = `${images[state.image].name}_objects_shown.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const beside = (step) => {
    const next = list.beside(state.image, step);
    if (next !== state.image) open(next, 0);
  };
  const time = (step) => {
    const next = state.frame + step;
    if (next >= 0 && next < images[state.image].frames) open(state.image, next);
  };
  const does = {
    o: () => byId("outlines").click(),
    f: () => set("fill", byId("fill").value > 0 ? 0 : 35),
    "[": () => beside(-1),
    "]": () => beside(1),
    ",": () => time(-1),
    ".": () => time(1),
    "+": () => stage.zoom(1.4),
    "=": () => stage.zoom(1.4),
    "-": () => stage.zoom(1 / 1.4),
    0: stage.fit,
    Escape: () => {
      byId("about").open = false;
      choose([], false);
    },
  }[event.key];
  if (does) does();
});

// === The address says what is shown, so that it can be kept and sent ===

let written = "";

function remember() {
  if (!document.body.dataset.ready) return;
  const said = new URLSearchParams({ image: state.image + 1 });
  if (state.frame) said.set("frame", state.frame + 1);
  if (current) said.set("object", parted(current)[1]);
  const { column, down } = table.sort();
  if (column) said.set("sort", (down ? "-" : "") + column);
  for (const [name, [least, most]] of table.filters()) {
    const limit = (value) => (Number.isFinite(value) ? value : "");
    said.append("filter", `${name}:${limit(least)}:${limit(most)}`);
  }
  for (const [name, usual] of Object.entries(sliders)) {
    if (Number(byId(name).value) !== usual) said.set(name, byId(name).value);
  }
  written = `#${said}`;
  try {
    history.replaceState(null, "", written);
  } catch {
    // Not every browser allows it for a file; nothing else depends on it.
  }
}

async function follow() {
  if (location.hash === written && written) return;
  const said = new URLSearchParams(location.hash.slice(1));
  const whole = (name, most) => {
    const value = Number.parseInt(said.get(name) ?? "1", 10);
    return Math.min(Math.max(value || 1, 1), most) - 1;
  };
  for (const name of Object.keys(sliders)) {
    if (said.has(name)) set(name, Number(said.get(name)) || 0);
  }
  const number = whole("image", images.length);
  await open(number, whole("frame", images[number].frames));
  const sort = said.get("sort") ?? "";
  if (sort) table.sortBy(sort.replace(/^-/, ""), sort.startsWith("-"));
  for (const each of said.getAll("filter")) {
    const [name, least, most] = each.split(":");
    if (!table.numbers().includes(name)) continue;
    const limit = (text, free) => (text ? Number(text) : free);
    table.filter(name, limit(least, -Infinity), limit(most, Infinity));
    byId("by").value = name;
  }
  limits();
  mute();
  const object = Number.parseInt(said.get("object") ?? "", 10);
  if (object) {
    choose([keyOf(state.frame, object)], false);
    goTo(current);
  }
  remember();
  document.body.dataset.followed = location.hash;
}

window.addEventListener("hashchange", follow);
follow();
