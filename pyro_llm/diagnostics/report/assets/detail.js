// What is known of the chosen node, and the text of its lineage.
function swatch(value) {
  const square = make("span", { class: "swatch", "aria-hidden": "true" });
  square.style.background = colours.of(value) || "var(--idle)";
  return square;
}

function showDetail(panel, view, data) {
  const node = view.selected, { nodes } = view;
  if (node === null) {
    panel.replaceChildren(make("p", { class: "muted" }, data.texts.length > 1
      ? "Choose a node to read what its particles wrote, and what came before."
      : "Choose a node for its figures. The program of this run wrote no texts."));
    return;
  }
  const go = (direction, sign, name) => {
    const target = view.towards(node, direction);
    return make("button", { type: "button", "aria-label": name, title: name, disabled: target === node, onclick: () => { view.select(target, false); panel.querySelector(`[aria-label="${name}"]`).focus(); } }, sign);
  };
  const moves = make("div", { class: "moves", role: "group", "aria-label": "Go along the tree" }, [
    go("left", "←", "Ancestor"), go("right", "→", "Heaviest descendant"), go("up", "↑", "Node above"), go("down", "↓", "Node below"),
    make("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => { view.select(null); view.groups[node].focus(); } }, "✕"),
  ]);
  const reward = rewardText(data, nodes.reward[node]);
  const rows = [
    [data.exact_widths ? "Weight at the step" : "Share of the particles", percent(nodes.weight[node])],
    ["Particles", nodes.particles[node].toLocaleString("en")],
    reward === null ? null : [data.colour === "log-odds" ? "Reward, log-odds" : "Log-factor", reward],
    ["Descendants at the end", nodes.survivors[node] ? `${nodes.survivors[node].toLocaleString("en")}, ${percent(nodes.final[node])} of the ${data.decides_by ? "particles" : "weight"}` : "none: it died out"],
    nodes.leads_to[node].length ? ["Leads to", nodes.leads_to[node].map(([answer, weight]) => `${snippet(data.node_answers[answer], 24)} (${percent(weight)})`).join(", ")] : null,
    ["Observed site", data.course.names[nodes.step[node]]],
  ];
  panel.replaceChildren(
    moves, make("h3", {}, `Step ${nodes.step[node] + 1} of ${view.numSteps}${nodes.idle[node] ? ", had finished" : ""}`),
    said(view, data, node) || "", factsList(rows.filter(Boolean)), lineageList(view, data, node) || "",
  );
}

function said(view, data, node) {
  const { nodes } = view, text = textOf(data, nodes, node);
  if (nodes.rest[node]) return make("p", { class: "note" }, "Branches too light to be drawn each by itself.");
  return text && text.trim() ? make("pre", { class: "said" }, text.replace(/^\n+|\n+$/g, "")) : null;
}

function lineageList(view, data, node) {
  const path = view.lineage(node).filter((relative) => (textOf(data, view.nodes, relative) || "").trim());
  if (!path.length || (path.length === 1 && path[0] === node)) return null;
  const items = path.map((relative) => make("li", {}, make("button", {
    type: "button", "aria-current": relative === node ? "true" : null, onclick: () => view.select(relative, true),
  }, [swatch(view.nodes.reward[relative]), make("span", { class: "muted" }, String(view.nodes.step[relative] + 1)), make("span", {}, textOf(data, view.nodes, relative).trim())])));
  return make("div", {}, [make("h3", {}, "The text up to here"), make("ol", { class: "lineage" }, items)]);
}

// The tree as a table, made when it is first opened.
function tableAlternative(view, data) {
  const details = make("details", {}, make("summary", {}, "The tree as a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const { nodes } = view;
    const rows = nodes.step.map((step, node) => [
      String(node + 1), String(step + 1), nodes.parent[node] < 0 ? "–" : String(nodes.parent[node] + 1),
      nodes.rest[node] ? "(many light branches)" : nodes.idle[node] ? "(had finished)" : (textOf(data, nodes, node) || "").trim(),
      percent(nodes.weight[node]), rewardText(data, nodes.reward[node]) || "–", String(nodes.particles[node]), String(nodes.survivors[node]),
    ]);
    details.append(tableOf(`Run ${view.tree.run + 1}: each node, its step, the node it descends from, and what it holds`,
      ["node", "step", "ancestor", "text", data.exact_widths ? "weight" : "share", data.colour, "particles", "descendants"], rows, 3));
  });
  return details;
}
