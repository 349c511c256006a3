"""The Kubeflow face of extraction."""

from kfp import dsl

from components import containers


@dsl.component(base_image=containers.MEDIA, install_kfp_package=False)
def list_media(media: str, shards: int) -> list[str]:
    """List the media and cut the list into shards, each with the digest of what it holds.

    Args:
        media: A labelled directory, a list, or gs://BUCKET/PREFIX.
        shards: Number of parts that extraction is cut into; on a cluster, each is a pod.

    Returns:
        The shards, each as text for `extract_frames`.
    """
    from components.extraction.extract import listing

    return listing(media, shards)


@dsl.component(base_image=containers.MEDIA, install_kfp_package=False)
def extract_frames(
    media: str, shard: str, sampling: str, view: str, delivery: str, tiers: str, frames: dsl.Output[dsl.Dataset]
):
    """Read one shard of the media into views; its digest makes changed media miss the cache.

    Args:
        media: A labelled directory, a list, or gs://BUCKET/PREFIX.
        shard: Which part of the media, and the digest of what it holds.
        sampling: Which frames of a video are read: even:COUNT, rate:FRAMES_PER_SECOND or keyframes:COUNT.
        view: What the network sees of a picture: resizeSIZE, cropsSIZExCOUNT or bothSIZExCOUNT.
        delivery: Whether every picture is rescaled and recompressed alike before the view: as-is or
            common[:PIXELS[:CODEC]].
        tiers: In which tiers of delivery each file is stored for training: clean,web,hard, or clean alone.
        frames: The views and one manifest row for each.
    """
    from components.extraction.extract import extract

    card = extract(media, frames.path, sampling=sampling, view=view, delivery=delivery, tiers=tiers, shard=shard)
    frames.metadata.update(files=str(card["files"]), rejected=str(card["rejected"]), view=card["view"])
