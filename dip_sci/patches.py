"""Groups of like patches: what patches that resemble each other share is image, the rest is noise."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dip_sci import interruption
from dip_sci.patch_noise import PatchNoise

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    Rule = Callable[[Tensor, Tensor, Tensor, PatchNoise | None], tuple[Tensor, Tensor]]
    """Maps patches, their pilot ``(groups, count, voxels)``, the noise's variance and what voxels share of it to cleaned ones
    and weights."""

EDGES = {2: (7, 5), 3: (4,)}
"""Edge of a patch in voxels, by the number of spatial axes; small patches keep fine texture better."""

REACH = {2: 12, 3: 4}
"""How far away like patches are looked for, in voxels along each axis."""

EDGES_AGAIN, REACH_AGAIN = {2: (6, 4), 3: (4,)}, {2: 18, 3: 4}
"""Both where patches are filtered once more: what leads then is less noisy, so that like patches are told farther away."""

STEP = {2: 5, 3: 3}
"""Every how many voxels along each axis a group is gathered; 4 in 2D would gain a hundredth of a decibel, for half as much time again."""

NEAR = {2: 6, 3: 1}
"""The same in other frames of a series: little moves farther from one to the next."""

LOW_RANK_COUNT, REFINED_COUNT = {2: 48, 3: 32}, {2: 60, 3: 40}
"""Patches in a group."""

LEADING_COUNT = 36
"""The same for low rank in single planes, where it leads other filters: these lose nothing by it, for a third less time."""

LOW_RANK_LEVEL, WIENER_LEVEL = 0.85, 0.9
"""Noise that is taken off, over the noise there is: patches of a group are like, not equal."""

COARSE_STEP = {2: 5, 3: 4}
"""The same for large images: in 3D half the time, for a tenth of a decibel."""

COMPLETED_STEP = {2: 2, 3: 3}
"""The same where each group completes one patch alone."""

FAITH = 0.05
"""Weight of the pilot beside a patch that is known, where holes are completed: it stays where no patch knows more."""

FAINT = 0.05
"""Noise of a channel, over the strongest of an image's, that is taken off it at least."""

FEW = 4
"""Channels of colours at most, which a group without a pilot parts by what it shows itself; more are frames of a series."""

PRECISE = 1e-5
"""Noise, over the variance of a group's pilot, below which single precision does not do."""

AT_ONCE, CACHED = 1024, 128
"""Groups that are filtered at once; on a CPU, few enough for a core's cache."""

BAND, BAND_CACHED = 1 << 17, 1 << 14
"""Voxels of the part of an image that is searched at once; on a CPU, as few."""

WANTED_EDGE = {2: 64, 3: 24}
"""Edge of the parts that are searched, or left out, where not all of an image is wanted."""


def low_rank(
    image: Tensor, sigma: Tensor, *, coarse: bool = False, frames: int = 0, shared: Tensor | None = None
) -> Tensor:
    """Keep of each group of like patches what is of low rank.

    Parameters
    ----------
    image
        ``(C, *spatial)``, with two or three spatial axes.
    sigma
        Standard deviation of its noise, ``(1 or C, *spatial)`` or broadcast to it; at each voxel, the mean over
        the channels counts, each over its own strength.
    coarse
        Gather fewer groups: sooner done, and a little worse.
    frames
        With more than 0, `image` is a series ``(C, F, *spatial)``: like patches are looked for in so many frames on either
        side, too.
    shared
        Autocorrelation of the noise along the last axes, of odd sizes; ``None`` where it is independent.

    Returns
    -------
    Tensor
        The denoised image, of the same shape.

    Notes
    -----
    The singular values of a group are shrunk so that the squared error is least under noise alone (Gavish & Donoho
    2017, Frobenius loss); of noise that is shared, once it was made white.
    """
    search = _Search.of(image, coarse=coarse, frames=frames)
    edge, count = EDGES[search.ndim][0], LOW_RANK_COUNT[search.ndim]
    if search.ndim == 2 and not frames and len(image) <= FEW:
        count = LEADING_COUNT
    return _filtered(image, image, sigma, search, edge, count, [_shrunk], shared)[0]


def refined(
    image: Tensor,
    pilot: Tensor,
    sigma: Tensor,
    *,
    only: Collection[str] | None = None,
    again: bool = False,
    coarse: bool = False,
    frames: int = 0,
    shared: Tensor | None = None,
) -> list[Tensor]:
    """Filter each group of like patches by what it looks like in a first result, in several ways.

    Parameters
    ----------
    image
        ``(C, *spatial)``, with two or three spatial axes.
    pilot
        A first result, by which patches are compared, of the same shape.
    sigma
        Standard deviation of the noise of `image`, as for `low_rank`.
    only
        Names (of `refinements`) of the ways that are wanted; by default all.
    again
        The pilot is what these filters have made: patches of other sizes are looked for farther away.
    coarse, frames, shared
        As for `low_rank`.

    Returns
    -------
    list of Tensor
        The denoised image, of the same shape, for each size of patch (in the order of `refinements`) by

        - the mean and covariance of the group's patches: the second step of non-local Bayes (Lebrun, Buades & Morel
          2013);
        - the best linear combinations of the group's patches, each less its mean: the second step of NL-Ridge
          (Herbreteau & Kervrann 2022).
    """
    search = _Search.of(image, coarse=coarse, frames=frames, again=again)
    ndim, found = search.ndim, []
    for edge in _edges(ndim, again=again):
        rules = [rule for name, rule in RULES.items() if only is None or _named(name, edge, ndim) in only]
        found += _filtered(image, pilot, sigma, search, edge, REFINED_COUNT[ndim], rules, shared) if rules else []
    return found


def self_led(image: Tensor, sigma: Tensor, *, coarse: bool = False) -> Tensor:
    """Filter each group of small like patches by what it looks like itself: what only single patches show is lost.

    Parameters
    ----------
    image, coarse
        As for `low_rank`; there need be no noise in it.
    sigma
        How strongly, as if noise of that standard deviation were to be taken off; as for `low_rank`.

    Returns
    -------
    Tensor
        The filtered image, of the same shape.
    """
    search = _Search.of(image, coarse=coarse)
    return _filtered(image, image, sigma, search, EDGES[search.ndim][-1], REFINED_COUNT[search.ndim], [_wiener])[0]


def refinements(ndim: int, *, again: bool = False) -> list[str]:
    """Name the results of `refined` for a number of spatial axes."""
    return [_named(name, edge, ndim) for edge in _edges(ndim, again=again) for name in RULES]


def _edges(ndim: int, *, again: bool) -> tuple[int, ...]:
    return (EDGES_AGAIN if again else EDGES)[ndim]


def _named(rule: str, edge: int, ndim: int) -> str:
    return f"{rule} of like {' x '.join([str(edge)] * ndim)} patches"


def complete(image: Tensor, known: Tensor, pilot: Tensor, sigma: Tensor, where: Tensor) -> Tensor:
    """Fill holes by what the known voxels of a patch say, going by the patches that it resembles.

    Parameters
    ----------
    image
        ``(C, *spatial)``, with two or three spatial axes.
    known
        Which of its voxels are known, boolean, ``(*spatial)``.
    pilot
        A first result without holes, of the image's shape.
    sigma
        Standard deviation of the known voxels' noise, as for `low_rank`; more than 0.
    where
        Which voxels are wanted, boolean, ``(*spatial)``; elsewhere the pilot comes back.

    Returns
    -------
    Tensor
        The mean of each patch given its known voxels, under the mean and covariance that its like have in the pilot (Yu,
        Sapiro & Mallat 2012, with groups of like patches in place of classes). Averaged by how much of a patch is known.
    """
    ndim = image.ndim - 1
    search = _Search(ndim, COMPLETED_STEP[ndim], REACH[ndim])
    spatial = image.shape[1:]
    edges = search.edges(EDGES[ndim][0], spatial)
    inside = _offsets(edges, spatial, image.device)
    seen, mask = known.flatten(), known.flatten().float()
    variance = sigma.square().expand_as(image).mean(dim=0).flatten()
    total, weights = torch.zeros_like(image).flatten(1), torch.zeros_like(mask)

    def completed(starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        at = starts[..., None] + inside
        one = at[:, 0]
        observed, noise = mask[one], torch.where(seen[one], variance[one], 1.0)
        both = observed[:, :, None] * observed[:, None, :]
        found = []
        for values, first in zip(image.flatten(1), pilot.flatten(1), strict=True):
            like = first[at]
            mean = like.mean(dim=1)
            centred = like - mean[:, None]
            covariance = centred.mT @ centred / max(like.shape[1] - 1, 1)
            factor = torch.linalg.cholesky((covariance * both + torch.diag_embed(noise)).double())
            rest = ((values[one] - mean) * observed)[..., None]
            solved = torch.cholesky_solve(rest.double(), factor).to(rest.dtype) * observed[..., None]
            found.append(mean + (covariance @ solved)[..., 0])
        return one, torch.stack(found), observed.mean(dim=1)

    with _pool() as pool:
        for groups in _groups(pilot, search, edges, REFINED_COUNT[ndim], where):
            for one, values, share in pool.map(completed, _portions(groups)):
                heavy = share[:, None].expand_as(one)
                weights.index_add_(0, one.flatten(), heavy.flatten())
                for c, channel in enumerate(values):
                    total[c].index_add_(0, one.flatten(), (channel * heavy).flatten())
    found = (total + FAITH * pilot.flatten(1)) / (weights + FAITH)
    return torch.where(where & (weights > 0).reshape(where.shape), found.reshape(image.shape), pilot)


def _shrunk(patches: Tensor, _: Tensor, variance: Tensor, shared: PatchNoise | None) -> tuple[Tensor, Tensor]:
    """Shrink the singular values of each group ``(groups, count, voxels)``; variance of the noise ``(groups,)``."""
    count, voxels = patches.shape[1:]
    mean = patches.mean(dim=1, keepdim=True)
    centred = patches - mean
    white = centred if shared is None else centred @ shared.whitener
    power, vectors = torch.linalg.eigh(white @ white.mT)
    # A patch more or less is lost to the mean.
    few, many = sorted((count - 1, voxels))
    ratio = few / many
    scaled = power / (LOW_RANK_LEVEL**2 * variance[:, None] * many)
    kept = scaled > (1 + math.sqrt(ratio)) ** 2
    gain = ((scaled - ratio - 1).square() - 4 * ratio).clamp_min(0).sqrt() / scaled.clamp_min(1e-6)
    gain = torch.where(kept, gain, 0.0)
    cleaned = mean + (vectors * gain[:, None]) @ (vectors.mT @ centred)
    return cleaned, 1 / (1 + kept.sum(dim=1))


def _wiener(patches: Tensor, pilot: Tensor, variance: Tensor, shared: PatchNoise | None) -> tuple[Tensor, Tensor]:
    """Filter each group ``(groups, count, voxels)`` by its pilot's statistics; variance of the noise ``(groups,)``."""
    count = patches.shape[1]
    mean = pilot.mean(dim=1, keepdim=True)
    centred, rest = pilot - mean, patches - patches.mean(dim=1, keepdim=True)
    if bool((variance < PRECISE * centred.square().sum(dim=2).mean(dim=1)).any()):
        centred, rest = centred.double(), rest.double()
    covariance = centred.mT @ centred / max(count - 1, 1)
    noise = WIENER_LEVEL**2 * variance[:, None, None]
    # C (C + v)^-1 = 1 - v (C + v)^-1: an inverse is made several times sooner than a filter of many patches is solved for.
    if shared is None:
        lost = _inverse(covariance, noise) * noise
    else:
        together = noise * shared.covariance.to(covariance.dtype)
        lost = torch.cholesky_inverse(torch.linalg.cholesky(covariance + together)) @ together
    return mean + (rest - rest @ lost).to(mean.dtype), patches.new_ones(len(patches))


def _ridge(patches: Tensor, pilot: Tensor, variance: Tensor, _: PatchNoise | None) -> tuple[Tensor, Tensor]:
    """Mix the patches of each group ``(groups, count, voxels)`` by their pilot; variance of the noise ``(groups,)``."""
    count, voxels = patches.shape[1:]
    # Each patch keeps its pilot's mean, so that what is done does not depend on where zero lies.
    mean = pilot.mean(dim=2, keepdim=True)
    known, seen = pilot - mean, patches - mean
    if bool((variance < PRECISE * known.square().mean(dim=(1, 2))).any()):
        known, seen = known.double(), seen.double()
    noise = voxels * variance[:, None, None]
    # The shares of each patch in each are P (P + n)^-1 of the products P = K K', and K (K'K + n)^-1 K': the smaller is inverted.
    if voxels < count:
        products = known.mT @ known
        inverse = _inverse(products, noise)
        mixed = known @ (inverse @ (known.mT @ seen))
        held = torch.eye(voxels, device=patches.device) - inverse * noise
    else:
        held = torch.eye(count, device=patches.device) - _inverse(known @ known.mT, noise) * noise
        mixed = held @ seen
    # A patch that is made of many holds less noise, but never less than their mean; a group's patches count alike. The sum of
    # the squares is that of the eigenvalues, the same of both.
    weight = count / (held.square().sum(dim=(1, 2)) + 1)
    return mean + mixed.to(mean.dtype), weight.to(mean.dtype)


def _inverse(products: Tensor, noise: Tensor) -> Tensor:
    """Invert symmetric matrices ``(groups, n, n)`` with noise ``(groups, 1, 1)`` added to their diagonals."""
    diagonal = torch.eye(products.shape[-1], device=products.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(products + noise * diagonal))


RULES: dict[str, Rule] = {"Wiener filter": _wiener, "mixture": _ridge}
"""How a pilot leads."""


class _Search(NamedTuple):
    """Where groups are gathered.

    Attributes
    ----------
    ndim
        Spatial axes.
    step
        Every how many voxels along each of them.
    far
        How far away like patches are looked for along each of them.
    frames
        How many frames on either side are searched, too; 0 where there are none.
    """

    ndim: int
    step: int
    far: int
    frames: int = 0

    @classmethod
    def of(cls, image: Tensor, *, coarse: bool, frames: int = 0, again: bool = False) -> _Search:
        """Search an image ``(C, *spatial)``, or a series ``(C, F, *spatial)``."""
        ndim = image.ndim - 1 - (frames > 0)
        return cls(ndim, (COARSE_STEP if coarse else STEP)[ndim], (REACH_AGAIN if again else REACH)[ndim], frames)

    def edges(self, edge: int, sizes: Sequence[int]) -> list[int]:
        """Edges of a patch, which lies in one frame."""
        return [1] * (self.frames > 0) + [min(edge, n) for n in sizes[-self.ndim :]]

    def steps(self, edges: Sequence[int]) -> list[int]:
        """Every how many places along each axis a group is gathered: no more than a patch is long, or voxels would lie in none."""
        wanted = [1] * (self.frames > 0) + [self.step] * self.ndim
        return [min(step, edge) for step, edge in zip(wanted, edges, strict=True)]

    def reach(self, lasts: Sequence[int]) -> list[int]:
        """How far along each axis like patches may lie; the last places are known."""
        wanted = [self.frames] * (self.frames > 0) + [self.far] * self.ndim
        return [min(r, last) for r, last in zip(wanted, lasts, strict=True)]

    def lines(self, reach: Sequence[int]) -> list[tuple[tuple[int, ...], int]]:
        """Shifts along all axes but the last that are tried, each with how far along the last."""
        if not self.frames:
            return [(line, reach[-1]) for line in itertools.product(*(range(-r, r + 1) for r in reach[:-1]))]
        found = []
        for frame in range(-reach[0], reach[0] + 1):
            near = [min(r, NEAR[self.ndim]) if frame else r for r in reach[1:]]
            found += [((frame, *rest), near[-1]) for rest in itertools.product(*(range(-r, r + 1) for r in near[:-1]))]
        return found

    def bands(self, axes: Sequence[Tensor], spatial: Sequence[int], *, small: bool) -> Iterator[tuple[Tensor, ...]]:
        """Divide where groups begin along each axis into parts that are searched at once."""
        if small:
            sizes = [max(WANTED_EDGE[self.ndim] // self.step, 1)] * len(axes)
        else:
            band = BAND_CACHED if axes[0].device.type == "cpu" else BAND
            series = [max(band // math.prod(spatial[1:]), 1)] * (self.frames > 0)
            rows = max(band // math.prod([*series, *spatial[len(series) + 1 :]]) // self.step, 1)
            sizes = [*series, rows, *map(len, axes[len(series) + 1 :])]
        return itertools.product(*(torch.split(own, size) for own, size in zip(axes, sizes, strict=True)))


def _filtered(
    image: Tensor,
    guide: Tensor,
    sigma: Tensor,
    search: _Search,
    edge: int,
    count: int,
    rules: Sequence[Rule],
    shared: Tensor | None = None,
) -> list[Tensor]:
    """Gather groups by the guide, filter them by each rule, and put every patch back where it was; the mean counts."""
    spatial = image.shape[1:]
    edges = search.edges(edge, spatial)
    level, unled = _levels(sigma, image), guide is image
    image, guide, sigma = image / level, guide / level, sigma / level
    variance = sigma.square().expand_as(image).mean(dim=0).flatten()
    # Channels without correlation are filtered one by one; a rotation leaves the noise as it was.
    share, vectors = torch.linalg.eigh(_covariance(_detail(guide, edges).flatten(1)))
    seen, known = (torch.tensordot(vectors.mT, part, dims=1) for part in (image, guide))
    power = known.flatten(1).var(dim=1)
    # A channel with little in it but noise says little of which patches are alike.
    noise = variance.mean()
    signal = (power - noise).clamp_min(0) if unled else power
    compared = known * (signal / (signal + noise)).sqrt().reshape(-1, *(1 for _ in spatial))
    totals = [torch.zeros_like(seen).flatten(1) for _ in rules]
    weights = [torch.zeros_like(seen[0]).flatten() for _ in rules]
    inside = _offsets(edges, spatial, image.device)
    together = PatchNoise.of(shared, edges)
    # Of many channels, a group's own noise seems to go its own ways.
    apart = len(image) > 1 and not (unled and len(image) > FEW)

    def cleaned(starts: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        at = starts[..., None] + inside
        places = at.flatten()
        noise = variance[at[:, 0]].mean(dim=1)
        patches, pilots = (
            torch.stack([channel.flatten().index_select(0, places).reshape(at.shape) for channel in part])
            for part in (seen, known)
        )
        own = _own_rotation(pilots, share) if apart else None
        patches, pilots = (_turned(part, own, back=False) for part in (patches, pilots))
        found = []
        for rule in rules:
            both = [rule(*channel, noise, together) for channel in zip(patches, pilots, strict=True)]
            values, heavy = (torch.stack(part) for part in zip(*both, strict=True))
            shares = heavy.log().mean(dim=0).exp()[:, None, None]
            found.append((_turned(values, own, back=True).mul_(shares).flatten(1), shares.expand_as(at).flatten()))
        return places, found

    with _pool() as pool:
        for groups in _groups(compared, search, edges, count):
            for at, results in pool.map(cleaned, _portions(groups)):
                for total, weight, (values, shares) in zip(totals, weights, results, strict=True):
                    weight.index_add_(0, at, shares)
                    for one, channel in zip(total, values, strict=True):
                        one.index_add_(0, at, channel)
    return [
        level * torch.tensordot(vectors, (total / weight).reshape(seen.shape), dims=1)
        for total, weight in zip(totals, weights, strict=True)
    ]


def _detail(image: Tensor, edges: Sequence[int]) -> Tensor:
    """Take the means of its surroundings, about as large as a patch, off each voxel of an image ``(C, *spatial)``."""
    # Frames are pooled one by one; an odd number of voxels has a middle.
    inside = min(len(edges), 3)
    stack = image.flatten(0, image.ndim - 1 - inside)[:, None]
    sizes = zip(edges[-inside:], stack.shape[2:], strict=True)
    kernel = [min(edge + 1 - edge % 2, n - 1 + n % 2) for edge, n in sizes]
    pool = functional.avg_pool2d if inside == 2 else functional.avg_pool3d
    means = pool(stack, kernel, 1, [edge // 2 for edge in kernel], count_include_pad=False)
    return image - means.reshape(image.shape)


def _covariance(samples: Tensor) -> Tensor:
    """Return the covariance of channels ``(C, N)`` with the mean 0."""
    return samples @ samples.mT / samples.shape[1]


def _own_rotation(patches: Tensor, share: Tensor) -> Tensor:
    """Return the rotations ``(groups, C, C)`` after which the channels of groups ``(C, groups, count, voxels)`` go their own ways.

    Where a group shows little but noise, that is how they are on all of the image, with the variances ``(C,)``.
    """
    detail = (patches - patches.mean(dim=3, keepdim=True)).movedim(1, 0).flatten(2)
    covariance = detail @ detail.mT / detail.shape[2] + torch.diag(share)
    vectors: Tensor = torch.linalg.eigh(covariance)[1]
    return vectors


def _turned(patches: Tensor, rotation: Tensor | None, *, back: bool) -> Tensor:
    """Rotate the channels of groups ``(C, groups, count, voxels)``, or turn them back; without a rotation they stay."""
    if rotation is None:
        return patches
    return torch.einsum("gdc,cgnv->dgnv", rotation if back else rotation.mT, patches)


def _levels(sigma: Tensor, image: Tensor) -> Tensor:
    """Return how strong the noise of each channel is ``(C, *1)``, over that of all: over it, all have the same."""
    power = sigma.square().expand_as(image).flatten(1).mean(dim=1)
    level = power.clamp_min(FAINT**2 * float(power.max())).sqrt() / power.mean().sqrt()
    return level.reshape(-1, *(1 for _ in image.shape[1:]))


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads of which each works on matrices of its own.

    Libraries of linear algebra share out each small matrix between all threads, and are several times slower for it.
    """
    threads = torch.get_num_threads()
    begun = Barrier(threads + 1)

    def alone() -> None:
        torch.set_num_threads(1)
        # Until a thread asks for the first time, it follows what others set.
        torch.get_num_threads()
        begun.wait()

    with ThreadPoolExecutor(threads, initializer=alone) as pool:
        for _ in range(threads):
            pool.submit(int)
        begun.wait()
        # What one thread sets for itself is what threads find that are begun later, those of another run, too.
        torch.set_num_threads(threads)
        yield pool


def _portions(groups: Tensor) -> tuple[Tensor, ...]:
    return torch.split(groups, CACHED if groups.device.type == "cpu" else AT_ONCE)


def _offsets(edges: Sequence[int], spatial: Sequence[int], device: torch.device) -> Tensor:
    """Flat positions of a patch's voxels, from that of its first."""
    places = torch.cartesian_prod(*(torch.arange(n, device=device) for n in edges))
    return _flat(places.reshape(-1, len(edges)), spatial)


def _groups(
    guide: Tensor, search: _Search, edges: list[int], count: int, wanted: Tensor | None = None
) -> Iterator[Tensor]:
    """Yield, block after block, where the patches of each group begin: flat positions ``(groups, count)``.

    With `wanted`, ``(*spatial)``, only groups whose first patch holds a voxel of it.
    """
    spatial = guide.shape[1:]
    lasts = [n - edge for n, edge in zip(spatial, edges, strict=True)]
    reach = search.reach(lasts)
    lines = search.lines(reach)
    shifts = [(*line, last) for line, far in lines for last in range(-far, far + 1)]
    padded = _padded(guide, reach)
    axes = [_starts(last, step, guide.device) for last, step in zip(lasts, search.steps(edges), strict=True)]
    for starts in search.bands(axes, spatial, small=wanted is not None):
        interruption.check()
        places = torch.cartesian_prod(*starts).reshape(-1, len(spatial))
        within = (
            None
            if wanted is None
            else wanted.flatten()[_flat(places, spatial)[:, None] + _offsets(edges, spatial, guide.device)].any(dim=1)
        )
        if within is not None and not bool(within.any()):
            continue
        distances = torch.cat(
            [_distances(guide, padded, starts, edges, line, reach, far) for line, far in lines], dim=-1
        )
        # The patch itself comes first, whatever rounding says.
        distances[..., shifts.index((0,) * len(spatial))] = -1.0
        distances = distances.reshape(len(places), len(shifts))
        if within is not None:
            places, distances = places[within], distances[within]
        there = places[:, None] + torch.tensor(shifts, device=guide.device)
        outside = ((there < 0) | (there > torch.tensor(lasts, device=guide.device))).any(dim=-1)
        found, order = distances.masked_fill(outside, math.inf).topk(min(count, len(shifts)), largest=False)
        # A corner of a small image has fewer neighbours: the patch itself stands in for those that are missing.
        order = torch.where(found.isfinite(), order, order[:, :1])
        yield _flat(there, spatial).gather(1, order)


def _padded(guide: Tensor, reach: Sequence[int]) -> Tensor:
    """Repeat the outermost voxels of ``(C, *spatial)`` as far as patches are looked for."""
    for axis, r in enumerate(reach, start=1):
        size = guide.shape[axis]
        guide = guide.index_select(axis, torch.arange(-r, size + r, device=guide.device).clamp(0, size - 1))
    return guide


def _distances(
    guide: Tensor,
    padded: Tensor,
    starts: Sequence[Tensor],
    edges: list[int],
    line: Sequence[int],
    reach: list[int],
    far: int,
) -> Tensor:
    """Square distances of patches from those shifted by a line of shifts.

    Parameters
    ----------
    guide, padded
        What is compared, ``(C, *spatial)``, without and with a border as wide as the reach.
    starts, edges
        Where the patches begin along each axis, and how long they are.
    line
        The shifts along all axes but the last.
    reach
        The border's width along each axis.
    far
        The largest shift along the last axis: all up to it are tried.

    Returns
    -------
    Tensor
        ``(*starts, shifts)``.
    """
    low = [int(own[0]) for own in starts]
    sizes = [int(own[-1]) - a + edge for own, a, edge in zip(starts, low, edges, strict=True)]
    moved = padded
    for axis, (a, n) in enumerate(zip(low, sizes, strict=True), start=1):
        guide = guide.narrow(axis, a, n)
    for axis, (a, n, shift, r) in enumerate(zip(low, sizes, line, reach, strict=False), start=1):
        moved = moved.narrow(axis, a + shift + r, n)
    # (C, *spatial, shifts): a window as long as the line, at each place of the last axis.
    windows = moved.narrow(-1, low[-1] + reach[-1] - far, sizes[-1] + 2 * far).unfold(-1, 2 * far + 1, 1)
    square = (guide[..., None] - windows).square().sum(dim=0)
    for axis, (own, a, edge) in enumerate(zip(starts, low, edges, strict=True)):
        near = square.index_select(axis, own - a)
        for k in range(1, edge):
            near += square.index_select(axis, own - a + k)
        square = near
    return square


def _starts(last: int, step: int, device: torch.device) -> Tensor:
    """Return every so many places from 0 on, and the last."""
    return torch.tensor(sorted({*range(0, last + 1, step), last}), device=device)


def _flat(places: Tensor, spatial: Sequence[int]) -> Tensor:
    """Flat positions in an array of a shape."""
    strides = torch.tensor([math.prod(spatial[axis + 1 :]) for axis in range(len(spatial))], device=places.device)
    flat: Tensor = (places * strides).sum(dim=-1)
    return flat
