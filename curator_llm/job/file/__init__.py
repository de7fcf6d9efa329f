"""The job file: YAML to values, with what is set from outside, and each value checked where it stands."""
