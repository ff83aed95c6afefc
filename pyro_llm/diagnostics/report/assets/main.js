// Reads the data and puts the page together.
const data = JSON.parse(byId("data").textContent);

showFacts(data);
showAnswers(data);
showVerdict(data);
showSites(data);
showAccount(data);
colours.begin(data.colours, data.trees, data.colour);

let genealogy = null;
const charts = courseCharts(data);
const redrawCharts = () => { if (genealogy) charts(genealogy.run, genealogy.now === null ? null : genealogy.now); };
genealogy = genealogySection(data, redrawCharts);
redrawCharts();

const button = byId("theme");
function nameTheme() {
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
}
function keep(theme) { try { localStorage.setItem("pyro-llm-theme", theme); } catch { /* a page from a file may not */ } }
function kept() { try { return localStorage.getItem("pyro-llm-theme"); } catch { return null; } }
function retheme() { nameTheme(); genealogy.recolour(); }
if (["light", "dark"].includes(kept())) document.documentElement.dataset.theme = kept();
button.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  keep(document.documentElement.dataset.theme);
  retheme();
});
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
retheme();

let width = window.innerWidth, waiting = 0;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return;  // phones resize when their address bar hides
  width = window.innerWidth;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => { genealogy.redraw(); redrawCharts(); });
});
document.documentElement.dataset.ready = "true";
