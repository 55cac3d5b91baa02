// What a frame holds, decoded: the rank of every pixel's object, and their outlines.

function stored(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream();
  const plain = stream.pipeThrough(new DecompressionStream("deflate"));
  return new Response(plain).arrayBuffer();
}

// Rows are stored as differences from the row above, modulo the size of the numbers.
async function ranksOf(frame) {
  const buffer = await inflated(frame.labels);
  const Kind = frame.ids.length < 65536 ? Uint16Array : Uint32Array;
  const ranks = new Kind(buffer);
  for (let at = frame.width; at < ranks.length; at++) {
    ranks[at] += ranks[at - frame.width];
  }
  return ranks;
}

// Boxes [left, top, right, bottom) of every rank, and which ranks touch which.
function measured(ranks, width, height, count) {
  const boxes = new Int32Array(4 * (count + 1));
  const touching = Array.from({ length: count + 1 }, () => new Set());
  for (let rank = 0; rank <= count; rank++) {
    boxes[4 * rank] = width;
    boxes[4 * rank + 1] = height;
  }
  const meet = (one, other) => {
    if (one && other && one !== other) {
      touching[one].add(other);
      touching[other].add(one);
    }
  };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const rank = ranks[at];
      if (!rank) continue;
      const box = 4 * rank;
      if (x < boxes[box]) boxes[box] = x;
      if (y < boxes[box + 1]) boxes[box + 1] = y;
      if (x >= boxes[box + 2]) boxes[box + 2] = x + 1;
      if (y >= boxes[box + 3]) boxes[box + 3] = y + 1;
      if (x) meet(rank, ranks[at - 1]);
      if (y) meet(rank, ranks[at - width]);
    }
  }
  return { boxes, touching };
}

// A colour for every rank: that of its id, unless a neighbour has it.
function coloured(ids, touching, colours) {
  const chosen = new Uint8Array(ids.length + 1);
  const done = new Uint8Array(ids.length + 1);
  for (let rank = 1; rank <= ids.length; rank++) {
    const uses = new Array(colours).fill(0);
    for (const other of touching[rank]) if (done[other]) uses[chosen[other]]++;
    let best = (ids[rank - 1] - 1) % colours;
    for (let step = 1, first = best; step < colours && uses[best]; step++) {
      const next = (first + step) % colours;
      if (uses[next] < uses[best]) best = next;
    }
    chosen[rank] = best;
    done[rank] = 1;
  }
  return chosen;
}

// The outline of every rank along the edges of its pixels, clockwise, holes the other
// way round. Each outline is a list of closed loops of corners [x, y, inX, inY, ...]:
// (inX, inY) points from the corner into the object, so that a line of any width can be
// drawn inside, where neighbours do not cover one another.
function outlined(ranks, width, height, count) {
  const loops = Array.from({ length: count + 1 }, () => []);
  const seen = new Uint8Array(ranks.length);
  const at = (x, y) =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : ranks[y * width + x];
  // For a step east, south, west, north: the step, and from the vertex that it reaches
  // the pixels ahead on the left and on the right.
  const stepX = [1, 0, -1, 0];
  const stepY = [0, 1, 0, -1];
  const left = [[0, -1], [0, 0], [-1, 0], [-1, -1]];
  const right = [[0, 0], [-1, 0], [-1, -1], [0, -1]];
  const inward = [[0, 1], [-1, 0], [0, -1], [1, 0]];
  for (let startY = 0; startY < height; startY++) {
    for (let startX = 0; startX < width; startX++) {
      const start = startY * width + startX;
      const rank = ranks[start];
      if (!rank || seen[start] || at(startX, startY - 1) === rank) continue;
      const corners = [];
      let x = startX;
      let y = startY;
      let heading = 0;
      do {
        if (heading === 0) seen[y * width + x] = 1;
        x += stepX[heading];
        y += stepY[heading];
        const ahead = at(x + right[heading][0], y + right[heading][1]) === rank;
        const beyond = at(x + left[heading][0], y + left[heading][1]) === rank;
        if (ahead && !beyond) continue;
        const next = (heading + (ahead ? 3 : 1)) % 4;
        const across = heading % 2 ? next : heading;
        const down = heading % 2 ? heading : next;
        corners.push(x, y, inward[down][0], inward[across][1]);
        heading = next;
      } while (x !== startX || y !== startY || heading !== 0);
      loops[rank].push(Int32Array.from(corners));
    }
  }
  return loops;
}

async function decoded(frame, colours) {
  const count = frame.ids.length;
  const ranks = await ranksOf(frame);
  const { width, height } = frame;
  const { boxes, touching } = measured(ranks, width, height, count);
  const colour = coloured(frame.ids, touching, colours.length);
  const loops = outlined(ranks, width, height, count);
  const rankOf = new Map(frame.ids.map((id, index) => [id, index + 1]));
  const picture = await pictureOf(frame.picture);
  return { ...frame, count, ranks, boxes, colour, loops, rankOf, picture };
}

function pictureOf(address) {
  if (!address) return null;
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("A picture of this page is damaged."));
    image.src = address;
  });
}
