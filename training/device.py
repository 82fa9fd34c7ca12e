"""What this machine computes on, and how fast arithmetic is switched on there."""

import ctypes
import os
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def best_device() -> torch.device:
    """KEYPOINTS_DEVICE (cpu, cuda, mps) if it is set, else CUDA, Apple's MPS or the CPU, whichever is there first."""
    if asked := os.environ.get("KEYPOINTS_DEVICE"):
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is done in hardware here; emulated, it would be slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next batch, for the rest of the process; returns whether it does.

    glibc gives large blocks back to the system at once, so that training on the CPU pays for fresh pages with every
    batch: 31.7 instead of 26.6 ms of processor time an image for Net on whole frames (two cores). The process never
    becomes smaller again, so only scripts that train and session.start, which says so, ask for it. Nothing is done
    for a GPU and where there is no glibc (anywhere but on Linux).
    """
    if best_device().type != "cpu" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the machine has it; everything stays float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last, the fastest for convolutions, on CPU and CUDA; on Apple's MPS batch norm has crashed with it."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def to_device(batch: dict, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and keypoints of a batch on the device; from pinned memory they are copied while a GPU computes."""
    images = batch["image"].to(device, memory_format=memory_format(device), non_blocking=True)
    return images, batch["keypoints"].to(device, non_blocking=True)
