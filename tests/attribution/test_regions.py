import pytest
import torch

from stages.attribution import regions


def test_a_box_and_a_disc_are_where_they_are_said_to_be():
    assert regions.box(4, 0.5, 0.0, 1.0, 0.25).tolist() == [[0, 0, 1, 1], [0] * 4, [0] * 4, [0] * 4]
    disc = regions.disc(64, 0.5, 0.5, 0.25)
    assert abs(disc.mean() - torch.pi / 16) < 0.005
    assert torch.equal(disc, disc.flip(0)) and torch.equal(disc, disc.T)
    assert regions.disc(64, 0.0, 1.0, 0.25)[48:, :16].sum() == regions.disc(64, 0.0, 1.0, 0.25).sum() > 0


@pytest.mark.parametrize(("box", "which"), [((0.5, 0, 0.51, 1), "none"), ((0, 0, 1, 1), "all")])
def test_a_region_of_no_pixel_or_of_all_is_refused(box, which):
    with pytest.raises(ValueError, match=f"holds {which} of the 32 x 32 pixels"):
        regions.box(32, *box)
