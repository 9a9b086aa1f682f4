"""Recipe: every option of a run, declared here and nowhere else."""

from __future__ import annotations

import difflib
import json
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dip_sci.errors import RecipeError


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("kernel sizes must be odd")
    return size


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, lt=1)]
Sizes = Annotated[tuple[Annotated[int, Field(ge=0, le=4096)], ...], Field(min_length=1, max_length=12)]
Odd = Annotated[int, Field(ge=1, le=15), AfterValidator(_odd)]
Kernels = Annotated[tuple[Odd, ...], Field(min_length=1, max_length=12)]


DEAF = ("deep_decoder", "conv_decoder", "pixels")
"""Generators that make an image out of a small input of their own, and cannot be shown one."""

BELONGS = {
    "channels": ("hourglass", "unet", "plain", "classic_unet", "resnet", "deep_decoder", "conv_decoder"),
    "up_channels": ("hourglass",),
    "skip_channels": ("hourglass",),
    "kernel_down": ("hourglass", "unet", "plain", "classic_unet", "resnet"),
    "kernel_up": ("hourglass", "unet", "conv_decoder"),
    "downsample": ("hourglass", "unet"),
    "upsample": ("hourglass", "unet", "deep_decoder", "conv_decoder"),
    "pointwise": ("hourglass",),
    "norm": ("hourglass", "unet", "plain", "classic_unet", "resnet", "deep_decoder", "conv_decoder"),
    "output": ("hourglass", "classic_unet", "resnet", "deep_decoder", "conv_decoder", "pixels"),
    "dropout": ("unet",),
}
"""Which generators have what an option of theirs sets."""

TAKEN_BY = {
    "sigma": ("gaussian", "rician"),
    "gain": ("poisson_gaussian", "poisson"),
    "offset": ("poisson_gaussian", "poisson"),
    "read_noise": ("poisson_gaussian", "speckle"),
    "looks": ("speckle",),
}
"""Which noise models have what an option of theirs sets."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class NoiseOptions(_Group):
    """What the noise is. What is left out is estimated from the image."""

    model: Literal["auto", "gaussian", "poisson", "poisson_gaussian", "rician", "speckle"] = "auto"
    """`gaussian`: of the same strength everywhere; `poisson`, `poisson_gaussian`: photon counts, the second with read
    noise; `rician`: magnitudes of complex values, as in magnetic resonance images; `speckle`: in proportion to the signal, as
    in intensities of coherent light or ultrasound of which no logarithm was taken."""
    sigma: Positive | None = None
    """Standard deviation in the image's own units (Gaussian; Rician: of the real and of the imaginary part)."""
    gain: Positive | None = None
    """Grey levels per detected photon (Poisson, Poisson-Gaussian)."""
    offset: float | None = None
    """Grey level of the camera without light (Poisson, Poisson-Gaussian)."""
    read_noise: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation of the camera's read noise, in grey levels (Poisson-Gaussian, speckle)."""
    looks: Positive | None = None
    """How many independent looks a voxel is the mean of: the noise is one over their root of the signal (speckle)."""
    spatial: Literal["auto", "independent", "correlated"] = "auto"
    """Whether neighbouring voxels share noise; `auto`: as measured."""
    interference: Literal["auto", "keep"] = "auto"
    """Faint stripes along rows or columns, of electric hum all over a scanned image or of detectors in which each line has an
    offset of its own: `auto` takes them out."""
    outliers: Literal["auto", "keep"] = "auto"
    """Single voxels, or pairs, that stand out from all around them by more than noise explains (hot and dead pixels, cosmic
    rays): `auto` fills them in from what is around them."""

    @property
    def given(self) -> bool:
        """Whether it was said which noise there is."""
        return self.model != "auto" or not (self.sigma is self.gain is self.looks is None)

    @model_validator(mode="after")
    def _one_model(self) -> NoiseOptions:
        given = [name for name in TAKEN_BY if getattr(self, name) is not None]
        for name in given:
            if self.model not in ("auto", *TAKEN_BY[name]):
                raise ValueError(f"noise.{name} belongs to {' and '.join(TAKEN_BY[name])}; {self.model} has none")
        for one, other in combinations(given, 2):
            if not set(TAKEN_BY[one]) & set(TAKEN_BY[other]):
                theirs, its = (" and ".join(TAKEN_BY[name]) for name in (other, one))
                raise ValueError(f"noise.{other} belongs to {theirs}, noise.{one} to {its}: give one of them")
        return self


class GeneratorOptions(_Group):
    """The untrained network."""

    kind: Literal[
        "auto", "hourglass", "unet", "plain", "classic_unet", "resnet", "deep_decoder", "conv_decoder", "pixels"
    ] = "auto"
    """`hourglass`: the skip network of Ulyanov et al. 2018, without skips an encoder-decoder; `unet`: light, without
    normalisation, with dropout; `plain`: convolutions at full resolution; `classic_unet`, `resnet`: the others that the
    paper compares. Those that no image is shown to (full supervision): `deep_decoder`: 1x1 convolutions (Heckel & Hand
    2019); `conv_decoder`: 3x3 ones on ever finer grids (Darestani & Heckel 2021); `pixels`: no network, each voxel a
    parameter."""
    ndim: Literal["auto", "2d", "3d"] = "auto"
    """2D (each plane an image) or 3D convolutions; `auto` decides by the spatial axes and the voxels' anisotropy."""
    neighbours: Annotated[int, Field(ge=0, le=8)] | None = None
    """Frames of a time series, or planes of a volume that is restored plane by plane, on either side that are seen with
    each; by default 3 in time, 1 where planes are thick, else 0. Their noise must be independent: in time, that is looked
    into."""
    along: Literal["auto", "T", "Z"] = "auto"
    """Axis along which neighbours lie; `auto`: time where there is some, else Z."""
    joint_channels: bool = False
    """Restore the channels of an image together, as the colours of one: where they show the same structures."""
    channels: Sizes | None = None
    """Channels on the way down, one number per scale; of a decoder, one per layer, coarsest first; of the ResNet, one
    per block, all alike."""
    up_channels: Sizes | None = None
    """Channels on the way up (hourglass); by default those on the way down."""
    skip_channels: Sizes | None = None
    """Channels of the skip connections (hourglass), one for all scales or one per scale; 0 for none."""
    kernel_down: Kernels = (3,)
    """Kernel size on the way down (hourglass, unet; elsewhere of all convolutions but a decoder's), one for all scales
    or one per scale."""
    kernel_up: Kernels = (3,)
    """Kernel size on the way up (hourglass, unet, conv_decoder), one for all scales or one per scale."""
    downsample: Literal["stride", "average", "max"] | None = None
    """How a scale is entered (hourglass, unet): strided convolution, average or maximum pooling."""
    upsample: Annotated[tuple[Literal["nearest", "linear"], ...], Field(min_length=1, max_length=12)] | None = None
    """How a scale is left, one for all scales or one per scale; by default nearest, for the deep_decoder linear."""
    pointwise: bool = True
    """Follow each convolution on the way up by a 1x1 convolution (hourglass)."""
    norm: Literal["auto", "batch", "instance", "none"] = "auto"
    """Normalisation layers; `auto`: none for unet and plain, instance for classic_unet, else batch."""
    output: Literal["linear", "sigmoid"] = "linear"
    """Last layer. The sigmoid is the paper's, for photographs; it squeezes values into the observed range."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of activations dropped on the way up (unet)."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> GeneratorOptions:
        if self.kind == "auto":
            return self
        for name, kinds in BELONGS.items():
            value = getattr(self, name)
            if self.kind not in kinds and value and value != type(self).model_fields[name].default:
                raise ValueError(f"generator.{name} belongs to {', '.join(kinds)}; {self.kind} has none of it")
        return self


class InputOptions(_Group):
    """The network's input z under full supervision."""

    kind: Literal["noise", "meshgrid", "image"] = "noise"
    """Fixed random noise, the voxels' coordinates, or the observation itself."""
    channels: Annotated[int, Field(ge=1, le=512)] | None = None
    """Channels of the noise input; by default 32, for decoders as many as their first layer has."""
    scale: Positive = 0.1
    """Noise input: values are drawn from U(0, scale)."""
    jitter: Annotated[float, Field(ge=0)] | None = None
    """Standard deviation of the normal noise added to the input at each step; by default 1/30, for decoders none."""


class OperatorOptions(_Group):
    """How the image became what was observed."""

    kernel: Literal["lanczos2", "lanczos3", "box", "gaussian"] = "lanczos2"
    """Super-resolution: what made the coarse voxels. `lanczos2`, `lanczos3`: a sharp reduction, as of photographs;
    `box`: the mean over a voxel (binning, slices with a rectangular profile); `gaussian`: a smooth profile as wide at
    half its height as a voxel."""
    denoise: Literal["auto", "yes", "no"] = "auto"
    """Super-resolution: remove the noise first; `auto`: where the noise is given. What is sharp in a small image looks
    like noise, so that its own estimate does not decide."""


class SupervisionOptions(_Group):
    """What the network learns from."""

    kind: Literal["auto", "full", "recorrupted"] = "auto"
    """`full`: the classic prior, fitted to every observed voxel from an input that carries no image.
    `recorrupted`: the observation, degraded once more, is the input; the observation is the target."""
    recorrupt: Literal["auto", "hide", "split", "resample"] = "auto"
    """How to degrade once more: hide voxels (noise independent from voxel to voxel), split the noise in two, or
    resample to coarser voxels (super-resolution)."""
    hidden: tuple[Share, Share] | None = None
    """Smallest and largest share of voxels hidden in a step (hide); by default, by how strong the noise is."""
    strength: tuple[Positive, Positive] = (1.0, 1.0)
    """Smallest and largest noise added to the input over that in the image, tau (split)."""
    passes: Annotated[int, Field(ge=1, le=256)] | None = None
    """Random degradations whose restorations are averaged in the result."""
    patch: Annotated[int, Field(ge=16)] | None = None
    """Edge of the random patches that are fitted, in voxels."""
    flips: Literal["auto", "yes", "no"] = "auto"
    """Fit patches flipped, too, and average passes over flipped images (hide, split); `auto`: where a fit sees the same voxels
    so often that it would come to know their noise by heart, and no blur tells a flipped image from another."""

    @model_validator(mode="after")
    def _ordered(self) -> SupervisionOptions:
        for name in ("hidden", "strength"):
            given = getattr(self, name)
            if given is not None and given[0] > given[1]:
                raise ValueError(f"supervision.{name} must rise: {given}")
        return self


class FitOptions(_Group):
    """The optimisation."""

    steps: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Steps at most; 0 returns the image as it is."""
    rate: Positive | None = None
    """Learning rate of Adam (the peak of a one-cycle schedule)."""
    schedule: Literal["auto", "constant", "one_cycle"] = "auto"
    """Course of the learning rate; `auto`: one-cycle for recorrupted, constant for full supervision."""
    averaging: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the running average that is returned: of the outputs (full) or of the weights (recorrupted)."""
    seeds: Annotated[int, Field(ge=1, le=64)] = 1
    """Networks fitted side by side; their mean is returned, their spread is a map of the result's uncertainty."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; `auto`: bfloat16 where the hardware is fast at it."""
    tv: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the total variation (its mean over the voxels, of an image of unit standard deviation) beside the data
    term, under full supervision."""
    outside: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Weight of the observed voxels outside the region of interest, where there is one; inside it is 1. Where patches are
    fitted, as many more of them are taken from the region."""


class StopOptions(_Group):
    """When to stop."""

    rule: Literal[
        "auto", "fixed", "windowed_variance", "moving_variance", "discrepancy", "held_out", "split", "sure"
    ] = "auto"
    """`fixed`: after all steps. `windowed_variance`, `moving_variance`: when the iterates' variance has passed its
    minimum. `discrepancy`: when what is left of the observation is as strong as the noise. `held_out`: when voxels
    kept out of the fit are no longer predicted better. `split`: the same with a copy of the whole observation, made
    with added noise; right for correlated noise, too. `sure`: when Stein's unbiased estimate of the error no longer
    falls, for networks that see the observation (recorrupted), in blocks that the fit does not learn from (an eighth of
    the image); photon noise is stabilised first, and Gaussian then.
    `auto`: moving variance for full supervision; for recorrupted `fixed`, but where a fit sees the same voxels very often,
    `held_out` with hidden voxels and `sure` with split noise."""
    window: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Iterates in the windowed variance."""
    alpha: Share = 0.05
    """Weight of the newest iterate in the moving variance."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Steps without improvement before stopping; by default half as many as the best took, 100 at least."""
    min_start: Annotated[int, Field(ge=0)] | None = None
    """Steps before which no minimum counts."""
    held_out: Share = 0.02
    """Share of voxels kept out of the fit (held_out)."""
    discrepancy: Positive = 1.0
    """Mean square residual at which to stop, over the noise's variance (discrepancy)."""
    split: Positive = 0.5
    """Noise added to what is fitted over that in the image, t (split). It costs quality, as if the image had
    sqrt(1 + t^2) times its noise; the smaller it is, the less sure is the stop. With an even number of `fit.seeds` it
    is gone from their mean."""
    max_seconds: Positive | None = None
    """Time after which the best result so far is returned."""


class OutputOptions(_Group):
    """The result."""

    dtype: Literal["same", "float32"] = "same"
    """Type of the result's values: that of the input (rounded and clipped for integers) or float32."""
    known: Literal["keep", "restore"] = "keep"
    """Inpainting: `keep` the known voxels bit-identical, or `restore` them, too, without their noise."""
    outside: Literal["keep", "restore"] = "keep"
    """Where there is a region of interest: `keep` the voxels outside of it bit-identical, or `restore` them, too, so that
    the region only counts more (see fit.outside)."""
    classical: Literal["blend", "beside", "none"] = "blend"
    """Classical results: `blend` weighs them into the network's by an unbiased estimate of the error, `beside` only
    reports them, `none` leaves them out. Where finer voxels or less blur are asked for, `blend` has like patches lead the
    network's result on."""
    tile: Annotated[int, Field(ge=48)] | None = None
    """Longest edge, in voxels, of the tiles that a large image is restored in (128 at least in 2D); an image with a longer
    one counts as large then. By default, images that the memory cannot take are large, and the tiles as the memory
    takes them. Each tile has a fit of its own where what is learned of one does not hold for the others."""


class Recipe(_Group):
    """All options of a run. Frozen; ``None`` and ``auto`` are decided per image, and the record says how."""

    preset: Literal["fast", "balanced", "best"] = "balanced"
    """Time against quality: sets what is not set by hand."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random. The same seed, device and thread count give the same result."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`."""
    noise: NoiseOptions = NoiseOptions()
    generator: GeneratorOptions = GeneratorOptions()
    input: InputOptions = InputOptions()
    operator: OperatorOptions = OperatorOptions()
    supervision: SupervisionOptions = SupervisionOptions()
    fit: FitOptions = FitOptions()
    stop: StopOptions = StopOptions()
    output: OutputOptions = OutputOptions()

    @classmethod
    def needed(cls, recipe: object) -> Recipe:
        """Return what is to be a recipe; the default for ``None``.

        Raises
        ------
        RecipeError
            If it is none.
        """
        if recipe is None:
            return cls()
        if isinstance(recipe, Recipe):
            return recipe
        raise RecipeError(
            f"A Recipe is needed, not {type(recipe).__name__}: Recipe(preset='fast'), Recipe.parse(options) or Recipe.load(path) "
            "make one."
        )

    @classmethod
    def parse(cls, data: Any, *, where: str = "the recipe") -> Recipe:
        """Build a recipe from nested dictionaries.

        Parameters
        ----------
        data
            Groups and their options, as in a recipe file; what is left out keeps its default.
        where
            What to call the origin in an error.

        Raises
        ------
        RecipeError
            On an unknown key (naming the nearest known one) or a value of the wrong type or range.
        """
        if not isinstance(data, dict):
            raise RecipeError(f"{where} must hold groups of options, found {type(data).__name__}.")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise RecipeError(f"{where}: {explain(error)}.") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe from a YAML or JSON file.

        Raises
        ------
        RecipeError
            If the file cannot be read or holds something else than a recipe.
        """
        import yaml

        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
            data = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
        except OSError as error:
            raise RecipeError(f"The recipe {path} cannot be read: {error.strerror}.") from None
        except (yaml.YAMLError, ValueError) as error:
            raise RecipeError(f"The recipe {path} is not valid YAML or JSON: {' '.join(str(error).split())}.") from None
        return cls.parse({} if data is None else data, where=f"The recipe {path}")

    def save(self, path: str | Path) -> None:
        """Write the recipe, defaults included, as YAML or (suffix ``.json``) JSON."""
        import yaml

        path = Path(path)
        data = self.model_dump(mode="json")
        text = json.dumps(data, indent=2) if path.suffix.lower() == ".json" else yaml.safe_dump(data, sort_keys=False)
        path.write_text(text + ("" if text.endswith("\n") else "\n"), encoding="utf-8")

    def merged(self, changes: dict[str, Any], *, where: str = "the options") -> Recipe:
        """Return this recipe with some options replaced, given as nested dictionaries.

        Where they are of another noise model than this recipe's, they replace its model and what belongs to it, too.
        """
        base = self.model_dump(exclude_unset=True)
        if isinstance(changes.get("noise"), dict):
            base["noise"] = _compatible(base.get("noise", {}), changes["noise"])
        return Recipe.parse(_merge(base, changes), where=where)


def options() -> dict[str, Any]:
    """Every option by its dotted name, with its pydantic field: what forms, flags and docs are made from."""
    found: dict[str, Any] = {}
    for name, info in Recipe.model_fields.items():
        group = info.annotation
        if isinstance(group, type) and issubclass(group, _Group):
            found |= {f"{name}.{key}": value for key, value in group.model_fields.items()}
        else:
            found[name] = info
    return found


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        out[key] = _merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def _compatible(noise: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return noise options without those that no model has together with the changes."""
    said = _said(changes)
    models = {model for taken in TAKEN_BY.values() for model in taken}
    models = models.intersection(*(_models(name, value) for name, value in said.items()))
    return {name: value for name, value in noise.items() if name not in _said(noise) or models & _models(name, value)}


def _said(noise: dict[str, Any]) -> dict[str, Any]:
    """Return those of the noise options that say which model it is."""
    return {k: v for k, v in noise.items() if k in ("model", *TAKEN_BY) and v not in (None, "auto")}


def _models(name: str, value: Any) -> set[str]:
    """Return the noise models that have an option."""
    return {str(value)} if name == "model" else set(TAKEN_BY[name])


def explain(error: ValidationError) -> str:
    """Put pydantic's errors into words: which options, what is wrong, what was found."""
    found = error.errors(include_url=False)
    places = [e["loc"] for e in found]
    # A wrong item also makes its tuple wrong: the item says it all.
    inner = [e for e in found if not any(p != e["loc"] and p[: len(e["loc"])] == e["loc"] for p in places)]
    return "; ".join(_explain(dict(e)) for e in inner)


def _explain(error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = [*options(), *Recipe.model_fields]
        # A name under the wrong group is as likely as a misspelling: compare with the last part as well.
        last = place.rsplit(".", 1)[-1]
        near = difflib.get_close_matches(place, known, n=1, cutoff=0.6) or [
            k for k in known if difflib.get_close_matches(last, [k.rsplit(".", 1)[-1]], cutoff=0.6)
        ]
        return f"unknown option {place!r}" + (f", did you mean {near[0]!r}?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" and isinstance(error["input"], dict):
        # What is wrong with a group as a whole names its options itself.
        return str(message)
    return f"{place}: {message[:1].lower()}{message[1:]}, found {error['input']!r}"
