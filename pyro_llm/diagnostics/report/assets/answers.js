// What comes before and after the tree: the answers, the latent values, the account.
function showFacts(data) {
  byId("title").textContent = data.prompt || `${data.decides_by ? "Search" : "Posterior"} by ${data.algorithm}`;
  const [run, particles] = data.is_chain ? ["chain", "draw"] : ["run", "particle"];
  const [evidence, error] = data.log_evidence;
  const facts = [data.algorithm, `${counted(data.num_runs, run)} of ${counted(data.num_particles, particles)}`];
  if (evidence !== null) facts.push(`log-evidence ${figure(evidence)}${error === null ? "" : ` ± ${figure(error)}`}`);
  if (data.ess.length) facts.push(`final ESS ${data.ess.slice(0, 8).map((ess) => ess.toFixed(0)).join(", ")}${data.ess.length > 8 ? ", …" : ""} of ${data.num_particles}`);
  if ((data.settings.stopped_by || "none") !== "none") facts.push(`stopped when its budget of ${data.settings.stopped_by.replaceAll("_", " ")} was spent`);
  byId("facts").textContent = facts.join(" · ");
}

function showAnswers(data) {
  const section = byId("answers"), kind = data.is_chain ? "chain" : "run";
  section.hidden = data.answers.length === 0;
  if (data.decides_by) byId("answers-title").textContent = "Decision";
  const rows = data.answers.map((answer, rank) => {
    const bar = make("i"), track = make("div", { class: "track", "aria-hidden": "true" }, bar);
    bar.style.width = `${100 * answer.probability}%`;
    let interval = null;
    if (answer.low !== null) {
      const whisker = make("b");
      whisker.style.left = `${100 * answer.low}%`;
      whisker.style.width = `${100 * (answer.high - answer.low)}%`;
      track.append(whisker);
      interval = make("small", {}, `${percent(answer.low)} – ${percent(answer.high)}`);
    }
    if (answer.log_score !== null) interval = make("small", {}, `log-score ${figure(answer.log_score)}`);
    return make("li", {}, [
      make("span", { class: rank ? "value" : "value first", title: answer.label }, snippet(answer.label, 60)), track,
      make("span", { class: "number" }, [percent(answer.probability), interval]),
    ]);
  });
  section.append(make("ol", { class: "answers" }, rows));
  const notes = [];
  if (data.other_answers[0]) notes.push(`${counted(data.other_answers[0], "other answer")}, ${percent(data.other_answers[1])} together.`);
  if (data.decides_by) notes.push(`The search decides by the ${data.decides_by}: its answers are in that order. Bars are shares of the particles, no probabilities.`);
  else if (data.answers.some((answer) => answer.low !== null)) notes.push(`Posterior probability, with its 95 % interval by the spread over ${kind}s (Student's t).`);
  else if (data.num_runs === 1) notes.push(`Posterior probability. A single ${kind} gives no interval: take several.`);
  if (data.note) notes.push(`Note: ${data.note}.`);
  section.append(make("p", { class: "note" }, notes.join(" ")));
}

function tableOf(caption, headings, rows, words) {
  const cell = (kind) => (value, place) => make(kind, { class: place === words ? "words" : null, scope: kind === "th" ? "col" : null }, value);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, make("table", {}, [
    make("caption", {}, caption), make("thead", {}, make("tr", {}, headings.map(cell("th")))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map(cell("td"))))),
  ]));
}

function showSites(data) {
  const section = byId("sites");
  section.hidden = data.sites.length === 0;
  if (section.hidden) return;
  section.append(tableOf(`Posterior of the sites that are single numbers, pooled over ${data.is_chain ? "chains" : "runs"}`,
    ["site", "mean", "s.d.", "5 %", "median", "95 %"],
    data.sites.map((site) => [site.name, ...[site.mean, site.standard_deviation, site.low, site.median, site.high].map((value) => figure(value, 3))]), 0));
}

function factsList(pairs) {
  return make("dl", { class: "facts-list" }, pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

const COSTS = {
  lm_calls: "Forward passes of language models", lm_tokens_forwarded: "Tokens forwarded",
  lm_tokens_read: "Tokens read", lm_tokens_sampled: "Tokens sampled",
  reward_calls: "Calls of rewards", reward_tokens: "Tokens of rewards", seconds: "Seconds",
  peak_memory_bytes: "Peak memory of the caches, bytes", peak_device_bytes: "Peak memory of the device, bytes",
};

function showAccount(data) {
  const shown = Object.entries(data.costs).filter(([name, value]) => value !== 0 || name === "seconds");
  const costs = shown.map(([name, value]) => [COSTS[name] || name.replaceAll("_", " "), value.toLocaleString("en", { maximumFractionDigits: 2 })]);
  byId("account").append(make("div", { class: "columns" }, [
    make("div", {}, [make("h3", {}, "Cost"), factsList(costs)]),
    make("div", {}, [make("h3", {}, "Settings"), factsList(Object.entries(data.settings).map(([name, value]) => [name.replaceAll("_", " "), value]))]),
  ]));
}
