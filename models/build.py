"""temporary stand-in"""
from __future__ import annotations
import copy, hashlib
from dataclasses import dataclass
from pathlib import Path
import torch
from torch import nn
from models.catalog import ModelSpec
from models.preprocess import generated_images, normalise

@dataclass(frozen=True)
class Built:
    module: nn.Module
    weights: str
    weights_sha256: str

class WeightsError(RuntimeError):
    pass

def build_module(spec: ModelSpec, weights: str | Path = "random", seed: int = 0) -> Built:
    import timm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec.source == "visionmark":
            from models import efficientnet_g16_gn
            m = getattr(efficientnet_g16_gn, spec.arch)()
        elif spec.source == "torchvision":
            import torchvision
            m = torchvision.models.get_model(spec.arch, weights=None)
        else:
            m = timm.create_model(spec.arch, checkpoint_path=str(weights) if weights not in ("random","pretrained") else "")
    m.eval()
    if weights == "random":
        bns = [x for x in m.modules() if isinstance(x, nn.modules.batchnorm._BatchNorm)]
        for b in bns:
            if float(b.weight.abs().max()) < 1e-3: nn.init.ones_(b.weight)
            b.train(); b.momentum = 1.0
        with torch.no_grad():
            m(normalise(generated_images(16, spec.input.size), spec.input))
        for b in bns: b.momentum = .1
        m.eval()
    h = hashlib.sha256()
    for k, v in sorted(m.state_dict().items()):
        h.update(k.encode()); h.update(v.numpy().tobytes())
    return Built(m, weights if isinstance(weights, str) else weights.name, h.hexdigest())

def replace_fused_batchnorm(module: nn.Module) -> int:
    return 0
