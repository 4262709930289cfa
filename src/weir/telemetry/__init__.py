"""WHO WATCHES: folds over events into traces, metrics and logs."""
