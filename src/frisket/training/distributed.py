"""The processes of one run: started by nothing in the environment, patient with each other."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin
from torch import Tensor, distributed

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
# Launchers set these; each hands the gradient to an engine with settings of its own.
ENGINES = (
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)
PATIENCE = timedelta(days=30)  # rank 0 may prepare, sample or save for as long as that takes


class BadLaunch(ValueError):
    """A way of starting the processes that Frisket does not train under; names variable and fix."""


@dataclass(frozen=True, slots=True)
class Team:
    """All processes of a run; of a single one every call returns at once.

    `wait` holds until everyone is there, however long another one works: it does not use the
    collectives of the gradients, whose time-out (NCCL: 10 minutes) tells a real fault. A process
    that dies ends the wait of the others with its error.
    """

    accelerator: Accelerator
    patient: Any = None  # gloo group; None for one process

    def wait(self) -> None:
        """Until every process has come here."""
        if self.patient is not None:
            distributed.barrier(group=self.patient)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum of a vector over all processes, on the CPU."""
        if self.patient is None:
            return numbers
        summed = numbers.detach().clone().cpu()
        distributed.all_reduce(summed, group=self.patient)
        return summed

    def first(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, done by the main process before the others do it (from its caches)."""
        if self.accelerator.is_main_process:
            result = work()
            self.wait()
            return result
        self.wait()
        return work()


def assemble(*, precision: str, device: str, idle: bool = False) -> Team:
    """Join the processes that a launcher started (or be the only one).

    Every setting that touches a gradient is given, none is read from the environment: accelerate
    takes ACCELERATE_GRADIENT_ACCUMULATION_STEPS for an accumulation of its own and divides by it.
    `idle`: some of the adapter may rest in a step (of several experts one does), which
    DistributedDataParallel must be told. Raises BadLaunch for DeepSpeed, FSDP and Megatron, and
    for float16 on a CPU (accelerate would train in float32 without a word).
    """
    for name in ENGINES:
        if os.environ.get(name, "false").lower() == "true":
            raise BadLaunch(
                f"{name} is set: the run was started for an engine that Frisket does not train"
                " under. Start it with `torchrun --nproc_per_node N -m frisket.cli train ...`, or"
                " accelerate launch with plain --multi_gpu"
            )
    if device.startswith("cuda:") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise BadLaunch(
            f'model.device = "{device}" names one card for several processes; leave it at "auto",'
            " and choose the cards with CUDA_VISIBLE_DEVICES"
        )
    if precision == "float16" and device == "cpu":
        raise BadLaunch(
            'run.precision = "float16" needs a GPU; take "bfloat16" or "float32" on a CPU'
        )
    _forget()
    accelerator = Accelerator(
        mixed_precision=MIXED[precision],
        # Given as a plugin, for a number is overridden by the environment.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        cpu=device == "cpu",
        kwargs_handlers=(
            [DistributedDataParallelKwargs(find_unused_parameters=True)] if idle else []
        ),
    )
    if accelerator.distributed_type not in (
        DistributedType.NO,
        DistributedType.MULTI_GPU,
        DistributedType.MULTI_CPU,
    ):
        raise BadLaunch(
            f"the run was started under {accelerator.distributed_type.value}; Frisket trains in one"
            " process or with plain data parallelism (torchrun)"
        )
    if accelerator.device.type != device.partition(":")[0]:
        raise BadLaunch(
            f'model.device is "{device}", but the environment (ACCELERATE_TORCH_DEVICE,'
            f" ACCELERATE_USE_CPU) makes it {accelerator.device}; unset what is set there"
        )
    if accelerator.num_processes == 1:
        return Team(accelerator)
    return Team(accelerator, distributed.new_group(backend="gloo", timeout=PATIENCE))


def _forget() -> None:
    """Clear accelerate's singletons of an earlier run of this process, which fix its precision."""
    AcceleratorState._reset_state(reset_partial_state=not distributed.is_initialized())
