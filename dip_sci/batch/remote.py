"""What a dask worker runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed import Event, get_client, get_worker

from dip_sci import __version__
from dip_sci.batch.work import Abandoned, Outcome, work

if TYPE_CHECKING:
    from dip_sci.job import Job

TOPIC = "dip-sci"


def work_remotely(job: Job, name: str, flag: str, version: str) -> Outcome:
    """Do one job on a dask worker, with its threads.

    Parameters
    ----------
    job
        What to do.
    name
        What the batch calls it.
    flag
        Name of the event that is set when the batch is abandoned.
    version
        That of dip_sci where the batch runs.
    """
    if version != __version__:
        return Outcome(f"The worker has dip_sci {__version__}, the batch {version}; install the same.", {})
    worker, flagged = get_worker(), Event(flag, client=get_client())

    def tell(share: float) -> None:
        worker.log_event(TOPIC, {"job": name, "share": share})

    try:
        return work(job, worker.state.nthreads, tell, flagged.is_set)
    except Abandoned:
        return Outcome("Abandoned.", {})
