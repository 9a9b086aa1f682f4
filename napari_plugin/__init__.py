"""dip_sci in napari: open a scan, paint what matters, restore it, watch, save it in the format it came in."""
