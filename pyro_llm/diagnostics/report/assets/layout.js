// Where the nodes of a tree stand. Columns are steps; heights are weights; branches never cross, as the children of a
// node stand together, in the order of their parents.
const BLOCK = 9, EDGE = 16, TOP = 30, BOTTOM = 14;

function childrenOf(nodes) {
  const children = nodes.step.map(() => []);
  nodes.parent.forEach((parent, node) => { if (parent >= 0) children[parent].push(node); });
  const before = (a, b) => nodes.rest[a] - nodes.rest[b] || nodes.final[b] - nodes.final[a] || nodes.weight[b] - nodes.weight[a] || a - b;
  children.forEach((group) => group.sort(before));
  return { children, roots: nodes.step.flatMap((step, node) => (nodes.parent[node] < 0 ? [node] : [])).sort((a, b) => nodes.step[a] - nodes.step[b] || before(a, b)) };
}

function columnsOf(nodes, family, numSteps, shown) {
  const columns = [];
  for (let step = 0; step < numSteps; step += 1) {
    const roots = family.roots.filter((node) => nodes.step[node] === step);
    const offspring = step ? columns[step - 1].flatMap((node) => family.children[node]) : [];
    columns.push([...offspring, ...roots].filter((node) => shown[node]));
  }
  return columns;
}

function layout(nodes, family, numSteps, options) {
  const shown = nodes.step.map((_, node) => !options.hideDead || nodes.survivors[node] > 0);
  const columns = columnsOf(nodes, family, numSteps, shown);
  const rows = Math.max(...columns.map((column) => column.length));
  const right = options.answers && rows <= 40 ? 92 : EDGE;
  const room = options.width - EDGE - right - BLOCK;
  const pitch = numSteps > 1 ? clamp(room / (numSteps - 1), options.narrow ? (numSteps > 20 ? 40 : 118) : 24, 190) : 0;
  const labelled = (pitch >= 62 || numSteps === 1) && rows <= 40;
  const unit = Math.min(labelled ? 14 : rows <= 64 ? 5 : 3, 760 / rows);
  const thickness = Math.max(150, 0.35 * rows * unit);
  const size = nodes.step.map((_, node) => (shown[node] ? Math.max(1.5, thickness * options.weights[node]) : 0));
  const height = Math.max(...columns.map((column) => column.reduce((sum, node) => sum + size[node] + unit, 0)));
  const top = new Float64Array(nodes.step.length);
  columns.forEach((column) => stack(column, size, top, unit, height));
  for (let pass = 0; pass < 3; pass += 1) {
    for (let step = numSteps - 2; step >= 0; step -= 1) align(columns[step], size, top, unit, height, (node) => {
      const group = family.children[node].filter((child) => shown[child]);
      return group.length ? mean(group, (child) => top[child] + size[child] / 2, (child) => size[child]) : null;
    });
    const ports = portsOf(nodes, family, shown, size, top);
    for (let step = 1; step < numSteps; step += 1) {
      align(columns[step], size, top, unit, height, (node) => (ports[node] ? (ports[node][0] + ports[node][1]) / 2 : null));
    }
  }
  return {
    columns, shown, size, top, pitch, labelled, ports: portsOf(nodes, family, shown, size, top),
    x: (step) => EDGE + step * pitch, width: Math.max(options.width, EDGE + (numSteps - 1) * pitch + BLOCK + right),
    height: TOP + height + BOTTOM, chars: numSteps > 1 ? Math.floor((pitch - BLOCK - 8) / 6.1) : 60,
  };
}

function stack(column, size, top, unit, height) {
  const total = column.reduce((sum, node) => sum + size[node] + unit, -unit);
  let y = TOP + Math.max(0, (height - total) / 2);
  for (const node of column) { top[node] = y; y += size[node] + unit; }
}

// Towards where each node would rather be, but no two into each other, and none out of the picture.
function align(column, size, top, unit, height, centre) {
  let floor = TOP;
  for (const node of column) {
    const wish = centre(node);
    top[node] = Math.max(floor, wish === null ? top[node] : wish - size[node] / 2);
    floor = top[node] + size[node] + unit;
  }
  let ceiling = TOP + height;
  for (let index = column.length - 1; index >= 0; index -= 1) {
    const node = column[index];
    if (top[node] + size[node] <= ceiling) break;
    top[node] = ceiling - size[node];
    ceiling = top[node] - unit;
  }
}

// The part of its parent's height from which each node's branch comes: as many particles, so much of it.
function portsOf(nodes, family, shown, size, top) {
  const ports = nodes.step.map(() => null);
  family.children.forEach((group, parent) => {
    const visible = group.filter((child) => shown[child]);
    const total = visible.reduce((sum, child) => sum + nodes.particles[child], 0);
    let y = top[parent];
    for (const child of visible) {
      const part = (size[parent] * nodes.particles[child]) / total;
      ports[child] = [y, y + part];
      y += part;
    }
  });
  return ports;
}

function mean(items, value, weight) {
  let total = 0, sum = 0;
  for (const item of items) { total += weight(item); sum += weight(item) * value(item); }
  return sum / total;
}
