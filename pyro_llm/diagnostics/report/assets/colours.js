// Viridis, whose lightness rises evenly: the colour-blind, and a printer without colour, see its order too. Each theme
// leaves out the end that would vanish in its background.
const colours = {
  stops: [], low: 0, high: 1,

  begin(stops, trees, kind) {
    this.stops = stops;
    const values = trees.flatMap((tree) => tree.nodes.reward.filter((value) => value !== null)).sort((a, b) => a - b);
    if (kind === "log-odds") {
      this.low = -5; this.high = 5;
    } else if (values.length) {
      this.low = values[Math.floor(0.02 * (values.length - 1))];
      this.high = values[Math.ceil(0.98 * (values.length - 1))];
    }
    if (this.high - this.low < 1e-9) { this.low -= 0.5; this.high += 0.5; }
  },

  at(share) {
    const [first, last] = isDark() ? [0.22, 1] : [0, 0.9];
    return this.stops[Math.round((first + (last - first) * share) * (this.stops.length - 1))];
  },

  of(value) {
    return value === null ? null : this.at(clamp((value - this.low) / (this.high - this.low), 0, 1));
  },

  paint(canvas) {
    const context = canvas.getContext("2d");
    for (let x = 0; x < canvas.width; x += 1) {
      context.fillStyle = this.at(x / (canvas.width - 1));
      context.fillRect(x, 0, 1, canvas.height);
    }
  },
};

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}
