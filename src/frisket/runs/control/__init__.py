"""ControlNets of a run: opened, shown the clips' controls, sampled with, saved."""
