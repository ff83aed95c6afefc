// The tree with its controls: which run, what the widths mean, which branches, and the time.
function genealogySection(data, onChange) {
  const section = byId("genealogy");
  if (!data.trees.length) {
    section.append(make("p", { class: "muted" }, data.no_tree));
    return { redraw() {}, recolour() {}, run: 0, now: null };
  }
  const numSteps = data.course.names.length, state = { tree: 0, now: numSteps - 1, hideDead: false, final: false, timer: null };
  const canvas = make("div", { class: "canvas" }), panel = make("aside", { class: "detail", "aria-label": "The chosen node", "aria-live": "polite" });
  const alternative = make("div");
  const view = new TreeView(canvas, data, { selected: () => showDetail(panel, view, data), now: () => state.now });

  const arrange = () => { view.arrange({ hideDead: state.hideDead, final: state.final, resampled: data.course.resampled[view.tree.run] }); view.time(state.now); };
  const choose = (index) => {
    state.tree = index;
    view.show(data.trees[index]);
    arrange();
    showDetail(panel, view, data);
    alternative.replaceChildren(tableAlternative(view, data));
    onChange();
  };

  const slider = make("input", { type: "range", min: 1, max: numSteps, value: numSteps, step: 1, "aria-label": "Step up to which the tree is shown" });
  const output = make("output");
  const goTo = (step, follow = true) => {
    state.now = clamp(step, 0, numSteps - 1);
    slider.value = state.now + 1;
    slider.setAttribute("aria-valuetext", `step ${state.now + 1} of ${numSteps}, ${data.course.names[state.now]}`);
    output.textContent = `step ${state.now + 1} of ${numSteps}`;
    view.time(state.now);
    if (follow) view.follow(state.now);
    onChange();
  };
  slider.addEventListener("input", () => { stop(); goTo(Number(slider.value) - 1); });

  const play = make("button", { type: "button", id: "play", onclick: () => (state.timer === null ? start() : stop()) });
  const stop = () => { clearInterval(state.timer); state.timer = null; play.textContent = "▶"; play.setAttribute("aria-label", "Play"); };
  const start = () => {
    if (state.now === numSteps - 1) goTo(0);
    play.textContent = "⏸"; play.setAttribute("aria-label", "Pause");
    state.timer = setInterval(() => { goTo(state.now + 1); if (state.now === numSteps - 1) stop(); }, clamp(12000 / numSteps, 250, 900));
  };
  stop();

  const tools = make("div", { class: "tools" });
  if (data.trees.length > 1) {
    const select = make("select", { id: "run", onchange: () => choose(Number(select.value)) },
      data.trees.map((tree, index) => make("option", { value: index }, `${tree.run + 1} of ${data.num_runs}${data.decides_by ? "" : ` (${percent(tree.share)} of the posterior)`}`)));
    tools.append(make("label", {}, ["Run", select]));
  }
  tools.append(
    make("label", {}, ["Width", make("select", { id: "widths", onchange: (event) => { state.final = event.target.value === "final"; arrange(); } }, [
      make("option", { value: "then" }, data.exact_widths ? "weight at the step" : "share of the particles"), make("option", { value: "final" }, data.decides_by ? "share of descendants at the end" : "final weight of descendants")])]),
    make("label", {}, [make("input", { type: "checkbox", id: "hide-dead", onchange: (event) => { state.hideDead = event.target.checked; if (state.hideDead && view.selected !== null && !view.nodes.survivors[view.selected]) view.select(null); arrange(); } }), "Hide branches that died out"]),
    make("div", { class: "time", role: "group", "aria-label": "Time" }, [play,
      make("button", { type: "button", id: "back", "aria-label": "One step back", onclick: () => { stop(); goTo(state.now - 1); } }, "‹"), slider,
      make("button", { type: "button", id: "forth", "aria-label": "One step on", onclick: () => { stop(); goTo(state.now + 1); } }, "›"), output]),
  );
  const scale = make("canvas", { width: 130, height: 10, "aria-hidden": "true" });
  const unit = data.colour === "log-odds" ? "reward, log-odds of acceptance" : "log-factor of the step";
  section.append(tools, make("div", { class: "workbench" }, [make("div", {}, [canvas, make("div", { class: "legend" }, [
    make("span", { class: "scale" }, [`${unit}:`, make("b", {}, figure(colours.low, 1)), scale, make("b", {}, figure(colours.high, 1))]),
    make("span", {}, "width: " + (data.exact_widths ? "weight" : "share")), make("span", {}, "pale: died out"), make("span", {}, "grey: not judged"),
    data.course.resampled.flat().some(Boolean) ? make("span", {}, "dotted: resampled") : null])]), panel]), alternative);
  const redraw = () => arrange();
  const recolour = () => { colours.paint(scale); view.recolour(); showDetail(panel, view, data); };
  colours.paint(scale);
  const shares = data.trees.map((tree) => tree.share), heaviest = shares.indexOf(Math.max(...shares));
  if (byId("run")) byId("run").value = heaviest;
  choose(heaviest);
  goTo(numSteps - 1, false);
  return { redraw, recolour, get run() { return view.tree.run; }, get now() { return state.now; } };
}
