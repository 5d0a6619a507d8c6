"""The edu device: a PCI device to learn drivers with."""
