"""Synthetic DICOM series, written by pydicom alone."""

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid


def ct_slice(stored, *, position=(0.0, 0.0, 0.0), orientation=(1, 0, 0, 0, 1, 0), number=1, series=None, **attributes):
    """Return a dataset of one CT slice; `attributes` replace or, with None, remove elements."""
    stored = np.ascontiguousarray(stored)
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.PatientName = "Roe^Jane"
    ds.PatientID = "secret-xyzzy"
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesInstanceUID = series or "1.2.3.4"
    ds.StudyInstanceUID = "1.2.3"
    ds.FrameOfReferenceUID = "1.2.3.9"
    ds.SeriesNumber = 7
    ds.InstanceNumber = number
    ds.ImagePositionPatient = [f"{v:.4f}" for v in position]
    ds.ImageOrientationPatient = [f"{v:.7f}" for v in orientation]
    ds.PixelSpacing = [0.5, 0.75]
    ds.SliceThickness = 2
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = stored.dtype.itemsize * 8
    ds.BitsStored = 12 if stored.dtype == np.uint16 else ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
    ds.PixelData = stored.tobytes()
    for name, value in attributes.items():
        if value is None:
            del ds[name]
        elif name.startswith("PixelPadding"):
            ds.add_new(name, "SS" if stored.dtype.kind == "i" else "US", value)
        else:
            setattr(ds, name, value)
    return ds


def enhanced(stored, order, slopes):
    """An enhanced CT: frames stored in `order` of position, each with its own slope."""
    ds = ct_slice(stored[0], RescaleSlope=None, RescaleIntercept=None, ImagePositionPatient=None)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = EnhancedCTImageStorage
    del ds.ImageOrientationPatient
    spacing = ds.PixelSpacing
    del ds.PixelSpacing
    ds.NumberOfFrames = len(order)
    ds.PixelData = stored[order].tobytes()
    orientation, measures, shared = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = spacing, 9
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place in order:
        position, values, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [1, 2, 3 + 2.5 * int(place)]
        values.RescaleSlope, values.RescaleIntercept = float(slopes[place]), 0
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def save(ds, path):
    ds.save_as(path, enforce_file_format=True)
    return path
