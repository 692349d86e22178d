"""The same perturbation seen several ways: aligning, predicting and fusing modalities."""
