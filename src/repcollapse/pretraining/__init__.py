"""Long runs: any method on whole data sets, on one device or several, resumable at every step.

:func:`repcollapse.training.train` is for the chapters: minutes, several seeds, views rendered once.
:func:`pretrain` is for hours: it draws fresh views on the device, shares a batch among processes,
writes checkpoints and goes on from them. What is trained is the same
:class:`~repcollapse.training.Recipe`, and every instrument is the same.

**Randomness is counted, not carried.** The order of an epoch, the views of a step and whatever an
objective draws are functions of the seed and of the number of the epoch or step: at every step
torch's global generators (the device's too) are seeded anew, and put back after it. No generator
has a state that a checkpoint could miss: a run that was killed goes on with the numbers of one that
was not, and reading the instruments more often changes nothing.

**Processes share one batch.** Every process draws the whole batch's parameters and renders its own
slice. Batch norm is synchronised and objectives gather, so that the number of processes changes a
run by rounding only.
"""

from repcollapse.pretraining.checkpoints import CheckpointError
from repcollapse.pretraining.loop import Stopped, TrainingError, pretrain
from repcollapse.pretraining.settings import Settings
from repcollapse.pretraining.trainer import Trainer

__all__ = ["CheckpointError", "Settings", "Stopped", "Trainer", "TrainingError", "pretrain"]
