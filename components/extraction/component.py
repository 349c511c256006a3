"""The Kubeflow face of extraction."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.MEDIA, install_kfp_package=False)
def list_media(media: str, shards: int) -> list[str]:
    """List the media and cut the list into shards, each with the digest of what it holds."""
    from components.extraction.extract import listing

    return listing(media, shards)


@dsl.component(base_image=containers.MEDIA, install_kfp_package=False)
def extract_frames(media: str, shard: str, sampling: str, view: str, delivery: str, frames: dsl.Output[dsl.Dataset]):
    """Read one shard of the media into views; its digest makes changed media miss the cache."""
    from components.extraction.extract import extract

    card = extract(media, frames.path, sampling=sampling, view=view, delivery=delivery, shard=shard)
    frames.metadata.update(files=str(card["files"]), rejected=str(card["rejected"]), view=card["view"])
