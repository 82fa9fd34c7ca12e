"""The device to train on, and its settings for speed: bfloat16, memory format, malloc."""

import ctypes
import os
import platform

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # from glibc's malloc.h


def best_device() -> torch.device:
    """KEYPOINTS_DEVICE (cpu, cuda, mps) if it is set, else the first available of CUDA, Apple's MPS and the CPU."""
    if asked := os.environ.get("KEYPOINTS_DEVICE"):
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes bfloat16 in hardware; emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next batch, for the rest of the process; returns whether that worked.

    glibc returns large freed blocks to the system at once, so training on the CPU has to map new pages for every
    batch: 31.7 instead of 26.6 ms of CPU time per image for Net on whole frames (two cores). The process then never
    shrinks again, so only training scripts and session.start (which prints it) call this. It does nothing if training
    is on a GPU or the system has no glibc (anything but Linux).
    """
    if best_device().type != "cpu" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, -1))


def half_precision(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the hardware supports it, float16 on older CUDA cards, None (float32) elsewhere."""
    if has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else None


def autocast(device: torch.device) -> torch.autocast:
    """Autocast to half_precision; disabled where there is none."""
    dtype = half_precision(device)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def gradient_scaler(device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss so that gradients in float16 do not underflow; does nothing for other types.

    It starts at 2**10 and grows from there; at torch's default 2**16 the first steps often overflow and are skipped.
    """
    return torch.amp.GradScaler(device.type, init_scale=2.0**10, enabled=half_precision(device) is torch.float16)


def memory_format(device: torch.device) -> torch.memory_format:
    """channels_last, the fastest for convolutions, on CPU and CUDA; Apple's MPS has crashed on it in batch norm."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def to_device(batch: dict, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and keypoints of a batch on the device; copies from pinned memory overlap with the GPU's work."""
    images = batch["image"].to(device, memory_format=memory_format(device), non_blocking=True)
    return images, batch["keypoints"].to(device, non_blocking=True)
