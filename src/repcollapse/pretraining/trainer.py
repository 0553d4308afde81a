"""A model, its optimiser and its data: one step, one reading, and the state in between."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from repcollapse import diagnostics
from repcollapse.data import stream
from repcollapse.networks import Model
from repcollapse.objectives import PretextTask
from repcollapse.objectives._distributed import gather
from repcollapse.pretraining import processes
from repcollapse.pretraining.checkpoints import FORMAT
from repcollapse.pretraining.settings import Settings
from repcollapse.pretraining.sources import Source, sources
from repcollapse.training import calibrate, chance, probe_embeddings, seeded, seeded_step
from repcollapse.views import ViewBank

_EMBEDDED_AT_ONCE = 512


class Trainer:
    """Trains `settings` step by step; every process of the group makes one of its own.

    Parameters
    ----------
    settings
        With `amp` settled.
    device
        Where this process trains.

    Attributes
    ----------
    model
        The model itself, without what spreads it over processes.
    step
        How many steps have been made.
    steps
        How many there will be.

    Raises
    ------
    ValueError
        Where the batch does not divide among the processes, or there are fewer images than it
        needs.
    """

    def __init__(self, settings: Settings, device: torch.device) -> None:
        assert settings.batch_size is not None
        self.settings, self.device = settings, device
        self.dtype = getattr(torch, settings.dtype)
        self.batch_size = settings.batch_size
        if self.batch_size % processes.world_size() or self.batch_size < 2 * processes.world_size():
            raise ValueError(
                f"batch_size must give the {processes.world_size()} processes equal parts of at "
                f"least 2; got {self.batch_size}"
            )
        with processes.first_process_first():
            self.train_source, self.test_source = sources(settings, device)
        samples = len(self.train_source.labels)
        if samples < self.batch_size:
            raise ValueError(
                f"batch_size must be at most {samples}, the training images there are; "
                f"got {self.batch_size}"
            )
        self.steps = settings.total_steps(samples)
        self.step = 0
        self.model = self._built()
        self._parallel = self.model if processes.world_size() == 1 else self._spread()
        self.optimizer = settings.recipe().optimizer(self.model)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    def _built(self) -> Model:
        shared = processes.world_size() > 1
        recipe = self.settings.recipe(gather=shared)
        with seeded(self.settings.seed, self.device):
            model = recipe.build(self.train_source.shape).to(self.device, self.dtype)
            calibrate(model, self._sample(), batches=1)
        if shared:
            model = processes.synchronise_batch_norm(model, self.device)  # type: ignore[assignment]
            if isinstance(model.objective, PretextTask):
                model.objective.first_place = 2 * self._share * processes.rank()
        if self.settings.channels_last:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def _spread(self) -> nn.Module:
        with warnings.catch_warnings():
            # Newer versions of torch have another name for the option, which older ones lack.
            warnings.simplefilter("ignore", FutureWarning)
            # From equal beginnings and joined statistics all processes move their buffers alike.
            return DistributedDataParallel(
                self.model,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
            )

    @property
    def _share(self) -> int:
        """How many images of a batch are this process's."""
        return self.batch_size // processes.world_size()

    def _sample(self) -> ViewBank:
        """Return two views of a few images, for the first statistics of batch norms."""
        source = self.train_source
        rows = torch.arange(min(256, len(source.labels)))
        drawn = source.draw(len(rows), stream(self.settings.seed, "views for calibration"))
        views = torch.stack(source.render(rows.repeat(2), drawn).chunk(2), dim=1)
        nothing = torch.empty(0)
        return ViewBank(views, source.labels[rows], {}, {}, nothing, nothing)

    def advance(self, *, read: bool = False) -> tuple[Tensor, Tensor | None]:
        """Make one step; return the loss on the whole batch and, with `read`, its embeddings."""
        view_a, view_b = self._batch()
        decay = 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * decay
        embeddings: list[Tensor] = []
        watch = self._watch(embeddings) if read else None
        self.model.train()
        # Whatever an objective draws depends on the step alone, and is equal on all processes.
        own = seeded_step(self.settings.seed, self.step, self.device)
        amp = torch.autocast(self.device.type, torch.bfloat16, enabled=bool(self.settings.amp))
        with own, amp:
            loss = self._parallel(view_a, view_b)
        if watch is not None:
            watch.remove()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.model.after_step()
        self.step += 1
        z = gather(embeddings[0]) if read else None
        return gather(loss.detach()[None]).mean(), z

    def _watch(self, embeddings: list[Tensor]) -> Any:
        """Note the batch's embeddings (a pretext task's features) as they come by."""
        last = getattr(self.model, "projector", self.model.encoder)
        return last.register_forward_hook(lambda _, __, z: embeddings.append(z.detach()))

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return this process's part of two views of the batch."""
        source, n, share = self.train_source, self.batch_size, self._share
        drawn = source.draw(n, stream(self.settings.seed, f"views of step {self.step}"))
        rows = self._rows().repeat(2)
        own = torch.arange(share) + processes.rank() * share
        places = torch.cat([own, n + own])
        if isinstance(self.model.objective, PretextTask):
            # Its labels go by place among all 2N images: take 2N/processes that follow each other.
            places = torch.arange(2 * share) + processes.rank() * 2 * share
        mine = {name: values[places] for name, values in drawn.items()}
        images = source.render(rows[places], mine)
        if self.settings.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        view_a, view_b = images.chunk(2)
        return view_a, view_b

    def _rows(self) -> Tensor:
        """Return the images of this step's batch: every epoch has an order of its own."""
        samples = len(self.train_source.labels)
        epoch, place = divmod(self.step, samples // self.batch_size)
        if self._order[0] != epoch:
            order = torch.randperm(
                samples, generator=stream(self.settings.seed, f"order of epoch {epoch}")
            )
            self._order = (epoch, order)
        return self._order[1][place * self.batch_size : (place + 1) * self.batch_size]

    @property
    def rate(self) -> float:
        """The learning rate of the step before."""
        return float(self.optimizer.param_groups[0]["lr"])

    @torch.no_grad()
    def embed(self, source: Source, count: int, purpose: str) -> tuple[Tensor, Tensor]:
        """Return h and z of two views of the first `count` images, each (2, N, D), on the CPU.

        In evaluation mode and full precision. `purpose` names the stream that draws the views.
        """
        self.model.eval()
        count = min(count, len(source.labels))
        drawn = source.draw(count, stream(self.settings.seed, purpose))
        rows = torch.arange(count).repeat(2)
        parts = []
        for places in torch.arange(2 * count).split(_EMBEDDED_AT_ONCE):
            part = {name: values[places] for name, values in drawn.items()}
            h, z = self.model.embed(source.render(rows[places], part))
            parts.append((h.cpu(), z.cpu()))
        h, z = (torch.cat(side).unflatten(0, (2, count)) for side in zip(*parts, strict=True))
        return h, z

    def instruments(self) -> dict[str, float]:
        """Return the instruments of the embeddings of two views of every test image."""
        source = self.test_source
        return diagnostics.instruments(self.embed(source, len(source.labels), "test views")[1])

    def probes(self) -> dict[str, float]:
        """Return probes of h and z, and what always answering the largest class would score.

        Fitted on two views of `probe_limit` training images, scored on one view of every test
        image, as :func:`repcollapse.training.probe` does.
        """
        source, test = self.train_source, self.test_source
        count = min(self.settings.probe_limit, len(source.labels))
        fitted_on = self.embed(source, count, "views to probe")
        scored_on = self.embed(test, len(test.labels), "test views")
        labels, test_labels = source.labels[:count].cpu(), test.labels.cpu()
        scores = probe_embeddings(fitted_on, labels, scored_on, test_labels)
        return {"chance": chance(labels, test_labels)} | scores

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs: tensors and plain values."""
        return {
            "format": FORMAT,
            "step": self.step,
            "settings": self.settings.record(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state that a trainer of the same settings was in."""
        self.model.load_state_dict(state["model"])
        # Loading takes the optimiser's tensors as they are, and two trainers would share them.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.step = state["step"]
