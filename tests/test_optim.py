"""Optimisers against their formulas and against torch's own where it has one."""

import pytest
import torch

from conftest import tiny
from hrm_lab import optim
from hrm_lab.model import HRM


def test_adam_atan2_is_its_formula():
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    o = optim.AdamAtan2([p], lr=0.1, betas=(0.9, 0.95), weight_decay=0.01)
    m, v, x = torch.zeros(2), torch.zeros(2), p.detach().clone()
    for t in range(1, 6):
        g = torch.tensor([0.3, -4.0]) * t
        p.grad = g.clone()
        o.step()
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        x = x * (1 - 0.1 * 0.01) - 0.1 * torch.atan2(m / (1 - 0.9**t), (v / (1 - 0.95**t)).sqrt())
        torch.testing.assert_close(p.detach(), x)


def test_adam_atan2_does_not_depend_on_the_scale_of_the_loss():
    def path(scale):
        p = torch.nn.Parameter(torch.ones(3))
        o = optim.AdamAtan2([p], lr=0.1)
        for t in range(4):
            p.grad = scale * torch.tensor([1.0, -2.0, 0.5]) * (t + 1)
            o.step()
        return p.detach()

    torch.testing.assert_close(path(1.0), path(1e6))


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_orthogonalise_levels_the_singular_values_and_keeps_the_vectors(shape):
    torch.manual_seed(0)
    g = torch.randn(3, *shape)
    out = optim.orthogonalise(g)
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    inner = u.mT @ out @ v.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert (values > 0.5).all() and (values < 1.4).all()
    assert (inner - torch.diag_embed(values)).abs().max() < 0.05


def test_muon_moves_as_torchs_own_does():
    """torch.optim.Muon orthogonalises in bf16, so directions agree to about 1 %."""
    torch.manual_seed(0)
    start, grads = torch.randn(16, 32), [torch.randn(16, 32) for _ in range(3)]
    a, b = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    ours = optim.Muon([a], lr=0.1, momentum=0.95, weight_decay=0.0)
    theirs = torch.optim.Muon([b], lr=0.1, momentum=0.95, weight_decay=0.0)
    for g in grads:
        a.grad, b.grad = g.clone(), g.clone()
        ours.step()
        theirs.step()
    x, y = (a - start).flatten().detach(), (b - start).flatten().detach()
    assert float(torch.cosine_similarity(x, y, dim=0)) > 0.99
    assert float(x.norm() / y.norm()) == pytest.approx(1.0, abs=0.05)


def test_sign_sgd_touches_only_the_rows_in_the_batch():
    p = torch.nn.Parameter(torch.ones(3, 2))
    o = optim.SignSGD([p], lr=0.1, weight_decay=0.5)
    p.grad = torch.tensor([[0.0, 0.0], [2.0, -1.0], [0.0, 0.0]])
    o.step()
    torch.testing.assert_close(p.detach(), torch.tensor([[1.0, 1.0], [0.85, 1.05], [1.0, 1.0]]))


def test_every_parameter_has_exactly_one_optimizer():
    model = HRM(tiny(num_puzzles=3, prefix=1, puzzle_dim=16))
    for name in optim.OPTIMIZERS:
        built = optim.build(name, model, 1e-3, 0.1, (0.9, 0.95), 1e-2)
        held = [id(p) for o in built for g in o.param_groups for p in g["params"]]
        assert sorted(held) == sorted(id(p) for p in model.parameters())
    with pytest.raises(ValueError, match="optimizer: got 'sgd', expected one of adamw, adam-atan2, muon"):
        optim.build("sgd", model, 1e-3, 0.1, (0.9, 0.95), 1e-2)
