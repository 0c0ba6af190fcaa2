"""What a network computes: as its authors and libraries publish it, whatever its groups, and whatever its batch."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models import work
from models.detectors import TwoStage
from models.work import Uncounted, Work, work_of

# Published multiply-adds, in 10^9, of networks of the library that the name begins with.
# FBNet-C: the table of pre-trained models of its authors, facebookresearch/mobile-vision; the paper rounds to 375 M.
# The others: the field `_ops` of torchvision's weights, which its table of models prints.
PUBLISHED = {
    "timm:fbnetc_100": 0.383,
    "torchvision:resnet50": 4.089,
    "torchvision:resnet18": 1.814,
    "torchvision:mobilenet_v2": 0.301,
    "torchvision:resnext50_32x4d": 4.23,
    "torchvision:mobilenet_v3_large": 0.217,
    "torchvision:efficientnet_b0": 0.386,
    "torchvision:densenet121": 2.834,
    "torchvision:convnext_tiny": 4.456,
}


def created(name):
    """A network without values, which takes no time to make."""
    library, _, arch = name.partition(":")
    with torch.device("meta"):
        network = timm.create_model(arch) if library == "timm" else torchvision.models.get_model(arch)
    return network.eval()


def images(count=1, size=224):
    return torch.empty(count, 3, size, size, device="meta")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_count_is_the_published_one_within_two_hundredths(name):
    counted = work_of(created(name), images())
    assert counted.flops == pytest.approx(2e9 * PUBLISHED[name], rel=0.02)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("torchvision:")])
def test_the_published_number_is_the_librarys_own(name):
    weights = torchvision.models.get_model_weights(name.removeprefix("torchvision:"))
    assert weights["IMAGENET1K_V1"].meta["_ops"] == PUBLISHED[name]


def test_a_half_counted_network_is_noticed(monkeypatch):
    """The sabotage: multiply-adds are taken for operations, as many tables do."""
    whole = work.LayerWork
    monkeypatch.setattr(work, "LayerWork", lambda operator, flops, elements: whole(operator, flops // 2, elements))
    with pytest.raises(AssertionError):
        test_the_count_is_the_published_one_within_two_hundredths("torchvision:resnet18")


@pytest.mark.parametrize(
    ("layer", "flops"),
    [
        (nn.Conv2d(32, 64, 3, padding=1), 2 * 9 * 32 * 64 * 49),
        (nn.Conv2d(32, 64, 3, padding=1, groups=4), 2 * 9 * 8 * 64 * 49),
        (nn.Conv2d(32, 32, 5, padding=2, groups=32), 2 * 25 * 32 * 49),
        (nn.Conv2d(32, 64, 3, padding=1, stride=2), 2 * 9 * 32 * 64 * 16),
        (nn.ConvTranspose2d(32, 16, 2, stride=2, groups=4), 2 * 4 * 32 * 4 * 49),
        (nn.Sequential(nn.Flatten(), nn.Linear(32 * 49, 10)), 2 * 32 * 49 * 10),
    ],
    ids=["conv", "groups", "depthwise", "stride", "transposed", "linear"],
)
def test_the_operations_of_a_layer_are_those_of_its_groups(layer, flops):
    assert work_of(layer.eval(), torch.empty(1, 32, 7, 7)).flops == flops


def test_the_weight_gradient_of_a_grouped_convolution_is_no_number_to_print():
    """Why a training step has no count: torch's formula for it does not divide by the groups."""
    layer = nn.Conv2d(32, 32, 3, padding=1, groups=32).to("meta")
    with FlopCounterMode(display=False) as forward:
        out = layer(torch.empty(1, 32, 7, 7, device="meta"))
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert backward.get_total_flops() > 10 * forward.get_total_flops(), "it is counted rightly now: count training too"


def test_every_element_is_counted_once():
    counted = work_of(nn.Conv2d(4, 8, 3, padding=1, bias=False).eval(), torch.empty(2, 4, 5, 5))
    assert counted.elements == 2 * 4 * 25 + 8 * 4 * 9 + 2 * 8 * 25
    assert counted.weight_elements == 8 * 4 * 9
    assert counted.working_elements == counted.elements + counted.weight_elements


def test_the_count_is_torchs_own_and_grows_with_the_batch():
    network = created("timm:test_vit")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images(3, 160))
    alone, three = work_of(network, images(1, 160)), work_of(network, images(3, 160))
    assert three.flops == 3 * alone.flops == counter.get_total_flops()
    assert three.weight_elements == alone.weight_elements


def test_counting_changes_nothing():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    assert isinstance(work_of(layer, torch.zeros(1, 3, 8, 8)), Work)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    assert {tensor.device.type for tensor in layer.state_dict().values()} == {"cpu"}


class Looking(nn.Module):
    """A network that does more where its answer is large."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        once = self.layer(images)
        return self.layer(once) if once.sum().item() > 0 else once


def test_what_depends_on_values_has_a_reason_and_no_count():
    found = work_of(Looking().eval(), torch.zeros(1, 3, 4, 4))
    assert isinstance(found, Uncounted) and "depend on values" in found.reason
    found = work_of(TwoStage(nn.Identity(), nn.Identity(), None).eval(), torch.zeros(1, 3, 4, 4))
    assert isinstance(found, Uncounted) and "two stages" in found.reason
    found = work_of(nn.Flatten(), torch.zeros(1, 3, 4, 4))
    assert isinstance(found, Uncounted) and "no convolution" in found.reason
