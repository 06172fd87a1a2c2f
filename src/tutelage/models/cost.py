"""What a model costs: parameters, FLOPs, latency, memory; counted on the model, or estimated without its weights."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from tutelage.data.batch import DataInfo
from tutelage.models.inert import dry_forward, evaluating
from tutelage.models.standard import parameters_of

_SMALL = 256 * 1024**2
_FILLS = ("normal_", "uniform_", "zero_", "fill_", "trunc_normal_", "bernoulli_", "exponential_", "erfinv_")


def cost(module: nn.Module, example: Tensor, *, seconds: float = 1.0) -> dict[str, float]:
    """What one prediction takes.

    Args:
        module: The model; its state and modes do not move.
        example: ``[batch, *input_shape]`` on the model's device.
        seconds: Time to spend on each of the two latencies.

    Returns:
        ``parameters``; ``weights_bytes``, parameters and buffers; ``flops`` of one sample, a multiplication and an
        addition counting as two; ``latency`` of one sample and ``latency_batch`` of the whole example, in seconds.
    """
    return {
        "parameters": float(parameters_of(module)),
        "weights_bytes": float(weights_bytes(module)),
        "flops": float(flops(module, example)),
        "latency": latency(module, example[:1], seconds=seconds),
        "latency_batch": latency(module, example, seconds=seconds),
    }


def weights_bytes(module: nn.Module) -> int:
    """Memory of a model's parameters and buffers, shared ones counted once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))


def flops(module: nn.Module, example: Tensor) -> int:
    """Floating-point operations of a forward for one sample, a multiplication and an addition counting as two.

    Matrix products, convolutions and attention count, element-wise work does not. Computed on shapes where the model
    can.

    Args:
        module: The model; its state and modes do not move.
        example: ``[batch, *input_shape]``, of which one sample is used.
    """
    # Fused attention kernels of processors are not known to the counter; the plain one is matrix products.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        dry_forward(module, example[:1])
    return int(counter.get_total_flops())


def weight_flops(module: nn.Module, example: Tensor) -> int:
    """Floating-point operations of one sample that multiply by weights: what linear layers and convolutions do.

    Less than `flops`, which also counts products of activations as in attention, but quick: the exact counter imports a
    compiler first, which takes longer than everything else that an estimate does.

    Args:
        module: The model; its state and modes do not move.
        example: ``[batch, *input_shape]``.
    """
    total = 0

    def count(part: nn.Module, args: Any, output: Any) -> None:
        nonlocal total
        weight = getattr(part, "weight", None)
        if (
            isinstance(weight, Tensor)
            and weight.ndim >= 2
            and isinstance(output, Tensor)
            and not isinstance(part, nn.Embedding)
        ):
            total += 2 * weight.numel() * output.numel() // (len(example) * weight.shape[0])

    hooks = [part.register_forward_hook(count) for part in module.modules()]
    try:
        with evaluating(module), torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def latency(module: nn.Module, example: Tensor, *, seconds: float = 1.0, least: int = 5, most: int = 200) -> float:
    """Median time of a forward, in seconds, after two that do not count.

    Args:
        module: The model.
        example: ``[batch, *input_shape]`` on the model's device.
        seconds: Time to spend.
        least: Forwards that are timed even when they take longer.
        most: Forwards after which it is enough.
    """
    times: list[float] = []
    with evaluating(module), torch.inference_mode():
        for _ in range(2):
            module(example)
        end = time.perf_counter() + seconds
        while len(times) < least or (len(times) < most and time.perf_counter() < end):
            _wait(example)
            start = time.perf_counter()
            module(example)
            _wait(example)
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def estimate(builder: Callable[[DataInfo], nn.Module], data: DataInfo, batch_size: int) -> dict[str, int]:
    """What training a model would take, without allocating its weights.

    Args:
        builder: Makes the model for the data, e.g. ``Spec.build``. One that cannot build on the meta device builds for
            real.
        data: What it is built for.
        batch_size: Samples of a step.

    Returns:
        ``parameters``; ``bytes`` of parameters and buffers; ``flops`` of one sample's forward, see `weight_flops`;
        ``activation_bytes``,
        what a training forward of a batch keeps for its backward pass (0 where the model cannot run on shapes).
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"), _Uninitialised():
                module = builder(data)
        except (RuntimeError, NotImplementedError):
            module = builder(data)
        row = {"parameters": parameters_of(module), "bytes": weights_bytes(module)}
        if row["bytes"] < _SMALL:
            # Shapes alone would do, but operations on them import a compiler, which takes longer than running a
            # small model.
            with contextlib.suppress(RuntimeError, NotImplementedError):
                module = builder(data)
                example = data.blank(2)
                kept = _kept_bytes(module, example) * batch_size // 2
                return {**row, "flops": weight_flops(module, example), "activation_bytes": kept}
        example = data.blank(2, next(iter(module.parameters()), torch.empty(0)).device)
        return {
            **row,
            "flops": weight_flops(module, example),
            "activation_bytes": activation_bytes(module, data, batch_size),
        }


def _kept_bytes(module: nn.Module, example: Tensor) -> int:
    """Bytes that a training forward of this example keeps for its backward pass, parameters left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    module.train()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = module(example)
    del output
    return sum(kept.values())


class _Uninitialised(TorchFunctionMode):
    """Leaves out the filling of tensors that have no memory; on the meta device it would import a compiler first."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _FILLS and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def activation_bytes(module: nn.Module, data: DataInfo, batch_size: int) -> int:
    """Bytes that a training forward keeps for its backward pass, computed on shapes; 0 where the model cannot.

    Args:
        module: The model; its state and modes do not move.
        data: Gives the samples' shape.
        batch_size: Samples of a batch.
    """
    named = [*module.named_parameters(), *module.named_buffers()]
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
    for name, parameter in module.named_parameters():
        state[name].requires_grad_(parameter.requires_grad)
    own = {tensor.untyped_storage()._cdata for tensor in state.values()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    modes = [(part, part.training) for part in module.modules()]
    module.train()
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            inputs = data.blank(batch_size, "meta")
            # The output holds the graph, and with it every storage: an address is not used twice while it lives.
            output = torch.func.functional_call(module, state, (inputs,))
        del output
    except (RuntimeError, NotImplementedError):
        return 0
    finally:
        for part, mode in modes:
            part.training = mode
    return sum(kept.values())


def _wait(example: Tensor) -> None:
    """Accelerators work behind: their time is over when they have caught up."""
    if example.is_cuda:
        torch.cuda.synchronize(example.device)
    elif example.device.type == "mps":
        torch.mps.synchronize()
