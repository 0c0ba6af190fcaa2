"""The optimiser and the schedule of a recipe, which are timm's, and the loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from harness.engines.torch.layout import Layout
from harness.engines.torch.training import StepTerms
from harness.measure.training.group import Group
from harness.measure.training.recipe import STEPS_AT_EPOCHS, Recipe


def terms_of(recipe: Recipe, group: Group, *, keeps_batchnorm: bool, kept: Layout | None = None) -> StepTerms:
    """Return the terms of a recipe's step: SGD, weight decay for all but biases and norms, and the loss.

    Args:
        recipe: the recipe.
        group: the processes that train together.
        keeps_batchnorm: whether batch norms are frozen.
        kept: the layout of the run that this one goes on with, which the first process knows; None to try both.
    """

    def optimiser(module: nn.Module) -> torch.optim.Optimizer:
        from timm.optim import create_optimizer_v2

        found: torch.optim.Optimizer = (
            create_optimizer_v2(  # `momentum` is SGD with momentum; timm's `sgd` would be Nesterov's
                module,
                opt="momentum",
                lr=recipe.rate(group.size),
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            )
        )
        return found

    def agree(trial: Callable[[], Layout]) -> Layout:
        """Let the first process say the layout: replicas that try on their own may choose differently."""
        found: Layout = group.share((kept or trial()) if group.is_first else None)
        return found

    loss = partial(nn.functional.cross_entropy, label_smoothing=recipe.label_smoothing)
    return StepTerms(optimiser, loss, keeps_batchnorm, group.averaging, agree)


def schedule_of(recipe: Recipe, optimiser: torch.optim.Optimizer, per_epoch: int) -> Any:
    """Return timm's schedule, whose `step_update(step)` sets the rate of a step: a warm-up from 0, then the recipe's.

    The rate is a function of the step alone, so that a run which goes on from a checkpoint has nothing to restore.
    """
    from timm.scheduler import create_scheduler_v2

    scheduler, _ = create_scheduler_v2(
        optimiser,
        sched="cosine" if recipe.schedule == "cosine" else "multistep",
        num_epochs=recipe.train_epochs,
        decay_milestones=list(STEPS_AT_EPOCHS),
        decay_rate=0.1,
        warmup_epochs=recipe.warmup_epochs,
        warmup_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=per_epoch,
    )
    return scheduler
