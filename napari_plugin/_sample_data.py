"""File > Open Sample: one entry for each of the sample images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dip_sci import io, samples
from napari_plugin._layers import layer_data

if TYPE_CHECKING:
    from napari_plugin._layers import LayerData


def _sample(place: str, name: str) -> list[LayerData]:
    return [layer_data(io.read(samples.folder() / place), name)]


def cells() -> list[LayerData]:
    """Show a two-photon image of BPAE cells, one shot."""
    return _sample("microscopy/bpae_flim_noisy.tif", "cells (two-photon, one shot)")


def cells_mean() -> list[LayerData]:
    """Show the same cells, mean of five shots."""
    return _sample("microscopy/bpae_flim_mean_of_5.tif", "cells (mean of five shots)")


def nuclear_envelope() -> list[LayerData]:
    """Show a confocal stack of nuclear envelopes."""
    return _sample("microscopy/nuclear_envelope_3d.tif", "nuclear envelopes (confocal)")


def nuclei() -> list[LayerData]:
    """Show nuclei with very few photons."""
    return _sample("microscopy/nuclei_very_noisy.tif", "nuclei (few photons)")


def ct() -> list[LayerData]:
    """Show a DICOM series of a thigh."""
    return _sample("ct_series", "thigh (CT)")


def spine() -> list[LayerData]:
    """Show a T1-weighted MR of a cervical spine."""
    return _sample("mri/spine_t1w.nii.gz", "cervical spine (MR, T1)")


def neck() -> list[LayerData]:
    """Show a T2*-weighted MR of a neck, thick slices."""
    return _sample("mri/neck_t2star.nii.gz", "neck (MR, T2*)")
