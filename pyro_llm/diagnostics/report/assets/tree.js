// The tree as SVG: one group for each step, so that going through time hides and shows whole groups.
function rewardText(data, value) {
  if (value === null) return null;
  if (data.colour !== "log-odds") return figure(value);
  return `${value > 0 ? "+" : ""}${figure(value)} (${percent(1 / (1 + Math.exp(-value)))})`;
}

function textOf(data, nodes, node) {
  return nodes.text[node] === null ? null : data.texts[nodes.text[node]];
}

function describe(data, nodes, node, numSteps) {
  const text = textOf(data, nodes, node), reward = rewardText(data, nodes.reward[node]);
  return [
    `Step ${nodes.step[node] + 1} of ${numSteps}`,
    nodes.rest[node] ? "many light branches together" : null,
    `${percent(nodes.weight[node])} of the ${data.exact_widths ? "weight" : "particles"}, ${counted(nodes.particles[node], "particle")}`,
    reward === null ? null : `${data.colour} ${reward}`,
    nodes.survivors[node] ? `${counted(nodes.survivors[node], "particle")} of the end descend from it` : "died out",
    nodes.idle[node] ? "had finished" : text === null ? null : `text: ${text.trim()}`,
  ].filter((part) => part !== null).join("; ");
}

class TreeView {
  constructor(holder, data, events) {
    Object.assign(this, { holder, data, events, numSteps: data.course.names.length, selected: null, current: 0 });
  }

  show(tree) {
    this.tree = tree;
    this.nodes = tree.nodes;
    this.family = childrenOf(this.nodes);
    this.selected = null;
    this.groups = this.nodes.step.map((step, node) => this.makeNode(node));
    this.columns = Array.from({ length: this.numSteps }, (_, step) => draw("g", { class: "column", role: "none", "data-step": step }));
    this.words = Array.from({ length: this.numSteps }, () => draw("g", { class: "column" }));  // over all branches
    this.guides = draw("g", { "aria-hidden": "true" });
    this.svg = draw("svg", { role: "tree", "aria-orientation": "horizontal", "aria-label": `Genealogy of run ${tree.run + 1}: ${counted(this.nodes.step.length, "node")} in ${counted(this.numSteps, "step")}. Left and right go to ancestors and descendants, up and down to neighbours.` }, [this.guides, this.columns, draw("g", { "aria-hidden": "true" }, this.words)]);
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("click", (event) => {
      const group = event.target.closest(".node");
      if (group) this.select(Number(group.dataset.node), true);
    });
    this.holder.replaceChildren(this.svg);
    this.recolour();
  }

  makeNode(node) {
    const { nodes } = this;
    const kind = ["node", nodes.survivors[node] ? "" : "dead", nodes.idle[node] ? "idle" : "", nodes.rest[node] ? "rest" : ""];
    const parts = [draw("path", { class: "ribbon" }), draw("rect", { class: "block", rx: 2, width: BLOCK })];
    const group = draw("g", {
      class: kind.filter(Boolean).join(" "), role: "treeitem", tabindex: -1, "data-node": node, "aria-selected": "false",
      "aria-level": nodes.step[node] + 1, "aria-label": describe(this.data, nodes, node, this.numSteps),
    }, parts);
    [group.ribbon, group.block] = parts;
    group.label = draw("text", { class: nodes.survivors[node] ? "label" : "label lost" });
    return group;
  }

  arrange(options) {
    const { nodes } = this, narrow = this.holder.clientWidth < 620;
    const weights = options.final ? nodes.final : nodes.weight;
    const plan = this.plan = layout(nodes, this.family, this.numSteps, {
      width: Math.max(280, this.holder.clientWidth), narrow, weights, hideDead: options.hideDead, answers: this.data.node_answers.length > 0,
    });
    fill(this.svg, { width: plan.width, height: plan.height, viewBox: `0 0 ${plan.width} ${plan.height}` });
    plan.columns.forEach((column, step) => {
      for (const node of column) this.place(node, plan);
      this.columns[step].replaceChildren(...column.map((node) => this.groups[node]));
      this.words[step].replaceChildren(...column.map((node) => this.groups[node].label).filter((label) => label.textContent));
    });
    this.drawGuides(options.resampled);
    if (!plan.shown[this.current]) this.current = plan.columns[0][0];
    this.rove(this.current);
  }

  place(node, plan) {
    const { nodes } = this, group = this.groups[node], step = nodes.step[node];
    const x = plan.x(step), y = plan.top[node], size = plan.size[node], port = plan.ports[node];
    fill(group.block, { x, y, height: size });
    if (port) {
      const from = plan.x(step - 1) + BLOCK, bend = (from + x) / 2, n = (value) => value.toFixed(1);
      group.ribbon.setAttribute("d", `M${n(from)} ${n(port[0])}C${n(bend)} ${n(port[0])} ${n(bend)} ${n(y)} ${n(x)} ${n(y)}V${n(y + size)}C${n(bend)} ${n(y + size)} ${n(bend)} ${n(port[1])} ${n(from)} ${n(port[1])}Z`);
    } else group.ribbon.setAttribute("d", "");
    const label = this.labelOf(node, plan);
    group.label.textContent = label;
    if (label) fill(group.label, { x: x + BLOCK + 4, y: y + size / 2 + 4 });
  }

  labelOf(node, plan) {
    const { nodes, data } = this;
    if (!plan.labelled) return "";
    const [lead] = nodes.leads_to[node];
    if (nodes.step[node] === this.numSteps - 1 && lead) return `\u2192 ${snippet(data.node_answers[lead[0]], 12)}`;
    if (nodes.rest[node]) return snippet(`${nodes.particles[node]} more`, plan.chars);
    return snippet(textOf(data, nodes, node) || "", plan.chars);
  }

  drawGuides(resampled) {
    const { plan } = this, every = Math.ceil(26 / Math.max(plan.pitch, 1)), marks = [];
    for (let step = 0; step < this.numSteps; step += 1) {
      const x = plan.x(step) + BLOCK / 2;
      if (step % every === 0) marks.push(draw("text", { class: "tick", x, y: 17, "text-anchor": "middle" }, String(step + 1)));
      if (resampled[step]) {
        const middle = x + plan.pitch - BLOCK;
        marks.push(draw("line", { class: "guide resampled", x1: middle, x2: middle, y1: 22, y2: plan.pitch < 70 ? 29 : plan.height - 4 }));
      }
    }
    this.guides.replaceChildren(...marks);
  }

  recolour() {
    this.groups.forEach((group, node) => {
      const colour = colours.of(this.nodes.reward[node]);
      for (const part of [group.ribbon, group.block]) {
        if (colour) part.setAttribute("fill", colour);
        else part.setAttribute("fill", "var(--idle)");
      }
    });
  }

  time(step) {
    [this.columns, this.words].forEach((layer) => layer.forEach((column, index) => column.classList.toggle("later", index > step)));
    if (this.nodes.step[this.current] > step) this.rove(this.plan.columns[step][0] ?? 0);
  }

  // Bring a step into sight where the tree is wider than its place.
  follow(step) {
    const x = this.plan.x(step);
    if (x + 90 > this.holder.scrollLeft + this.holder.clientWidth || x < this.holder.scrollLeft) this.holder.scrollLeft = x - this.holder.clientWidth / 2;
  }

  rove(node) {
    this.groups[this.current].setAttribute("tabindex", -1);
    this.groups[node].setAttribute("tabindex", 0);
    this.current = node;
  }

  lineage(node) {
    const path = [];
    for (let at = node; at >= 0; at = this.nodes.parent[at]) path.unshift(at);
    return path;
  }

  select(node, focus) {
    if (this.selected !== null) this.groups[this.selected].setAttribute("aria-selected", "false");
    this.svg.querySelectorAll(".kin").forEach((part) => part.classList.remove("kin"));
    this.selected = node;
    this.svg.classList.toggle("picked", node !== null);
    if (node !== null) {
      const kin = this.lineage(node), waiting = [node];
      while (waiting.length) waiting.push(...this.family.children[waiting[0]]), kin.push(waiting.shift());
      kin.forEach((relative) => [this.groups[relative], this.groups[relative].label].forEach((part) => part.classList.add("kin")));
      this.groups[node].setAttribute("aria-selected", "true");
      this.rove(node);
      if (focus) this.groups[node].focus({ preventScroll: true });
    }
    this.events.selected(node);
  }

  // The node in a direction: its parent, its heaviest child, the next above or below in its step; itself if none.
  towards(node, direction) {
    const column = this.plan.columns[this.nodes.step[node]], place = column.indexOf(node);
    if (direction === "left") return this.nodes.parent[node] >= 0 ? this.nodes.parent[node] : node;
    if (direction === "right") {
      const next = this.family.children[node].find((child) => this.plan.shown[child]);
      return next === undefined || this.nodes.step[next] > this.events.now() ? node : next;
    }
    return column[clamp(place + (direction === "up" ? -1 : 1), 0, column.length - 1)];
  }

  key(event) {
    const directions = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
    let node = null;
    if (event.key in directions) node = this.towards(this.current, directions[event.key]);
    else if (event.key === "Home") node = this.lineage(this.current)[0];
    else if (event.key === "Enter" || event.key === " ") this.select(this.current, true);
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
    if (node !== null) { this.rove(node); this.groups[node].focus({ preventScroll: false }); if (this.selected !== null) this.select(node, false); }
  }
}
