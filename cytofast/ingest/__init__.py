"""Outside formats as profile tables: CellProfiler exports, platemaps, profile files, and a made example."""
