"""`mtlplug doctor`: what this machine, this model and these formats do, checked on the spot."""
