"""The Hydra tree, packaged so that an installed eigenseg finds it."""
