"""Training in several processes, one for each GPU: those that `accelerate launch` and `torchrun` start.

All of them run the same script, and inside `joined` they train as one: each has the same network and a share of every
batch. In a process that was not launched in this way, such as a notebook's kernel, nothing here has any effect.
"""

import contextlib
import os
import signal
import sys

import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, RandomSampler, Sampler, Subset

from facial_keypoints.images import DataError
from training.device import best_device

LOST = "ended, since another process of this training did; the same command resumes from the last checkpoint"


def count() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def index() -> int:
    """The number of this process, from 0; the first prints and writes files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def wait() -> None:
    """Wait until all processes have come this far."""
    if distributed.is_initialized():
        distributed.barrier()


@contextlib.contextmanager
def joined():
    """Join the other processes of this launch, if there are any; only the first prints from then on.

    Raises DataError if another process is lost, and on devices other than CUDA cards and CPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    from accelerate import PartialState  # only needed here

    device = best_device().type
    if device not in ("cuda", "cpu"):
        raise DataError(f"several processes train on CUDA cards or CPUs, not on {device}: set KEYPOINTS_DEVICE=cpu")
    _meet("gloo" if device == "cpu" else "nccl")
    state = PartialState(cpu=device == "cpu")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"process {index()}: {LOST}"))  # the launcher stops the others
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(sys.stdout if index() == 0 else nowhere):
        try:
            yield
        except RuntimeError as error:
            # gloo has no error type of its own, only its name in the message
            if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
                raise
            raise DataError(f"process {index()}: {LOST}") from None
    state.destroy_process_group()


def _meet(backend: str) -> None:
    """Set up the process group with a store of addresses for this attempt, if the launcher restarts processes.

    Otherwise torch (2.14) may give a restarted process the address of one that died in the previous attempt.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return  # PartialState does it
    store = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    attempt = distributed.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group(backend, store=attempt, rank=rank, world_size=world_size)


class Shares(Sampler):
    """This process's shares of the batches of an epoch, in random order.

    The order is drawn from torch's generator and is the same in all processes; what is drawn afterwards
    (augmentations, dropout) is not. Every sample is in one share only, except that a last batch with fewer samples
    than processes goes to all of them, which leaves its mean gradient unchanged.
    """

    def __init__(self, data, batch_size: int):
        self.batches = BatchSampler(RandomSampler(data), batch_size, drop_last=False)
        full, rest = divmod(len(data), batch_size)
        self.sizes = [batch_size] * full + [rest] * (rest > 0)

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for number, batch in enumerate(self.batches):
            if number == 0 and index():
                torch.manual_seed(torch.initial_seed() + index())
            yield batch[index() :: count()] if len(batch) >= count() else batch


def in_step(model: nn.Module) -> nn.Module:
    """The network, trained by all processes together: it starts with the first one's weights; gradients are averaged.

    Batch norm uses statistics of the whole batch on GPUs; on CPUs, where torch has no SyncBatchNorm, of each process's
    share, and the running statistics are averaged after an epoch (`average_buffers`).
    """
    if count() == 1:
        return model
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model, forward_sync_buffers=False)


def average_buffers(model: nn.Module) -> None:
    """Set running statistics to their mean over all processes."""
    for values in model.buffers():
        if values.is_floating_point():
            values.copy_(mean(values))


def mean(values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes."""
    if count() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values / count()


def whole_batch(loss_function):
    """The loss of a share, weighted by its number of known points, so the mean over processes is the batch's loss."""

    def weighted(predicted, true):
        known = true.isfinite().all(dim=2).sum().float()
        return loss_function(predicted, true) * (known / mean(known))

    return weighted if count() > 1 else loss_function


def share(data):
    """Every n-th sample of a data set for n processes, at least one."""
    return Subset(data, range(index(), len(data), count()) or range(1)) if count() > 1 else data


def gathered(rows: np.ndarray, length: int) -> np.ndarray:
    """The rows of all processes for their `share` of a data set of this length, each sample once and in order."""
    if count() == 1:
        return rows
    parts = [None] * count()
    distributed.all_gather_object(parts, rows)
    whole = np.empty((length, *rows.shape[1:]), rows.dtype)
    for number, part in enumerate(parts):
        whole[number :: count()] = part[: len(range(number, length, count()))]
    return whole


def from_first(function):
    """Call a function in the first process only; every process returns its result."""
    if count() == 1:
        return function()
    answer = [function() if index() == 0 else None]
    distributed.broadcast_object_list(answer)
    return answer[0]
