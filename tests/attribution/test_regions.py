import torch

from stages.attribution import regions


def test_a_box_and_a_disc_are_where_they_are_said_to_be():
    assert regions.box(4, 0.5, 0.0, 1.0, 0.25).tolist() == [[0, 0, 1, 1], [0] * 4, [0] * 4, [0] * 4]
    disc = regions.disc(64, 0.5, 0.5, 0.25)
    assert abs(disc.mean() - torch.pi / 16) < 0.005
    assert torch.equal(disc, disc.flip(0)) and torch.equal(disc, disc.T)
    assert regions.disc(64, 0.0, 1.0, 0.25)[48:, :16].sum() == regions.disc(64, 0.0, 1.0, 0.25).sum() > 0
