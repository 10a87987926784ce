"""The embedded tower: its closed-form description is what it says, and timm and open_clip find it."""

import pytest
import timm
import torch

from inspector.detection.embedded_tower import STRIDES_PX, TAP_WIDTHS, Descriptors, EmbeddedTower, cosine_basis


def test_the_cosine_functions_are_orthonormal_and_without_the_constant_one() -> None:
    basis = cosine_basis(8, 8).reshape(63, 64)
    torch.testing.assert_close(basis @ basis.T, torch.eye(63), atol=1e-5, rtol=0)
    assert basis.sum(1).abs().max() < 1e-5


def test_the_taps_have_the_strides_and_widths_that_they_declare() -> None:
    tower = EmbeddedTower().eval()
    with torch.inference_mode():
        taps = tower.forward_intermediates(torch.randn(2, 3, 96, 96))
        some = tower.forward_intermediates(torch.randn(2, 3, 96, 96), [3, 1])
    assert [tuple(tap.shape) for tap in taps] == [
        (2, width, 96 // stride, 96 // stride) for width, stride in zip(TAP_WIDTHS, STRIDES_PX, strict=True)
    ]
    assert [tap.shape[1] for tap in some] == [TAP_WIDTHS[3], TAP_WIDTHS[1]]
    assert [info["num_chs"] for info in tower.feature_info] == list(TAP_WIDTHS)


def test_the_description_of_a_flat_picture_has_its_colour_and_no_spectrum() -> None:
    flat = torch.tensor([0.5, -1.0, 0.25]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    found = Descriptors(8).describe(flat)[0].reshape(104, -1)
    assert found[:98].abs().max() < 1e-3
    torch.testing.assert_close(found[98:101], torch.tensor([0.5, -1.0, 0.25])[:, None].expand(3, 64))
    torch.testing.assert_close(found[101:], torch.full((3, 64), 0.01))  # the root of the ε under it


def test_the_description_tells_directions_and_frequencies_apart() -> None:
    axis = torch.arange(64, dtype=torch.float32)
    waves = {period: torch.cos(2 * torch.pi * axis / period).expand(1, 3, 64, 64) for period in (4, 16)}
    describe = Descriptors(8).describe
    middle = {name: describe(wave)[0, :98, 4, 4] for name, wave in waves.items()}
    turned = describe(waves[4].transpose(2, 3))[0, :98, 4, 4]
    assert (middle[4] - middle[16]).norm() > 2.0
    assert (middle[4] - turned).norm() > 2.0


def test_timm_finds_the_tower_and_has_no_weights_for_it() -> None:
    assert isinstance(timm.create_model("inspector_embedded"), EmbeddedTower)
    with pytest.raises(ValueError, match="no weights on a hub"):
        timm.create_model("inspector_embedded", pretrained=True)
    with pytest.raises(ValueError, match="intermediates_only"):
        EmbeddedTower().forward_intermediates(torch.zeros(1, 3, 64, 64), intermediates_only=False)
