import pyro
import pyro.distributions as dist
import torch

from pyro_llm.infer import SMC


def test_site_names_that_look_like_markup(capsys):
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y[/b]", dist.Normal(x, 1.0), obs=torch.tensor(0.5))

    SMC(model, num_particles=4, progress=True).run()
    assert "(y[/b])" in capsys.readouterr().err
