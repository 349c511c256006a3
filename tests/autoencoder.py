"""A tiny autoencoder of drawn weights, as arrays."""

import numpy as np


def arrays(width=8, latent=4, seed=0):
    """A tiny autoencoder of random weights in the layout of TAESD: two halvings, a block with a pool, a skip."""
    random = np.random.default_rng(seed)
    held = {}

    def conv(name, out, into, side=3, bias=True):
        held[f"{name}.weight"] = random.normal(0, 0.1, (out, into, side, side)).astype("float16")
        if bias:
            held[f"{name}.bias"] = random.normal(0, 0.1, out).astype("float16")

    def block(name, out, into, pool=False):
        for part, channels in (("0", into), ("2", out), ("4", out)):
            conv(f"{name}.conv.{part}", out, channels)
        if into != out:
            conv(f"{name}.skip", out, into, side=1, bias=False)
        if pool:
            conv(f"{name}.pool.0", 8, into, side=1, bias=False)
            held[f"{name}.pool.1.weight"], held[f"{name}.pool.1.bias"] = np.ones(8, "f2"), np.zeros(8, "f2")
            conv(f"{name}.pool.3", into, 8, side=1, bias=False)

    conv("encoder.0", width, 3)
    block("encoder.1", width, width)
    conv("encoder.2", width, width, bias=False)
    block("encoder.3", 2 * width, width)
    conv("encoder.4", 2 * width, 2 * width, bias=False)
    conv("encoder.5", latent, 2 * width)
    conv("decoder.1", 2 * width, latent)
    block("decoder.3", 2 * width, 2 * width, pool=True)
    conv("decoder.5", 2 * width, 2 * width, bias=False)
    conv("decoder.7", width, 2 * width, bias=False)
    block("decoder.8", width, width)
    conv("decoder.9", 3, width)
    return held
