"""What degradations are called, and what they are in words: importing this loads no image library."""

CLEAN = "clean"
# From mild to hard: the chains that each tier draws from, each as often as the others.
TIERS = {"web": ("upload", "messenger"), "hard": ("second-hand", "screenshot", "frame-grab", "thumbnail")}
CHAINS = {
    "upload": "uploaded to a platform",
    "messenger": "sent by a messenger",
    "second-hand": "passed on, cropped and passed on again",
    "screenshot": "taken as a screenshot",
    "frame-grab": "grabbed from a video",
    "thumbnail": "shown as a thumbnail",
}
TIER_WORDS = {
    CLEAN: "as delivered",
    "web": "as platforms and messengers deliver it",
    "hard": "second hand, as a screenshot, frame grab or thumbnail",
}
# What evaluation judges besides the tiers, from mild to hard within a kind; h264 is for frames of videos alone.
SINGLE = (
    *("jpeg:75", "jpeg:50", "jpeg:30", "webp:40", "scale:0.5", "scale:0.25", "blur:1", "blur:2"),
    *("crop:0.8", "noise:5", "h264:23", "h264:35"),
)
EVALUATED = (*TIERS, *SINGLE)
WORDS = {
    "jpeg": "JPEG at quality {}",
    "webp": "WebP at quality {}",
    "fit": "long side at most {} pixels",
    "resize": "resized to {} of each side",
    "cut": "cut to the middle {} of each side",
    "scale": "downscaled to {} of each side and back",
    "blur": "blur of sigma {} pixels",
    "crop": "cropped to {} of each side",
    "noise": "noise of sigma {} gray levels",
    "h264": "H.264 at CRF {}",
}


def describe(name: str) -> str:
    """Return a degradation in words for a reader.

    Args:
        name: A tier, a chain, or steps such as "fit:1440+jpeg:62".
    """
    if name in TIER_WORDS:
        return TIER_WORDS[name]
    if name in CHAINS:
        return CHAINS[name]
    return ", then ".join(WORDS[kind].format(strength) for kind, strength, _ in split_steps(name))


def split_steps(name: str) -> list[tuple[str, str, str]]:
    """Split a degradation's name into its steps: kind, strength (empty if missing) and resampling of each.

    Args:
        name: Steps with "+" between, such as "fit:1440:lanczos+jpeg:62".
    """
    parts = [step.split(":") for step in name.split("+")]
    return [(part[0], part[1] if len(part) > 1 else "", part[2] if len(part) > 2 else "bicubic") for part in parts]
