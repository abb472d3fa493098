"""What every room may use: errors, files, trees of arrays, the machine, progress. It knows nothing of momentum."""
