"""The pictures of the report in the documentation: the demonstration's problem, light and dark, wide and narrow."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pyro
from PIL import Image

import pyro_llm
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM

PROBLEM = (
    "Mia has 47 marbles. Mia buys 48 more. 7 children take 6 marbles each. Tom has 15 fewer than Mia and gives Mia all "
    "of them. How many marbles does Mia have in the end?"
)
PICK = """
  const named = (node) => node.getAttribute('aria-label').includes(arguments[0]);
  const node = [...document.querySelectorAll('.node')].find(named);
  node.dispatchEvent(new MouseEvent('click', {bubbles: true}));
"""


def take(page, path, top, height):
    """A picture of the part of the page between two heights, in 128 colours."""
    width = page.run("return innerWidth")
    page.resize(width, page.run("return document.documentElement.scrollHeight"))
    page.wait("new Promise((done) => setTimeout(() => done(1), 400))")
    page.driver.save_screenshot(str(path))
    with Image.open(path) as image:
        part = image.convert("RGB").crop((0, top, width, min(top + height, image.height)))
    part.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1024:.0f} KiB")


def main(folder):
    from driver import Page, missing  # beside this script

    if reason := missing():
        sys.exit(reason)
    pyro.set_rng_seed(0)
    model = ReasoningSSM(pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus"))
    posterior = SMC(model, num_particles=64, num_runs=4, progress=False).run(PROBLEM)
    with TemporaryDirectory() as temporary:
        report = Path(temporary) / "run.html"
        posterior.report(report)
        page = Page()
        try:
            for name, width, dark, height in (
                ("report-light", 1180, False, 1020),
                ("report-dark", 1180, True, 1020),
                ("report-phone-light", 390, False, 1500),
                ("report-phone-dark", 390, True, 1500),
            ):
                page.open(report, width=width, dark=dark)
                if width > 600:
                    page.run(PICK, "text: 53 + 38 = 91")
                take(page, folder / f"{name}.png", 0, height)
        finally:
            page.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
