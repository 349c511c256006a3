"""Dumps the database of MONGODB_URI to files, and restores it.

    backup.py dump DIRECTORY --keep 14      writes DIRECTORY/TIME/COLLECTION.bson, there whole or not at all
    backup.py restore DIRECTORY/TIME        into empty collections, or with --drop in place of what is there

A file holds the documents of a collection one after the other as BSON, as mongodump writes them: mongorestore reads it.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

import bson
import pymongo
from pymongo.database import Database

BATCH = 1000


def dump(database: Database, directory: Path, keep: int) -> Path:
    """Write every collection below a directory of its own, and remove all such but the newest `keep`."""
    target = directory / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    part = directory / f".{target.name}"
    part.mkdir(parents=True)
    for name in sorted(database.list_collection_names()):
        with (part / f"{name}.bson").open("wb") as file:
            for document in database[name].find(batch_size=BATCH):
                file.write(bson.encode(document))
    os.rename(part, target)
    for old in sorted(directory.glob("[0-9]*T*Z"))[:-keep]:
        shutil.rmtree(old)
    return target


def restore(database: Database, directory: Path, drop: bool) -> dict[str, int]:
    """Insert every document of a dump; returns how many, by collection.

    Raises:
        SystemExit: There is no dump, or a collection holds documents and shall not be dropped.
    """
    files = sorted(directory.glob("*.bson"))
    if not files:
        sys.exit(f"{directory} holds no dump; name a directory that dump wrote")
    for file in files:
        if not drop and database[file.stem].find_one() is not None:
            sys.exit(f"{file.stem} holds documents; give --drop to put the dump in their place")
    counts = {}
    for file in files:
        collection = database[file.stem]
        collection.drop()
        with file.open("rb") as content:
            batch, counts[file.stem] = [], 0
            for document in bson.decode_file_iter(content):
                batch.append(document)
                counts[file.stem] += 1
                if len(batch) == BATCH:
                    collection.insert_many(batch)
                    batch = []
            if batch:
                collection.insert_many(batch)
    return counts


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["dump", "restore"])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--keep", type=int, default=14)
    parser.add_argument("--drop", action="store_true")
    options = parser.parse_args()
    with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=10000) as client:
        database = client.get_default_database("ai_vs_real")
        if options.action == "dump":
            print(dump(database, options.directory, options.keep))
        else:
            print(restore(database, options.directory, options.drop))


if __name__ == "__main__":
    main()
