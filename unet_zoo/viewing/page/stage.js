// The stage: two canvases over one another, the picture below and what is drawn above,
// so that brightness and contrast are the browser's work and touch no outline.

function makeStage(place, colours, tell) {
  const below = place.querySelector("#picture");
  const above = place.querySelector("#drawing");
  const inks = colours.map((rgb) => `rgb(${rgb.join(",")})`);
  const look = { outline: 1, fill: 0, brightness: 1, contrast: 1, outlines: true };
  let frame = null;
  let fill = null;
  let muted = () => false;
  let chosen = new Set(); // ranks
  let hovered = 0;
  let scale = 1;
  let left = 0;
  let top = 0;
  let fitted = true;
  let waiting = false;
  // The outlines as they were drawn last: thousands take a while, so that what is only
  // hovered or chosen is drawn over them, and what moves takes them along until it rests.
  const layer = document.createElement("canvas");
  let drawn = { key: "" };
  let version = 0; // of what outlines are drawn of
  let touched = 0;
  let rest = 0;

  const sizes = () => [place.clientWidth, place.clientHeight];

  function fitScale() {
    const [width, height] = sizes();
    return 0.96 * Math.min(width / frame.width, height / frame.height);
  }

  function fit() {
    if (!frame) return;
    const [width, height] = sizes();
    scale = fitScale();
    left = (width - scale * frame.width) / 2;
    top = (height - scale * frame.height) / 2;
    fitted = true;
    draw();
  }

  function zoom(factor, x = sizes()[0] / 2, y = sizes()[1] / 2) {
    if (!frame) return;
    const next = Math.min(Math.max(scale * factor, fitScale() / 4), 80);
    left = x - ((x - left) * next) / scale;
    top = y - ((y - top) * next) / scale;
    scale = next;
    fitted = false;
    touched = performance.now();
    draw();
  }

  function pan(dx, dy) {
    if (!frame) return;
    // Some of the image stays in sight.
    const [width, height] = sizes();
    const margin = 40;
    left = Math.min(Math.max(left + dx, margin - scale * frame.width), width - margin);
    top = Math.min(Math.max(top + dy, margin - scale * frame.height), height - margin);
    fitted = false;
    touched = performance.now();
    draw();
  }

  // Centre on a box of pixels. It takes a quarter of the stage, neighbours the rest;
  // who has zoomed in already keeps the scale as long as the box fits.
  function find(box) {
    const [width, height] = sizes();
    const [x0, y0, x1, y1] = box;
    const wanted = 0.25 * Math.min(width / (x1 - x0), height / (y1 - y0));
    const close = scale > 1.2 * fitScale() && scale < 3 * wanted;
    if (!close) scale = Math.min(Math.max(wanted, fitScale()), 40);
    left = width / 2 - (scale * (x0 + x1)) / 2;
    top = height / 2 - (scale * (y0 + y1)) / 2;
    fitted = false;
    draw();
  }

  function rankAt(x, y) {
    if (!frame) return 0;
    const column = Math.floor((x - left) / scale);
    const row = Math.floor((y - top) / scale);
    const inside =
      column >= 0 && row >= 0 && column < frame.width && row < frame.height;
    return inside ? frame.ranks[row * frame.width + column] : 0;
  }

  function draw() {
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  }

  function prepared(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = sizes();
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    // Pixels are shown as such once they are large enough to be told apart.
    context.imageSmoothingEnabled = scale < 2;
    return context;
  }

  function paint() {
    waiting = false;
    const ground = prepared(below);
    const ink = prepared(above);
    if (!frame) return;
    const area = [left, top, scale * frame.width, scale * frame.height];
    ground.fillStyle = "#3a4048";
    ground.fillRect(...area);
    if (frame.picture) ground.drawImage(frame.picture, ...area);
    below.style.filter = `brightness(${look.brightness}) contrast(${look.contrast})`;
    if (look.fill > 0) {
      ink.globalAlpha = look.fill;
      ink.drawImage((fill ||= filled()), ...area);
      ink.globalAlpha = 1;
    }
    if (look.outlines && look.outline > 0) paintOutlines(ink);
    if (hovered && !chosen.has(hovered)) marked(ink, hovered, 1.5);
    for (const rank of chosen) marked(ink, rank, 2.5);
    place.dataset.scale = scale;
    place.dataset.left = left;
    place.dataset.top = top;
  }

  function visible(rank) {
    const [width, height] = sizes();
    const box = frame.boxes;
    return (
      left + scale * box[4 * rank + 2] > 0 &&
      left + scale * box[4 * rank] < width &&
      top + scale * box[4 * rank + 3] > 0 &&
      top + scale * box[4 * rank + 1] < height
    );
  }

  function trace(context, rank, inset) {
    for (const loop of frame.loops[rank]) {
      for (let at = 0; at < loop.length; at += 4) {
        const x = left + scale * loop[at] + inset * loop[at + 2];
        const y = top + scale * loop[at + 1] + inset * loop[at + 3];
        if (at) context.lineTo(x, y);
        else context.moveTo(x, y);
      }
      context.closePath();
    }
  }

  function paintOutlines(ink) {
    const [width, height] = sizes();
    const key = [scale, left, top, width, height, look.outline, version].join();
    if (key !== drawn.key) {
      const moving = performance.now() - touched < 150;
      if (moving && drawn.heavy && drawn.version === version) {
        const by = scale / drawn.scale;
        const corner = [left - by * drawn.left, top - by * drawn.top];
        ink.drawImage(layer, ...corner, by * drawn.width, by * drawn.height);
        clearTimeout(rest);
        rest = setTimeout(draw, 160);
        return;
      }
      const heavy = outlines(prepared(layer)) > 20000;
      drawn = { key, scale, left, top, width, height, version, heavy };
    }
    ink.drawImage(layer, 0, 0, width, height);
  }

  // Draw all outlines in sight and return their number of corners.
  function outlines(ink) {
    const thick = scale < 0.6 ? 0.9 : scale < 1 ? 1.2 : 1.6;
    let corners = 0;
    const groups = inks.map(() => []);
    const quiet = [];
    for (let rank = 1; rank <= frame.count; rank++) {
      if (!visible(rank)) continue;
      for (const loop of frame.loops[rank]) corners += loop.length / 4;
      (muted(rank) ? quiet : groups[frame.colour[rank]]).push(rank);
    }
    const stroke = (ranks, colour, alpha) => {
      if (!ranks.length) return;
      ink.globalAlpha = alpha;
      ink.strokeStyle = colour;
      ink.lineWidth = thick;
      ink.beginPath();
      for (const rank of ranks) trace(ink, rank, thick / 2);
      ink.stroke();
    };
    stroke(quiet, "#9aa0a6", 0.45 * look.outline);
    groups.forEach((ranks, number) => stroke(ranks, inks[number], look.outline));
    ink.globalAlpha = 1;
    return corners;
  }

  function marked(ink, rank, thick) {
    ink.lineJoin = "round";
    for (const [colour, width] of [["#000", thick + 2], ["#fff", thick]]) {
      ink.strokeStyle = colour;
      ink.lineWidth = width;
      ink.beginPath();
      trace(ink, rank, 0);
      ink.stroke();
    }
    ink.lineJoin = "miter";
  }

  function filled() {
    const canvas = document.createElement("canvas");
    canvas.width = frame.width;
    canvas.height = frame.height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(frame.width, frame.height);
    const words = new Uint32Array(image.data.buffer); // little-endian, as all are
    const tint = new Uint32Array(frame.count + 1);
    for (let rank = 1; rank <= frame.count; rank++) {
      const rgb = muted(rank) ? [110, 115, 120] : colours[frame.colour[rank]];
      tint[rank] = (255 << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0];
    }
    for (let at = 0; at < words.length; at++) words[at] = tint[frame.ranks[at]];
    context.putImageData(image, 0, 0);
    return canvas;
  }

  // === Mouse, fingers, keys ===

  const fingers = new Map();
  let moved = 0;

  const placed = (event) => {
    const box = place.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  place.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 16 : 1;
      const speed = event.ctrlKey ? 0.01 : 0.0016;
      zoom(Math.exp(-event.deltaY * unit * speed), ...placed(event));
    },
    { passive: false },
  );

  place.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    place.setPointerCapture(event.pointerId);
    if (!fingers.size) moved = 0;
    fingers.set(event.pointerId, placed(event));
  });

  place.addEventListener("pointermove", (event) => {
    const [x, y] = placed(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      hover(rankAt(x, y), x, y);
      return;
    }
    const [dx, dy] = [x - before[0], y - before[1]];
    moved += Math.hypot(dx, dy);
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId);
      const [ox, oy] = other[1];
      const was = Math.hypot(before[0] - ox, before[1] - oy);
      if (was > 0) zoom(Math.hypot(x - ox, y - oy) / was, ox, oy);
    } else if (moved > 3) {
      place.classList.add("dragged");
      pan(dx, dy);
    }
    fingers.set(event.pointerId, [x, y]);
  });

  const lifted = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    place.classList.remove("dragged");
    if (event.type === "pointerup" && moved <= 3 && !fingers.size) {
      tell.chosen(rankAt(...placed(event)), event.ctrlKey || event.metaKey);
    }
  };
  place.addEventListener("pointerup", lifted);
  place.addEventListener("pointercancel", lifted);
  place.addEventListener("pointerleave", () => hover(0, 0, 0));
  place.addEventListener("dblclick", fit);

  place.addEventListener("keydown", (event) => {
    const step = 60;
    const moves = {
      ArrowLeft: [step, 0],
      ArrowRight: [-step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    pan(...moves[event.key]);
  });

  function hover(rank, x, y) {
    tell.hovered(rank, x, y);
    if (rank === hovered) return;
    hovered = rank;
    draw();
  }

  new ResizeObserver(() => (fitted ? fit() : draw())).observe(place);

  return {
    fit,
    zoom,
    find,
    draw,
    look,
    show(next, same) {
      const alike = same && next.width === frame.width && next.height === frame.height;
      frame = next;
      fill = null;
      version++;
      hovered = 0;
      chosen = new Set();
      if (alike && !fitted) draw();
      else fit();
    },
    choose(ranks) {
      chosen = ranks;
      draw();
    },
    mute(test) {
      muted = test;
      fill = null;
      version++;
      draw();
    },
  };
}
