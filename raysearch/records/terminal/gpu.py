"""How busy this machine's NVIDIA GPUs are."""

import shutil
import subprocess
import threading

QUERY = "--query-gpu=utilization.gpu,memory.used,memory.total"


class GpuUse:
    """Asks nvidia-smi every few seconds, off the search's own thread. No GPU: an empty text."""

    def __init__(self, every_seconds: float = 5.0) -> None:
        self.text = ""
        self.every_seconds = every_seconds
        self.ended = threading.Event()
        if shutil.which("nvidia-smi"):
            threading.Thread(target=self._watch, name="gpu use", daemon=True).start()

    def _watch(self) -> None:
        while not self.ended.is_set():
            self.text = ask()
            self.ended.wait(self.every_seconds)

    def close(self) -> None:
        self.ended.set()


def ask() -> str:
    """Return the use of each GPU, such as "GPU 0: 87 %, 10.2 of 80 GB"; empty where unknown."""
    command = ["nvidia-smi", QUERY, "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return describe(told)


def describe(told: str) -> str:
    """Read the lines of nvidia-smi: percent, MiB used, MiB in all."""
    texts = []
    for index, line in enumerate(told.strip().splitlines()):
        percent, used, total = (part.strip() for part in line.split(","))
        if not (percent + used + total).isdigit():  # "[N/A]" on a GPU that is divided (MIG).
            continue
        memory = f"{int(used) / 1024:.1f} of {int(total) / 1024:.0f} GB"
        texts.append(f"GPU {index}: {percent} %, {memory}")
    return "; ".join(texts)
