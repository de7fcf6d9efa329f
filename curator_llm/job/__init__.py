"""Jobs: a YAML file that names data, models and stages, and its run on a cluster."""
