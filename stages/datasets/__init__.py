"""Data sets, their splits and the prepared array store."""
