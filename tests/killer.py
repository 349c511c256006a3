"""Runs a change of the registry in a process of its own and kills it dead before one of its writes."""

import multiprocessing
import os
import signal

from components import records, registry
from components.registration.history import History
from components.registration.register import register

# Seconds of imports that every such process would pay again.
STORES = ("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")
PRELOAD = ("mlflow.pyfunc", *STORES, "alembic.command", "pymongo")


def killed(environment, step, change, *arguments):
    """Run a change; return whether SIGKILL ended it before its write number `step`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killer", *PRELOAD])
    child = context.Process(target=_run, args=(environment, step, change, arguments))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def enter(model, evaluation, name, gate):
    """Register a detector."""
    register(model, evaluation, model_name=name, gate=gate)


def roll_back(name):
    """Roll back to the champion before."""
    with records.open_records() as opened:
        History(opened, name).roll_back("it flags our own photographs")


def _run(environment, step, change, arguments):
    os.environ.update(environment)
    left = step

    def mortal(function):
        def call(*given, **options):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*given, **options)

        return call

    for store in (records.SqliteRecords, records.MongoRecords):
        store.append, store.put_many = mortal(store.append), mortal(store.put_many)
    registry.set_alias, registry.add_version = mortal(registry.set_alias), mortal(registry.add_version)
    change(*arguments)
