"""Training options that kohya's trainers share: sd-scripts, musubi-tuner and its forks."""
