"""What a worker on this machine does first: ignore Ctrl-C, which a terminal sends to it, too; the batch decides."""

from __future__ import annotations

import signal
import threading

if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
