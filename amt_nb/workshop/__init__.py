"""What every part of the book stands on: files, sound, scores, data, kernels, the command line."""
