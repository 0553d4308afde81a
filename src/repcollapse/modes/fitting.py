"""What models are fitted by: an optimiser's steps, or the search for a minimum without chance."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from repcollapse import _checks


def fit(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    watch: Callable[[int], None] | None = None,
    at: Collection[int] = (),
) -> np.ndarray:
    """Minimise a loss, and return its value at every step.

    Parameters
    ----------
    optimizer
        An optimiser of what is to be moved.
    loss
        A function of the step, called once a step with gradients on; what it draws is its own
        affair.
    steps
        How many steps, >= 0.
    schedule
        Of the optimiser's learning rate, moved once after every step.
    watch, at
        Called with the step *before* each of the steps `at`, and after the last one with `steps`
        where that is among them, without gradients.

    Returns
    -------
    numpy.ndarray
        The losses, shape (steps,).

    Raises
    ------
    TypeError, ValueError
        For steps that are not a count, or for one of `at` that is never reached.
    FloatingPointError
        Where the loss is not finite, with the step.

    Examples
    --------
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> losses = fit(torch.optim.Adam([x], lr=0.1), lambda step: (x**2).sum(), steps=200)
    >>> bool(losses[-1] < 1e-4)
    True
    """
    steps = _checks.integer("steps", steps, at_least=0)
    watched = {_checks.integer("at", step, at_least=0, at_most=steps) for step in at}
    losses = np.empty(steps)
    for step in range(steps + 1):
        if watch is not None and step in watched:
            with torch.no_grad():
                watch(step)
        if step == steps:
            break
        value = loss(step)
        losses[step] = value.item()
        if not np.isfinite(losses[step]):
            raise FloatingPointError(f"loss must stay finite; it is {losses[step]} at step {step}")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return losses


def minimise(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    *,
    iterations: int,
    gradient: float,
    memory: int = 10,
) -> float:
    """Move parameters towards a minimum of a loss without chance in it, and return the loss there.

    By L-BFGS, in float64. It ends at a minimum or after so many iterations, and does not say which:
    whoever needs to know looks at the gradient.

    Parameters
    ----------
    loss
        A function of the parameters as they are.
    parameters
        Tensors on the CPU, float64, that require a gradient; moved in place.
    iterations
        At most so many, >= 1; fewer where they take more than twice as many evaluations of the
        loss.
    gradient
        >= 0: it ends where no derivative is larger.
    memory
        From how many steps the curvature is taken, >= 1.

    Raises
    ------
    TypeError, ValueError
        For numbers or parameters other than these.
    FloatingPointError
        Where the loss is not finite.

    References
    ----------
    Byrd, Lu, Nocedal & Zhu 1995, "A limited memory algorithm for bound constrained optimization".

    Examples
    --------
    >>> x = torch.tensor([3.0, -1.0], dtype=torch.float64, requires_grad=True)
    >>> least = minimise(lambda: (x**2).sum() + 1, [x], iterations=20, gradient=1e-9)
    >>> least, bool(x.abs().max() < 1e-9)
    (1.0, True)
    """
    from scipy import optimize  # slow to import

    iterations = _checks.integer("iterations", iterations, at_least=1)
    gradient = _checks.number("gradient", gradient, at_least=0)
    memory = _checks.integer("memory", memory, at_least=1)
    dtypes = [parameter.dtype for parameter in parameters]
    if not dtypes or set(dtypes) != {torch.float64}:
        raise TypeError(f"parameters must be one tensor or more of float64; got {dtypes}")
    if not all(parameter.requires_grad for parameter in parameters):
        needs = [parameter.requires_grad for parameter in parameters]
        raise ValueError(f"parameters must require a gradient; got requires_grad {needs}")

    def move_to(point: np.ndarray) -> None:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(point), parameters)

    def value_and_gradient(point: np.ndarray) -> tuple[float, np.ndarray]:
        move_to(point)
        value = loss()
        if not torch.isfinite(value):
            raise FloatingPointError(f"loss must stay finite; it is {value.item()}")
        slopes = torch.autograd.grad(value, list(parameters))
        return value.item(), torch.nn.utils.parameters_to_vector(slopes).numpy()

    start = torch.nn.utils.parameters_to_vector(parameters).detach().numpy()
    options = {"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 0, "gtol": gradient}
    end = optimize.minimize(
        value_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options=options | {"maxcor": memory},
    )
    move_to(end.x)
    return float(end.fun)
