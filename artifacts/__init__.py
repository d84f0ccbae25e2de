"""What every room needs to write an artifact well: errors, files, settings, seeds, progress, provenance."""
