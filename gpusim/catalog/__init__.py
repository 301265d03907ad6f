"""What gpusim knows by name: devices and models, a YAML file each."""
