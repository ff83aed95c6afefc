"""The page in Chromium: what is drawn, pressed and read there."""

import json
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics.report import report_data
from pyro_llm.infer import SMC, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\n"
NODES = "return document.querySelectorAll('.node').length"
SHOWN = "return [...document.querySelectorAll('.node')].filter((node) => !node.closest('.later')).length"
CLICK = (
    "document.querySelector(`[data-node='${arguments[0]}']`).dispatchEvent(new MouseEvent('click', {bubbles: true}))"
)
FOCUS = "return Number(document.activeElement.dataset.node)"


@pytest.fixture(scope="module")
def run(make_run):
    return make_run(num_runs=2, num_particles=12, num_steps=6, words=(HOSTILE, "1 + 2 = 3\n", "answer: 7\n"))


@pytest.fixture
def numeric_run():
    def model():
        for t in range(5):
            x = pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x, 0.02), obs=torch.tensor(1.0))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the weights degenerate is what this is for
        return SMC(model, num_particles=200).run()


@pytest.fixture(scope="module")
def data(run):
    data = report_data(run)
    data.trees.sort(key=lambda tree: -tree.share)  # the page begins with the run of most evidence
    return data


@pytest.fixture(scope="module")
def path(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "run.html"
    run.report(path)
    return path


@pytest.fixture
def page(browser, path):
    browser.log()
    yield browser.open(path)
    assert browser.log() == [], "nothing is amiss on the console, and the policy stops nothing"


def send(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).send_keys(*keys).perform()


def test_the_tree_has_its_nodes_and_runs_can_be_chosen(page, data):
    assert page.run(NODES) == page.run(SHOWN) == len(data.trees[0].nodes)
    page.run(
        "const run = document.querySelector('#run'); run.selectedIndex = 1 - run.selectedIndex;"
        "run.dispatchEvent(new Event('change'))"
    )
    assert page.run(NODES) == len(data.trees[1].nodes)
    answers = [item.text for item in page.all("#answers .value")]
    assert answers == [answer.label for answer in data.answers]


def test_the_verdict_is_told(page, data):
    found = [item.text for item in page.all(".findings li p:nth-of-type(1)")]
    assert found == [" ".join(finding.what.split()) for finding in data.verdict.findings]
    assert page.one(".verdict").text


def test_dead_branches_can_be_hidden(page, data):
    page.one("#hide-dead").click()
    assert page.run(SHOWN) == sum(survivors > 0 for survivors in data.trees[0].nodes.survivors)
    page.one("#hide-dead").click()
    assert page.run(SHOWN) == len(data.trees[0].nodes)


def test_widths_are_weights_and_colours_rewards(page, data):
    nodes = data.trees[0].nodes
    heights = page.run("return [...document.querySelectorAll('.node')].sort((a, b) => a.dataset.node - b.dataset.node)"
                       ".map((node) => Number(node.querySelector('.block').getAttribute('height')))")  # fmt: skip
    heaviest = max(range(len(nodes)), key=nodes.weight.__getitem__)
    for height, weight in zip(heights, nodes.weight, strict=True):
        assert height == pytest.approx(max(1.5, heights[heaviest] * weight / nodes.weight[heaviest]), rel=1e-3)
    fills = page.run(
        "return Object.fromEntries([...document.querySelectorAll('.node')]"
        ".map((node) => [node.dataset.node, node.querySelector('.block').getAttribute('fill')]))"
    )
    light = [sum(int(fills[str(i)][place : place + 2], 16) for place in (1, 3)) for i in range(len(nodes))]
    ranked = sorted(range(len(nodes)), key=lambda node: nodes.reward[node])
    assert light[ranked[0]] < light[ranked[-1]]


def test_nothing_is_drawn_outside_the_picture(browser, numeric_run, tmp_path):
    """Where nearly all weight is on one of many particles, the least height of the others takes room of its own."""
    numeric_run.report(tmp_path / "run.html")
    browser.open(tmp_path / "run.html")
    outside = browser.run(
        "const height = Number(document.querySelector('.canvas svg').getAttribute('height'));"
        "return [...document.querySelectorAll('.block')].map((block) => [Number(block.getAttribute('y')),"
        "Number(block.getAttribute('y')) + Number(block.getAttribute('height'))])"
        ".filter(([top, bottom]) => top < 25 || bottom > height).length"
    )
    assert outside == 0
    gaps = browser.run(
        "return [...document.querySelectorAll('.column[data-step]')].map((column) => {"
        "const boxes = [...column.querySelectorAll('.block')].map((block) => block.getAttribute('y') * 1);"
        "return boxes.slice(1).every((y, index) => y > boxes[index]); })"
    )
    assert all(gaps)
    assert browser.log() == []


def test_time_can_be_stepped_through_and_played(page, data):
    steps = data.trees[0].nodes.step
    page.one("#back").click()
    assert page.run(SHOWN) == sum(step < 5 for step in steps)
    assert page.run("return getComputedStyle(document.querySelector('.later')).display") == "none"
    assert page.one(".time output").text == "step 5 of 6"
    page.one("#forth").click()
    assert page.run(SHOWN) == len(steps)
    slider = page.one(".time input")
    slider.send_keys("\ue011")  # Home
    assert page.run(SHOWN) == steps.count(0)
    slider.send_keys("\ue014")  # arrow to the right
    assert page.run(SHOWN) == sum(step < 2 for step in steps)
    assert slider.get_attribute("aria-valuetext") == "step 2 of 6, accept_1"
    page.one("#play").click()
    assert page.wait("new Promise((done) => setInterval(() => document.querySelector('#play').textContent === '▶' &&"
                     " done(true), 50))")  # fmt: skip
    assert page.run(SHOWN) == len(steps)


def test_a_click_shows_the_text_and_a_hostile_text_stays_text(page, data):
    nodes = data.trees[0].nodes
    hostile = next(i for i in range(len(nodes)) if nodes.step[i] > 1 and data.texts[nodes.text[i]] == HOSTILE)
    page.run(CLICK, hostile)
    assert page.one(".said").text == HOSTILE.strip()
    assert f"Step {nodes.step[hostile] + 1} of 6" in page.one(".detail").text
    assert len(page.all(".lineage li")) == nodes.step[hostile] + 1
    assert page.run("return window.hacked") is None
    assert page.all("img") == []
    assert len(page.all("script")) == 2
    kin = {int(node.get_attribute("data-node")) for node in page.all(".node.kin")}
    assert {hostile, nodes.parent[hostile]} <= kin
    page.one(".close").click()
    assert page.all(".said") == page.all(".kin") == []


def test_the_policy_stops_scripts_that_are_not_ours(browser, path):
    browser.open(path)
    browser.run("const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
                "document.body.append(script)")  # fmt: skip
    assert browser.run("return window.hacked") is None
    assert any("Content Security Policy" in line for line in browser.log())


def test_the_keyboard_goes_along_the_tree(page, data):
    nodes = data.trees[0].nodes
    assert len(page.all(".node[tabindex='0']")) == 1
    page.run("document.querySelector(\".node[tabindex='0']\").focus()")
    start = page.run(FOCUS)
    assert nodes.step[start] == 0
    parent = next(node for node in range(len(nodes)) if nodes.parent[node] >= 0)
    page.run("document.querySelector(`[data-node='${arguments[0]}']`).focus()", parent)
    page.run(CLICK, nodes.parent[parent])
    send(page, "\ue014")
    child = page.run(FOCUS)
    assert nodes.parent[child] == nodes.parent[parent]
    assert nodes.final[child] == max(
        nodes.final[n] for n in range(len(nodes)) if nodes.parent[n] == nodes.parent[parent]
    )
    send(page, "\ue012")
    assert page.run(FOCUS) == nodes.parent[parent]
    send(page, "\ue015")
    assert nodes.step[page.run(FOCUS)] == 0
    assert page.one(".node[aria-selected='true']").get_attribute("data-node") == str(page.run(FOCUS))
    send(page, "\ue00c")
    assert page.all(".node[aria-selected='true']") == []


def test_it_can_be_heard(page, data):
    tree = page.command("Accessibility.getFullAXTree")["nodes"]
    items = [node for node in tree if node.get("role", {}).get("value") == "treeitem"]
    assert len(items) == len(data.trees[0].nodes)
    assert all("of the weight" in item["name"]["value"] for item in items)
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select, input')]"
        ".filter((c) => !c.labels?.length && !c.textContent && !c.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    page.one("#genealogy summary").click()
    page.wait("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    assert len(page.all("#genealogy tbody tr")) == len(data.trees[0].nodes)


@pytest.mark.parametrize(("width", "dark"), [(320, False), (390, True), (1280, True)])
def test_nothing_sticks_out(browser, path, width, dark):
    browser.open(path, width=width, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") == width
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(json.loads(f"[{background[4:-1]}]")) < 200) == dark
    browser.one("#theme").click()
    assert browser.run("return getComputedStyle(document.body).backgroundColor") != background
    browser.run("localStorage.clear()")


def test_large_trees_stay_fluid(browser, make_run, tmp_path):
    """64 particles × 40 steps, no two texts alike: nearly 2,560 nodes. The limits leave slow machines room."""
    words = [f"step {n}: {n} + 1 = {n + 1}\n" for n in range(10**4)]
    posterior = make_run(num_particles=64, num_steps=40, words=words)
    posterior.report(tmp_path / "large.html")
    browser.open(tmp_path / "large.html")
    assert browser.run(NODES) > 2400
    slowest = browser.wait(
        """new Promise((done) => {
          const slider = document.querySelector('.time input'), times = [];
          let step = 0, last = performance.now();
          const next = (now) => {
            times.push(now - last); last = now;
            if (step === 40) { times.sort((a, b) => a - b); done([times[20], times.at(-1)]); return; }
            slider.value = ++step; slider.dispatchEvent(new Event('input'));
            requestAnimationFrame(next);
          };
          requestAnimationFrame(next);
        })"""
    )
    print("milliseconds a frame while stepping, median and slowest:", slowest)
    assert slowest[0] < 100
    redraw = browser.run(
        "const start = performance.now(); document.querySelector('#hide-dead').click();"
        "document.body.getBoundingClientRect(); return performance.now() - start"
    )
    print("milliseconds to hide the dead branches, layout included:", redraw)
    assert redraw < 1000


@pytest.mark.parametrize("num_draws", [5, 10])
@pytest.mark.parametrize("num_chains", [1, 2])
def test_chains_are_called_chains(browser, tmp_path, num_draws, num_chains):
    lm = TableLM(lambda tokens: [0.5, 0.5], ["answer: 95\n", "answer: 94\n"], None)
    model = ReasoningSSM(lm, FunctionReward(lambda text: 0.5), max_steps=1, max_tokens=1)
    pyro.set_rng_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a constant reward
        posterior = ParticleGibbs(model, 8, num_draws, num_chains=num_chains).run("?")
    posterior.report(tmp_path / "chains.html")
    words = browser.open(tmp_path / "chains.html").run("return document.body.innerText")
    assert ("A single chain gives no interval" in words) == (num_chains == 1)
    assert ("interval by the spread over chains" in words) == (num_chains == 2)
    assert "single run" not in words and "over runs" not in words
    assert ("A chain that has settled shows no trend." in words) == (num_draws == 10)
    assert ("Too few draws to see a trend." in words) == (num_draws == 5)
