"""What a derived DICOM image says of itself: new identity, how it came about, and where from.

The rules are those of DICOM PS3.3 C.7.6.1 (General Image), C.12.4.6 (General Reference) and C.12.1 (SOP Common);
for enhanced images C.7.6.16.2.6 (Derivation Image).
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from dip_sci import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

PRODUCT = "dip-sci"

SERIES_STEP = 1000
"""Added to the source's series number: viewers list the derived series after the study's own."""

OUR_SCHEME = "99DIPSCI"
"""Names of private coding schemes begin with 99 (PS3.3 table 8.8-1)."""

LIMITS = {"SeriesDescription": 64, "DerivationDescription": 1024}

DROPPED = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "IconImageSequence",
    "InstanceCreatorUID",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelDataProviderURL",
    # Signatures of what has been changed.
    "MACParametersSequence",
    "DigitalSignaturesSequence",
    "DataSetTrailingPadding",
)
"""No longer true of other pixels."""

KEPT_PRIVATE = {
    ("GEMS_PARM_01", 0x0043): (0x39,),
    ("SIEMENS MR HEADER", 0x0019): (0x0C, 0x0D, 0x0E, 0x27),
    ("Philips Imaging DD 001", 0x2001): (0x03,),
    ("Philips MR Imaging DD 001", 0x2005): (0x0D, 0x0E),
    ("Philips PET Private Group", 0x7053): (0x00, 0x09),
}
"""Private elements without which values lose their meaning: b-values and directions, scales of MR and PET."""

CODES = {
    "denoised": ("113087", "Smoothing"),
    "fused": ("113087", "Smoothing"),
    "deconvolved": ("113086", "Edge enhancement"),
}
"""How an image came about, by context group 7203; for the filling of holes there is no code."""

LOSSY = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.93": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Transfer syntaxes that may lose something, and the method to name."""


@dataclass(frozen=True)
class Derivation:
    """How a series came about, the same for each of its files.

    Attributes
    ----------
    description
        What was done, in a sentence without names of people, files or machines.
    done
        What the description begins with, if that is a participle (``"denoised"``), else ``"processed"``: an image
        that is written without a description may only have been copied.
    digest
        Hash of the values and of the description: the same result gets the same UIDs.
    when
        Time of writing.
    resampled
        Whether the grid is another one than the source's.
    taken
        Numbers of other series beside the target, which the derived one must not have.
    """

    description: str
    done: str
    digest: str
    when: datetime
    resampled: bool
    taken: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls, array: NDArray[np.generic], description: str, *, resampled: bool, taken: frozenset[int] = frozenset()
    ) -> Derivation:
        """Describe how an array came about."""
        text = (description or f"Processed by {PRODUCT} {__version__}").encode("ascii", "replace").decode()
        found = hashlib.sha256(f"{__version__} {text} {array.dtype} {array.shape}".encode())
        for part in array:
            found.update(np.ascontiguousarray(part).data)
        first = description.partition(" ")[0].lower()
        done = first if first.endswith("ed") else "denoised" if description else "processed"
        return cls(text, done, found.hexdigest(), datetime.now().astimezone(), resampled, taken)

    def uid(self, source: str, place: int = 0) -> str:
        """Return a new UID that follows from the source's and the result."""
        return str(generate_uid(entropy_srcs=[source, self.digest, str(place)]))


def derive(dataset: Dataset, derivation: Derivation, place: int, size: int, remarks: Iterable[str]) -> None:
    """Make a source's header that of the derived image, all but its pixels and its grid.

    Parameters
    ----------
    dataset
        Changed in place.
    derivation
        How it came about.
    place
        Of the file in its series: one source may give several.
    size
        Bytes of the source's file.
    remarks
        Sentences to add on this file alone.
    """
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    evidence = _evidence(dataset, source)
    _note_loss(dataset, size)
    _drop(dataset)
    _renew(dataset, derivation, place)
    # Enhanced images have no SECONDARY; PET and NM neither, however they were made (PS3.3 C.8.9.4, C.8.4.9).
    primary = "Enhanced" in dataset.SOPClassUID.name or dataset.get("Modality") in ("PT", "NM")
    _retype(dataset, "ImageType", secondary=not primary)
    if "SharedFunctionalGroupsSequence" in dataset or "PerFrameFunctionalGroupsSequence" in dataset:
        _derive_frames(dataset, derivation, source)
        _append(dataset, "SourceImageEvidenceSequence", evidence)
    else:
        _describe(dataset, derivation, [_referring(source, derivation)])
    _append(dataset, "ContributingEquipmentSequence", _equipment(derivation, remarks))


def _append(dataset: Dataset, name: str, *items: Dataset) -> None:
    setattr(dataset, name, [*(dataset.get(name) or []), *items])


def code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    """Return a code, of DICOM's own scheme unless another is named."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _referring(source: Dataset, derivation: Derivation) -> Dataset:
    item = copy.deepcopy(source)
    item.PurposeOfReferenceCodeSequence = [code("121322", "Source image for image processing operation")]
    item.SpatialLocationsPreserved = "NO" if derivation.resampled else "YES"
    return item


def _evidence(dataset: Dataset, source: Dataset) -> Dataset:
    series, study = Dataset(), Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = dataset.SeriesInstanceUID, [copy.deepcopy(source)]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = dataset.StudyInstanceUID, [series]
    return study


def _describe(dataset: Dataset, derivation: Derivation, sources: list[Dataset]) -> None:
    """Add what was done, and to what, to an image's own attributes."""
    limit = LIMITS["DerivationDescription"]
    ours = derivation.description[:limit]
    before = str(dataset.get("DerivationDescription") or "")[: max(0, limit - len(ours) - 2)]
    dataset.DerivationDescription = f"{before}; {ours}" if before else ours
    codes = _codes(derivation)
    if codes:
        _append(dataset, "DerivationCodeSequence", *codes)
    _append(dataset, "SourceImageSequence", *sources)


def _codes(derivation: Derivation) -> list[Dataset]:
    resampling = [code("113085", "Spatial resampling")] if derivation.resampled else []
    kind = CODES.get(derivation.done)
    return [*([code(*kind)] if kind else []), *resampling]


def _equipment(derivation: Derivation, remarks: Iterable[str]) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code("109102", "Processing Equipment")]
    item.Manufacturer = item.ManufacturerModelName = PRODUCT
    item.SoftwareVersions = __version__
    item.ContributionDateTime = derivation.when.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = " ".join(
        ["Noise removal." if derivation.done == "denoised" else "Image processing.", *remarks]
    )
    return item


def _retype(dataset: Dataset, name: str, *, secondary: bool) -> None:
    """Turn ImageType or FrameType to derived; its third value and those after it stay."""
    values = dataset.get(name) or []
    values = [values] if isinstance(values, str) else list(values)
    second = "SECONDARY" if secondary or len(values) < 2 else values[1]
    setattr(dataset, name, ["DERIVED", second, *values[2:]])


def _renew(dataset: Dataset, derivation: Derivation, place: int) -> None:
    """Give the image and its series an identity and a time of their own."""
    now = derivation.when
    dataset.SOPInstanceUID = derivation.uid(dataset.SOPInstanceUID, place)
    dataset.SeriesInstanceUID = derivation.uid(dataset.SeriesInstanceUID)
    number = int(dataset.get("SeriesNumber") or 0) + SERIES_STEP
    number = number if number < 2**31 - SERIES_STEP else SERIES_STEP
    while number in derivation.taken:
        number += 1
    dataset.SeriesNumber = number
    plain = derivation.done in ("denoised", "processed")
    suffix = " resampled" if derivation.resampled and plain else f" {derivation.done}"
    before = str(dataset.get("SeriesDescription") or "")
    dataset.SeriesDescription = (before[: LIMITS["SeriesDescription"] - len(suffix)] + suffix).strip()
    dataset.InstanceCreationDate = dataset.ContentDate = now.strftime("%Y%m%d")
    dataset.InstanceCreationTime = dataset.ContentTime = now.strftime("%H%M%S.%f")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta


def _note_loss(dataset: Dataset, size: int) -> None:
    """Say that something was lost where the source's compression may have lost it; never take that back."""
    method = LOSSY.get(str(dataset.file_meta.get("TransferSyntaxUID", "")))
    if method is None or dataset.get("LossyImageCompression") == "01":
        return
    dataset.LossyImageCompression, dataset.LossyImageCompressionMethod = "01", method
    values = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames") or 1)
    nbytes = values * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.BitsAllocated) // 8
    dataset.LossyImageCompressionRatio = f"{nbytes / size:.2f}"


def _drop(dataset: Dataset) -> None:
    for name in DROPPED:
        if name in dataset:
            del dataset[name]
    _drop_private(dataset)


def _drop_private(dataset: Dataset) -> None:
    """Remove private elements, which nobody here can judge, but for those that are known and needed."""
    kept = set()
    for (creator, group), elements in KEPT_PRIVATE.items():
        for element in dataset.group_dataset(group):
            reserved = element.tag.element
            if 0x10 <= reserved <= 0xFF and str(element.value).strip() == creator:
                kept |= {element.tag, *(group << 16 | reserved << 8 | number for number in elements)}
    for tag in list(dataset.keys()):
        # Group lengths, too: retired, and wrong as soon as anything changes.
        if (tag.is_private and tag not in kept) or tag.element == 0:
            del dataset[tag]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _drop_private(item)


def _derive_frames(dataset: Dataset, derivation: Derivation, source: Dataset) -> None:
    """Turn an enhanced image's frames to derived, and say where each comes from."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    for groups in (shared, *frames):
        for element in groups:
            for item in element.value if element.VR == "SQ" else ():
                if "FrameType" in item:
                    _retype(item, "FrameType", secondary=False)
    earlier = list(shared.get("DerivationImageSequence") or [])
    if earlier and frames:
        # A functional group is either shared or each frame's own.
        del shared["DerivationImageSequence"]
    for number, groups in enumerate(frames or [shared], 1):
        step = Dataset()
        origin = _referring(source, derivation)
        if int(dataset.get("NumberOfFrames") or 1) > 1:
            origin.ReferencedFrameNumber = number
        step.DerivationDescription = derivation.description[: LIMITS["DerivationDescription"]]
        # A frame's derivation must be coded. DICOM has no code for a mere copy (CID 7203 may be extended).
        codes = _codes(derivation) or [code("COPY", "Copy of the values", OUR_SCHEME)]
        step.DerivationCodeSequence, step.SourceImageSequence = codes, [origin]
        if frames:
            _append(groups, "DerivationImageSequence", *copy.deepcopy(earlier))
        _append(groups, "DerivationImageSequence", step)
