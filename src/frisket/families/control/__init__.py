"""ControlNets beside a family's denoiser: what they read, compute and add."""
