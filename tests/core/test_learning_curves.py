"""The experiment that the method rests on: a network learns what looks natural sooner than noise."""

import itertools

import numpy as np
from scenes import scene, tiny

from dip_sci.image import Image
from dip_sci.restore import denoise

SIDE, LEVEL = 24, 0.03


def test_natural_is_learnt_before_noisy_before_scrambled_before_white_noise():
    clean = scene(SIDE, SIDE)
    clean = (clean - clean.min()) / np.ptp(clean)
    rng = np.random.default_rng(0)
    targets = {
        "natural": clean,
        "noisy": np.clip(clean + rng.normal(0, 0.15, clean.shape), 0, 1),
        "scrambled": rng.permutation(clean.ravel()).reshape(clean.shape),
        "white noise": rng.uniform(0, 1, clean.shape),
    }
    recipe = tiny(
        generator={"kind": "hourglass", "channels": (16, 32), "output": "sigmoid", "upsample": ("linear",)},
        input={"channels": 8, "jitter": 0.0},
        supervision={"kind": "full"},
        fit={"steps": 80, "rate": 0.01},
        stop={"rule": "fixed"},
        noise={"sigma": 0.1},
    )
    steps = {}
    for name, values in targets.items():
        terms = (
            np.array(denoise(Image(values.astype(np.float32), "YX"), recipe).report.data_terms) * np.ptp(values) ** 2
        )
        assert terms[-1] < LEVEL, f"{name} is never learnt: {terms[-1]:.4f}"
        steps[name] = int(np.argmax(np.convolve(terms, np.ones(5) / 5, "valid") < LEVEL))
    assert all(a < b for a, b in itertools.pairwise(steps.values())), steps
