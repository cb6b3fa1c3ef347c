"""All that learns, and what changes its weights: optimizer, schedule, loss scaling, and the average over steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from assay.config import Train
from assay.encode.extract import PostInputs
from assay.student.losses import JointLoss
from assay.student.model import Batch, StudentModel
from assay.student.schedule import learning_rate
from assay.student.towers import Towers


class Learner(torch.nn.Module):
    """All that learns, as one module: for averaging, for resume files and for several processes."""

    def __init__(self, model: StudentModel, loss: JointLoss, towers: Towers | None, *, compiled: bool) -> None:
        super().__init__()
        self.model, self.loss, self.towers = model, loss, towers
        self._run = [torch.compile(model) if compiled else model]  # in a list, so that it is no second submodule

    def forward(
        self,
        batch: Batch,
        posts: list[PostInputs],
        wanted: dict[str, Tensor],
        soft: dict[str, Tensor] | None,
        share: float,
    ) -> Tensor:
        """The loss of a batch."""
        if self.towers is not None:
            batch = self.towers.fill(batch, posts)
        found: Tensor = self.loss(self._run[0](batch), wanted, soft, share)
        return found


class Updates:
    """The steps of one training run."""

    def __init__(
        self,
        learner: Learner,
        optimizer: torch.optim.Optimizer,
        settings: Train,
        steps: int,
        device: torch.device,
        precision: torch.dtype,
    ) -> None:
        """`steps`: of the whole schedule, from warm-up to its end."""
        self.learner, self.optimizer, self.clip_norm = learner, optimizer, settings.clip_norm
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(settings, steps))
        average = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]
        self.averaged = AveragedModel(learner, multi_avg_fn=average, use_buffers=False) if settings.ema else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is torch.float16)

    @property
    def counting(self) -> Learner:
        """What is judged and kept: with averaged weights where there are."""
        found: Learner = self.averaged.module if self.averaged is not None else self.learner  # type: ignore[assignment]
        return found

    def states(self) -> dict[str, Any]:
        """What a resumed run needs the state of, by name."""
        found = {"learner": self.learner, "optimizer": self.optimizer, "schedule": self.schedule}
        return found | ({"averaged": self.averaged} if self.averaged is not None else {})

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights that count, of all that learns."""
        return {name: v.detach().cpu().clone() for name, v in self.counting.state_dict().items()}

    def step(self) -> None:
        """Apply the gradients that were gathered."""
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update_parameters(self.learner)
