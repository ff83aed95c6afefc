"""The page of the documentation, from the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.runtime import precision
from benchmarks.runtime.comparisons import COMPARISONS
from benchmarks.runtime.plot import IMAGE, plot_growth
from benchmarks.runtime.results import Comparison, load, results_file
from benchmarks.runtime.table import markdown_table

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
DEVICES = {"cpu": "On a CPU", "cuda": "On a GPU"}

HEAD = """\
# Performance

<!-- Written by `make bench-page` from benchmarks/results/runtime-*.json. Do not edit. -->

What decoding costs here, side by side with the peers. `make bench-runtime` measures it anew (`make bench-peers` first
installs the peers; without them their rows are left out), `make bench-gpu` does so on a CUDA device if there is one.

Contenders are timed in one process, in turns and in alternating order, after a warm-up. A ratio is of two times of the
same turn; the table gives the median and the range over turns. That contenders did the same work is checked as they
run: the same model object (it counts its own forward passes), prompt, number of particles, steps and tokens sampled.
Facts that may differ, such as passes and tokens forwarded, are in `benchmarks/results/` next to the times. The model is
a Qwen2 of hidden size 256 and 6 layers with random weights and a vocabulary of 1,024; no token ends a text.
"""

READING = """\
## How to read it

- **All contenders** use the same model object; those that are not ours with transformers' own attention (`sdpa`).
- **The bare loop** reads the prompt once and copies its cache to all rows, then samples a token a row and forwards it,
  128 times. It neither stops, scores, weighs nor resamples.
- **its-hub** sends each particle's text anew at every step. Its language model is an adapter that continues all
  particles in one batch of `generate`; both resample after every step. Its particle filter goes on one step longer than
  it is told, so it is told one less.
- **llamppl** gets a batch size of N, and the prompt's keys and values are put into its cache beforehand, in the time
  that is measured. It reads what follows the prompt anew for every token.
- **Engine overhead** counts everything but forward passes: drawing tokens, log-probabilities, the program, the reward,
  resampling. On a GPU it is measured with a synchronisation around each pass.
- **Re-encoding** reads every distinct text from its first token at each step. Both rewards lead to the same texts,
  which is checked.
- **Growth** is the slope of log time over log size by least squares over the whole range, the other sizes held fixed.
- **Memory** is the most bytes of distinct tensors that the model's sessions and the cache in use hold after any forward
  pass, room not yet written included. The prompt and each particle's own 128 tokens, stored once, bound it at 13.6.
- **`SMCFilter`** keeps the last state only; ours also keeps whole paths, their ancestry and the evidence. The means of
  both are checked against the Kalman filter. What bounds ours is Pyro's own handling of two sites a step, which both
  pay; resampling takes about a quarter of the time, log-probabilities a seventh, paths and history at the end a tenth,
  and watching the generators of random numbers a twelfth.
"""

GROWTH = """\
Each new token attends to all that its text has written before: over steps, any implementation grows faster than
linearly in the end. The bare loop's exponent over the same steps, in the same turns, was {bare:.2f}.
"""

PRECISION = """\
### Precision

Absolute differences from fp32 in nats: of the log-probabilities of all next tokens, and of whole texts that the fp32
model has written (a text's errors add up). Time is that of forwarding the same tokens one by one, in turns. Sampling is
exact in any precision: a text's weight uses the log-probabilities that it was drawn with. Dynamic int8 is torch's
`quantize_dynamic` of the linear layers, on a CPU. It is no option of `load_lm`: on the embedded model it saves little
time and is wrong by nats, and torch is about to remove it. A model so quantised can be handed to `HFLanguageModel`, and
what transformers quantises itself is asked for by `load_lm(..., quantization_config=...)`.
"""

COMPILATION = """\
### Compilation

`load_lm(..., compile=True)` compiles the pass of the token loop, one token a row, as one graph of all the model but its
attention. The attention is one opaque operator, which finds the rows and their slots by itself: a graph that saw them
would be made anew for other numbers of prompts, other starts and other room, and a ragged run soon asked for more
graphs than the 8 that torch allows a function. So there is one graph for a single row and one for any number of rows.
Prompts and given texts are read uncompiled, and the reward model is not compiled, since it reads steps of any length.

With inductor on one thread of a busy CPU, the first run of SMC with N=32 on a prompt of 256 tokens, 8 steps of 16,
took 33 seconds, compilation included; later ones were 1.04 times as fast as uncompiled (0.83 to 1.24 over 5 turns) over
a Qwen2 of hidden size 128 and 2 layers. At hidden size 256 and 6 layers it was 69 seconds, then 1.06 times (0.75 to
1.13). Both ranges hold 1: no gain on a CPU is shown, so it is off by default. `python -m benchmarks.compiled_pass`
measures it. With `"reduce-overhead"` torch records CUDA graphs of what lies between the attentions (the operator is
marked as unsafe for them, as its slots grow and move). Neither has ever run on a GPU.

### Overlap

Within a run the data forbid that the reward model reads while the language model writes: what is scored has just been
written, and what is written next descends from what the scores let live. Between the runs of `run_each` nothing
forbids it. There a reward model on a CUDA device scores in a thread and a stream of its own, and a remote one in a
thread, while the language model draws for the other runs. Texts go in and scores come out through the host, so that
no tensor is used in two streams. On a CPU, where both would want the same cores, they take turns. This has never run on
a GPU: what is tested, on a CPU, is the order of events, with a reward that waits in its thread while the language model
draws. Its gain is not known.
"""


def render(results: Mapping[str, Mapping[str, Comparison]]) -> str:
    """The page, from the comparisons of each device."""
    parts = [HEAD]
    for device, heading in DEVICES.items():
        ordered = {name: results[device][name] for name in COMPARISONS if name in results.get(device, {})}
        if not ordered:
            continue
        parts.append(f"## {heading}\n\n{markdown_table(ordered)}\n\n{_machines(ordered)}")
        if missing := [f"`{name}`" for name in COMPARISONS if name not in ordered]:
            parts.append(f"Without a result so far: {', '.join(missing)}.\n")
        if device == "cpu" and "growth" in ordered:
            parts.append("![Wall time over particles, steps and the length of the prompt](images/growth.svg)\n")
            parts.append(GROWTH.format(bare=ordered["growth"].details["steps"]["bare_exponent"]))
        if "precision" in ordered:
            parts.append(f"{PRECISION}\n{precision.table(ordered['precision'])}\n")
        if device == "cpu":
            parts.append(COMPILATION)
    return "\n".join([*parts, READING])


def write_page() -> None:
    """Write the page and its plot from the results that there are."""
    results = {device: load(results_file(device)) for device in DEVICES}
    PAGE.write_text(render(results), "utf-8")
    if "growth" in results["cpu"]:
        plot_growth(results["cpu"]["growth"], IMAGE)


def _machines(comparisons: Mapping[str, Comparison]) -> str:
    """What the comparisons ran on, those on the same machine and commit together."""
    groups: dict[str, list[str]] = {}
    for name, comparison in comparisons.items():
        groups.setdefault(_machine(comparison.machine), []).append(name)
    if len(groups) == 1:
        return f"Measured on {next(iter(groups))}.\n"
    return "".join(f"- {', '.join(f'`{name}`' for name in names)}: {words}.\n" for words, names in groups.items())


def _machine(facts: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    gpu = f"{facts['gpu']}, " if "gpu" in facts else ""
    return (
        f"{gpu}{facts['processor']}, {facts['cores']} cores, {facts['threads']} threads of torch, Python "
        f"{facts['python']}, {versions}, commit {facts['commit']}"
    )
