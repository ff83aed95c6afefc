// What the diagnostics say: findings in words, the most serious first, and the figures they looked at.
const SIGNS = { serious: "\u2715", warning: "!", note: "i" };

function showVerdict(data) {
  const { findings, figures, healthy } = data.verdict;
  const counts = Object.keys(SIGNS).map((severity) => [severity, findings.filter((found) => found.severity === severity).length]);
  const told = counts.filter(([, count]) => count).map(([severity, count]) => counted(count, severity === "serious" ? "serious finding" : severity));
  byId("verdict").append(
    make("p", { class: healthy ? "verdict good" : "verdict" }, findings.length ? `${told.join(", ")}.` : "Nothing is wrong by what was looked at."),
    make("ul", { class: "findings" }, findings.map((found) => make("li", { class: found.severity }, [
      make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[found.severity]),
      make("div", {}, [make("h3", {}, [found.name.replaceAll("-", " "), make("span", { class: "muted" }, ` ${found.severity}`)]), make("p", {}, found.what), make("p", { class: "muted" }, found.change)]),
    ]))),
  );
  const shown = Object.entries(figures).map(([name, value]) => [name.replaceAll("_", " "), value === null ? "unknown" : figure(value, Number.isInteger(value) ? 0 : 2)]);
  if (shown.length) byId("verdict").append(make("details", {}, [make("summary", {}, "The figures that were looked at"), make("div", { class: "columns" }, factsList(shown))]));
}
