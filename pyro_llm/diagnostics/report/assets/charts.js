// Lines by step, one for each run, that of the chosen run in front.
function niceTicks(low, high) {
  const raw = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= raw);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9 * step; tick += step) ticks.push(Math.abs(tick) < 1e-12 ? 0 : tick);
  return ticks;
}

function lineChart(section, { name, note, lines, marks, threshold, zero, top, label }) {
  const holder = make("div");
  section.append(make("div", {}, [make("h3", {}, name), holder, note ? make("p", { class: "note" }, note) : null]));
  const values = lines.flat().filter((value) => value !== null);
  let low = zero ? 0 : Math.min(...values), high = top || Math.max(...values);
  if (high - low < 1e-9) { low -= 0.5; high += 0.5; }
  if (!zero) { const margin = 0.06 * (high - low); low -= margin; high += margin; }
  const count = Math.max(...lines.map((line) => line.length));

  return function redraw(chosen, cursor) {
    const width = Math.max(240, holder.clientWidth), height = 190, left = 46, bottom = 26;
    const x = (step) => left + 8 + (count > 1 ? (step / (count - 1)) * (width - left - 18) : (width - left) / 2);
    const y = (value) => 10 + (1 - (value - low) / (high - low)) * (height - bottom - 14);
    const last = lines[chosen].filter((value) => value !== null).at(-1);
    const svg = draw("svg", { width, height, role: "img", "aria-label": `${name}: ${label(chosen)}, ${figure(last, 1)} at the end, from ${figure(low, 1)} to ${figure(high, 1)} over all` });
    for (const tick of niceTicks(low, high)) {
      svg.append(draw("line", { class: "guide", x1: left, x2: width, y1: y(tick), y2: y(tick) }),
        draw("text", { class: "tick", x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, figure(tick, Math.abs(high - low) < 4 ? 1 : 0)));
    }
    const every = Math.ceil(count / Math.max(2, Math.floor((width - left) / 34)));
    for (let step = 0; step < count; step += every) {
      svg.append(draw("text", { class: "tick", x: x(step), y: height - 6, "text-anchor": "middle" }, String(step + 1)));
    }
    if (threshold) svg.append(draw("line", { class: "threshold", x1: left, x2: width, y1: y(threshold), y2: y(threshold) }));
    if (cursor !== null) svg.append(draw("line", { class: "cursor", x1: x(cursor), x2: x(cursor), y1: 6, y2: height - bottom }));
    const order = [...lines.keys()].sort((a, b) => (a === chosen) - (b === chosen));
    for (const run of order) {
      const points = lines[run].flatMap((value, step) => (value === null ? [] : [`${x(step).toFixed(1)},${y(value).toFixed(1)}`]));
      svg.append(draw("polyline", { class: run === chosen ? "line chosen" : "line", points: points.join(" ") }));
      if (run === chosen && points.length === 1) svg.append(draw("circle", { class: "dot", cx: x(0), cy: y(lines[run][0]), r: 4 }));
    }
    (marks ? marks[chosen] : []).forEach((marked, step) => {
      if (marked && lines[chosen][step] !== null) svg.append(draw("circle", { class: "dot", cx: x(step), cy: y(lines[chosen][step]), r: 4 }));
    });
    holder.replaceChildren(svg);
  };
}

function courseCharts(data) {
  const section = byId("course"), course = data.course;
  const run = data.is_chain ? "chain" : "run", charts = [];
  const grid = make("div", { class: "charts" });
  const label = (chosen) => `${run} ${chosen + 1} of ${data.num_runs}`;
  if (course.names.length) {
    if (course.ess.length) charts.push(lineChart(grid, {
      name: "Effective sample size", lines: course.ess, marks: course.resampled, threshold: course.threshold, zero: true,
      top: data.num_particles, label,
      note: (course.resampled.flat().some(Boolean) ? "Dots: the population was resampled. " : "It was never resampled. ") + (course.threshold ? "Dashed: the threshold below which it is." : ""),
    }));
    if (course.log_evidence.flat().some((value) => value !== null)) charts.push(lineChart(grid, {
      name: "Log-evidence up to each step", lines: course.log_evidence, label,
      note: data.log_evidence[1] === null ? `Pooled over runs: ${figure(data.log_evidence[0])}` : `Pooled over runs: ${figure(data.log_evidence[0])} ± ${figure(data.log_evidence[1])}`,
    }));
    charts.push(lineChart(grid, {
      name: "Particles with descendants", lines: course.unique_ancestors, zero: true, top: data.num_particles, label,
      note: "Where it is 1, all that came before is the history of one particle, whatever the effective sample size says.",
    }));
  }
  if (data.trace.some((line) => line.some((value) => value !== null))) charts.push(lineChart(grid, {
    name: "Log joint density by draw", lines: data.trace, label,
    note: data.num_particles < 10 ? "Too few draws to see a trend." : "A chain that has settled shows no trend.",
  }));
  section.append(grid);
  section.hidden = charts.length === 0;
  return (chosen, cursor) => charts.forEach((redraw) => redraw(chosen, data.is_chain ? null : cursor));
}
