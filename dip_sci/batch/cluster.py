"""The workers of a batch: on this machine, of a running dask scheduler, or of SLURM."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dask
import dask.config
import psutil
from distributed import Client, Nanny, Scheduler, SpecCluster

from dip_sci.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dip_sci.recipe import Recipe

MEMORY = 3 * 2**30
"""Bytes of free memory for each worker on a CPU, where their number is not given."""

PATIENCE = 20.0
"""Seconds to wait for a scheduler's answer."""

JOB = "job"
"""The dask resource of which each worker has one, so that it does one job at a time."""


@dataclass(frozen=True)
class Crew:
    """Workers that are there, or will be.

    Attributes
    ----------
    client
        The connection to them.
    resources
        What a job takes of a worker.
    own
        Whether they end with the batch.
    most
        How many there will be; ``None`` where others decide that.
    """

    client: Client
    resources: dict[str, float]
    own: bool
    most: int | None = None

    def count(self) -> int:
        """How many jobs can run at once."""
        try:
            found = self.client.scheduler_info(n_workers=-1)["workers"].values()
        except Exception:
            # dask says in many ways that the connection is lost; what is wrong otherwise is to be seen.
            if self.client.status == "running":
                raise
            return 0
        return sum(all(name in w.get("resources", {}) for name in self.resources) for w in found)


@contextmanager
def crew(
    recipe: Recipe,
    jobs: int,
    *,
    shared: bool = False,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    slurm: str | None,
) -> Iterator[Crew]:
    """Gather the workers of a batch.

    Parameters
    ----------
    recipe
        Says which device is wanted.
    jobs
        How many there are to do.
    shared
        Whether several workers may share one.
    workers
        How many jobs run at once; by default one per GPU, or as many as this machine's cores and memory allow.
    threads
        Threads of a worker; by default an equal share of the cores.
    scheduler
        Address of a running dask scheduler, whose workers are taken.
    slurm
        Options of SLURM jobs that become workers: ``partition``, ``account``, ``cores``, ``memory``, ``walltime``,
        ``logs`` (a folder), ``host`` or ``interface`` (of this machine, as the workers call it), and any other
        of sbatch's long options; as ``"partition=gpu,cores=8,memory=32GB,walltime=08:00:00,gres=gpu:1"``.

    Raises
    ------
    BatchError
        If there is no such scheduler, or an option is not known.
    """
    # What dask has to say is in the manifest in plainer words; quiet again afterwards.
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        with dask.config.set({"distributed.scheduler.allowed-failures": 1, "distributed.worker.daemon": True}):
            if scheduler is not None:
                with _running(scheduler) as found:
                    yield found
            elif slurm is not None:
                with _slurm(slurm, workers or 1, threads) as found:
                    yield found
            else:
                with _local(recipe, jobs, workers, threads, shared=shared) as found:
                    yield found
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@contextmanager
def _local(recipe: Recipe, jobs: int, workers: int | None, threads: int | None, *, shared: bool) -> Iterator[Crew]:
    gpus = _gpus(recipe)
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1
    # On the CPU a single scan is learned from faster with all cores than by one of several workers.
    idle = shared and (workers is not None or bool(gpus))
    if workers is None:
        fits = psutil.virtual_memory().available // MEMORY
        workers = len(gpus) if gpus else max(1, min(cores, fits))
    workers = workers if idle else min(workers, jobs)
    threads = threads or max(1, cores // workers)
    with tempfile.TemporaryDirectory(prefix="dip-sci-", ignore_cleanup_errors=True) as scratch:
        specs = {}
        for n in range(workers):
            env = {"OMP_WAIT_POLICY": "passive", **({"CUDA_VISIBLE_DEVICES": gpus[n % len(gpus)]} if gpus else {})}
            options = {
                "nthreads": threads,
                "resources": {JOB: 1},
                # dask counts what its own objects take, not what torch does.
                "memory_limit": 0,
                "local_directory": scratch,
                "preload": ["dip_sci.batch.preload", *dask.config.get("distributed.worker.preload", [])],
                "env": env,
                "dashboard": False,
                "silence_logs": logging.CRITICAL,
            }
            specs[n] = {"cls": Nanny, "options": options}
        # A free port: dask's own one may be another cluster's, of which it would warn.
        local = {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        boss = {"cls": Scheduler, "options": local}
        with (
            SpecCluster(workers=specs, scheduler=boss, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield Crew(client, {JOB: 1}, own=True, most=workers)


def _gpus(recipe: Recipe) -> list[str]:
    """Return the GPUs, one for each worker, as CUDA_VISIBLE_DEVICES names them; none where the CPU is meant."""
    if recipe.device not in ("auto", "cuda"):
        return []
    import torch

    given = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return given or [str(n) for n in range(torch.cuda.device_count())]


@contextmanager
def _running(address: str) -> Iterator[Crew]:
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BatchError(
            f"No dask scheduler answers at {address} ({type(error).__name__}); start one with 'dask scheduler', and give "
            "the address that it shows, as tcp://host:8786."
        ) from None
    try:
        found = client.scheduler_info(n_workers=-1)["workers"].values()
        offered = {name: 1.0 for name in ("GPU", JOB) if found and all(name in w.get("resources", {}) for w in found)}
        yield Crew(client, offered, own=False)
    finally:
        client.close(timeout=1)


@contextmanager
def _slurm(text: str, workers: int, threads: int | None) -> Iterator[Crew]:
    # dask-jobqueue writes a file of settings into the user's home when it is imported, unless there is no such place.
    home, dask.config.PATH = dask.config.PATH, os.devnull
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise BatchError(f"SLURM needs {error.name}: pip install 'dip-sci[batch]'.") from None
    finally:
        dask.config.PATH = home
    options = _slurm_options(text)
    # Where several networks lead to the workers, the first found need not be the right one.
    place: dict[str, object] = {name: options.pop(name) for name in ("host", "interface") if name in options}
    cores = threads or int(options.get("cores", 1))
    options.pop("cores", None)
    try:
        cluster = SLURMCluster(
            cores=cores,
            processes=1,
            memory=options.pop("memory", "4GB"),
            queue=options.pop("partition", None),
            account=options.pop("account", None),
            walltime=options.pop("walltime", "24:00:00"),
            log_directory=options.pop("logs", None),
            job_extra_directives=[f"--{name}={value}" for name, value in options.items()],
            job_script_prologue=["export OMP_WAIT_POLICY=passive"],
            worker_extra_args=["--resources", f"{JOB}=1", "--no-dashboard"],
            scheduler_options=place | {"dashboard": False, "dashboard_address": ":0"},
        )
    except (OSError, ValueError, TypeError) as error:
        raise BatchError(f"The SLURM jobs cannot be described ({error}); check --slurm.") from None
    with warnings.catch_warnings():
        # It says that a job's end is awaited nowhere; the batch waits for its results, not for SLURM.
        warnings.simplefilter("ignore")
        with cluster, Client(cluster, set_as_default=False) as client:
            # Not `scale`: a SLURM job that reaches its walltime is to be followed by another.
            cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)
            yield Crew(client, {JOB: 1}, own=True, most=workers)


def _slurm_options(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise BatchError(
                f"--slurm is not understood at {part!r}: give name=value pairs, as "
                "partition=gpu,cores=8,memory=32GB,walltime=08:00:00,gres=gpu:1 (also account, logs, "
                "and host or interface for the address that workers call; others are handed to sbatch)."
            )
        found[name.strip()] = value.strip()
    if not found.get("cores", "1").isdigit():
        raise BatchError(f"--slurm: cores must be a number, found {found['cores']!r}.")
    return found
